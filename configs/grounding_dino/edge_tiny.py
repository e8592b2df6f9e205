"""For tests: the tiny light model on EmojiDet, asked by names, a few steps."""

from ..models.grounding_dino_edge_tiny import model
from .tiny import dataloader, lr_multiplier, optimizer, train, vocabulary

train.output_dir = "output/grounding_dino_edge_tiny"
