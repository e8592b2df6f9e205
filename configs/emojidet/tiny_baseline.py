"""For tests: the tiny model with a classification head in place of category queries."""

from ..models.classification_head import use_classification_head
from .tiny_tree import dataloader, lr_multiplier, model, optimizer, train, vocabulary

use_classification_head(model)
train.output_dir = "output/emojidet_tiny_baseline"
