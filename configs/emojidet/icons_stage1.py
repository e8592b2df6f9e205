"""Stage 1 of `icons.py`: the tagger that the detector starts from."""

from ..models.category_tagger import category_tagger_of, evaluator
from .icons import dataloader, lr_multiplier, optimizer, train, vocabulary
from .icons import model as _detector

model = category_tagger_of(_detector)
dataloader.evaluator = evaluator
train.output_dir = "output/icons_stage1"
optimizer.lr = 5e-4
