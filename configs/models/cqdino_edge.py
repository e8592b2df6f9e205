"""CQ-DINO with the light form's backbone and encoder: its categories meet one level of the image."""

from .cqdino_swin_b import model
from .edge_form import use_edge_form

use_edge_form(model)
model.selection.map_channels = 512
