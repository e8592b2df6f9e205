"""MM-Grounding-DINO with a Swin-L backbone: four maps of strides 4 to 32, five levels."""

from .mm_grounding_dino import model

model.backbone.name = "swin_large_patch4_window12_384.ms_in22k"
model.backbone.out_indices = [0, 1, 2, 3]
model.neck.in_channels = [192, 384, 768, 1536]
model.neck.num_levels = 5
