"""For tests: the tiny model with self-attention over the categories."""

from ..models.relations import self_attention
from .tiny_tree import dataloader, lr_multiplier, model, optimizer, train, vocabulary

train.output_dir = "output/emojidet_tiny_sa"
model.categories.relation = self_attention
