"""CQ-DINO with image-guided selection and self-attention over the categories."""

from ...models.relations import self_attention
from .tree import dataloader, lr_multiplier, model, optimizer, train, vocabulary

train.output_dir = "output/claim/self_attention"
model.categories.relation = self_attention
