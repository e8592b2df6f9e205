"""The baseline: DINO with a V-way sigmoid focal head, otherwise as the quickstart's detector."""

from ...models.classification_head import use_classification_head
from .tree import dataloader, lr_multiplier, model, optimizer, train, vocabulary

use_classification_head(model)
train.output_dir = "output/claim/baseline"
