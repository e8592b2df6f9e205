"""All V categories are fused and compared; none is scored against the image, none related."""

from detectron2.config import LazyCall as L

from cqdino_d2.categories import AllCategories

from .selection import dataloader, lr_multiplier, model, optimizer, train, vocabulary

train.output_dir = "output/icon_claim/no_selection"
model.selection = L(AllCategories)(dim="${model.categories.dim}", output_dim="${model.neck.dim}")
model.criterion.category_loss = None
