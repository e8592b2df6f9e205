"""EmojiDet, stage 1 of the quickstart's detector."""

from ..models.category_tagger import category_tagger_of, evaluator
from .quickstart import dataloader, lr_multiplier, optimizer, train, vocabulary
from .quickstart import model as _detector

model = category_tagger_of(_detector)
dataloader.evaluator = evaluator
train.output_dir = "output/emojidet_stage1"
train.max_iter = 1200
optimizer.lr = 5e-4  # at the detector's 1.5e-3 it stays at chance: nothing but tags to learn from
