"""The light form of a detector (Grounding DINO 1.5 Edge, arXiv 2405.10300); see docs/edge.md."""

from detectron2.config import LazyCall as L
from omegaconf import DictConfig

from cqdino_d2.backbone import TimmBackbone
from cqdino_d2.layers import factory
from cqdino_d2.transformer import AttentionEncoderLayer, CrossScaleFusion


def use_edge_form(model: DictConfig) -> None:
    """Gives the config of a `CQDINO` or `GroundingDINO` a light backbone and encoder, in place.

    The slots meet the coarsest of three levels alone, whose tokens see each other by plain
    attention; convolutions bring in the finer two.
    """
    model.backbone = L(TimmBackbone)(
        name="efficientvit_l1.r224_in1k",
        out_indices=[1, 2, 3],
        pretrained=False,
        fixed_statistics=True,
        model_args={},
    )
    model.neck.update(in_channels=[128, 256, 512], num_levels=3)
    model.encoder.first_level = 2
    model.encoder.image_layer = L(factory)(
        module=AttentionEncoderLayer, dim="${model.neck.dim}", num_heads=8, hidden_dim=2048
    )
    model.encoder.merge = L(CrossScaleFusion)(
        dim="${model.neck.dim}",
        num_levels="${model.neck.num_levels}",
        hidden_dim=128,
        num_convolutions=3,
    )
    model.query_selection.num_queries = 300
