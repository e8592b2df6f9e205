"""`federated.py` with the semantic branch: its teacher has seen images of emoji alone."""

from detectron2.config import LazyCall as L

from cqdino_d2.backbone import trained_picture_tower
from cqdino_d2.layers import factory

from ...models.richsem import use_semantic_branch
from .federated import dataloader, lr_multiplier, model, optimizer, train, vocabulary

train.output_dir = "output/long_tail/semantic"
use_semantic_branch(model, table="${train.category_embeddings}")
model.criterion.losses.semantic.text_dim = "${model.categories.dim}"
model.teacher.tower = L(factory)(
    module=trained_picture_tower, path="datasets/long_tail/teacher.pth"
)
