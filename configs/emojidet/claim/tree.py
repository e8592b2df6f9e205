"""CQ-DINO with image-guided selection and the category tree, nearly as the quickstart trains it.

The backbone and the batch are those of the runs that docs/claim.md reports.
"""

from detectron2.config import LazyCall as L

from cqdino_d2.criterion import GradientBalance

from ..quickstart import dataloader, lr_multiplier, model, optimizer, train, vocabulary

train.output_dir = "output/claim/tree"
train.max_iter = 1000
dataloader.train.total_batch_size = 16
optimizer.lr = 1.5e-3
model.backbone.channels = [48, 96, 192, 192]
model.backbone.strides = [2, 2, 2, 1]
model.criterion.observers = [L(GradientBalance)(period=20)]
