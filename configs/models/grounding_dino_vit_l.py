"""MM-Grounding-DINO with a plain ViT-L (ImageNet-22k), whose one map becomes four levels."""

from detectron2.config import LazyCall as L

from cqdino_d2.backbone import SimpleFeaturePyramid

from .mm_grounding_dino import model

model.backbone.update(
    name="vit_large_patch16_224.augreg_in21k",
    out_indices=[23],
    model_args=dict(dynamic_img_size=True, drop_path_rate=0.4),
)
model.neck = L(SimpleFeaturePyramid)(in_channels=1024, dim=256, num_levels=4)
