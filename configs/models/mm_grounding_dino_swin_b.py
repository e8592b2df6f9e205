"""MM-Grounding-DINO with a Swin-B backbone (384 px, windows of 12)."""

from .mm_grounding_dino import model

model.backbone.name = "swin_base_patch4_window12_384.ms_in22k"
model.backbone.model_args.drop_path_rate = 0.3
model.neck.in_channels = [256, 512, 1024]
