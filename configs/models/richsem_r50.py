"""RichSem with a ResNet-50: three maps of strides 8 to 32, four levels."""

from .cqdino_swin_b import model
from .richsem import use_federated_loss, use_semantic_branch, use_text_table

model.backbone.update(
    name="resnet50.tv_in1k",
    out_indices=[2, 3, 4],
    output_norm=False,
    pretrained=False,
    frozen_norms=True,
    model_args=dict(),
)
model.neck.in_channels = [512, 1024, 2048]
use_text_table(model)
use_federated_loss(model)
use_semantic_branch(model, table="${train.category_embeddings}")
