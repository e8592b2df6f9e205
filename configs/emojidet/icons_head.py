"""`icons.py` with a classification head: what the category queries are compared with."""

from ..models.classification_head import use_classification_head
from .icons import dataloader, lr_multiplier, model, optimizer, train, vocabulary

use_classification_head(model)
train.output_dir = "output/icons_head"
