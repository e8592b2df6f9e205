"""The light form of Grounding DINO, as 1.5 Edge: EfficientViT-L1, fusion on the coarsest level."""

from .edge_form import use_edge_form
from .mm_grounding_dino import model

use_edge_form(model)
