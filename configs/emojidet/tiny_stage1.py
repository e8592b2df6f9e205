"""For tests: stage 1 of the tiny detector."""

from ..models.category_tagger import category_tagger_of, evaluator
from .tiny_tree import dataloader, lr_multiplier, optimizer, train, vocabulary
from .tiny_tree import model as _detector

model = category_tagger_of(_detector)
dataloader.evaluator = evaluator
train.output_dir = "output/emojidet_tiny_stage1"
