"""CQ-DINO with the light form's backbone and encoder: its categories meet the coarsest level."""

from .cqdino_swin_b import model
from .edge_form import use_edge_form

use_edge_form(model)
model.selection.map_channels = 512
model.selection.cascade = 256  # V3Det's 13,204 all the way would be 2.6 times all else
