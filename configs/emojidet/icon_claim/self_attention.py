"""The full method with self-attention over the categories in place of the tree."""

from ...models.relations import self_attention
from .tree import dataloader, lr_multiplier, model, optimizer, train, vocabulary

train.output_dir = "output/icon_claim/self_attention"
model.categories.relation = self_attention
