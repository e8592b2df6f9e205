"""`icons.py` without a selection: all V categories are fused and compared, and none is scored."""

from detectron2.config import LazyCall as L

from cqdino_d2.categories import AllCategories

from .icons import dataloader, lr_multiplier, model, optimizer, train, vocabulary

train.output_dir = "output/icons_all"
model.selection = L(AllCategories)(dim="${model.categories.dim}", output_dim="${model.neck.dim}")
model.criterion.category_loss = None
