"""AdamW with a slow backbone and category part (rate x 0.01, decay x 10, as released)."""

from detectron2.config import LazyCall as L
from torch.optim import AdamW

from cqdino_d2.engine import get_parameter_groups

optimizer = L(AdamW)(
    params=L(get_parameter_groups)(
        base_lr="${..lr}",
        weight_decay="${..weight_decay}",
        multipliers=dict(
            backbone=dict(lr=0.01, weight_decay=10.0),
            categories=dict(lr=0.01, weight_decay=10.0),
            selection=dict(lr=0.01, weight_decay=10.0),
            **{"selection.output_projection": dict(lr=1.0, weight_decay=1.0)},  # of the detector
        ),
        # spared weight decay: norms, biases, relative_positions, absolute_positions; the paper
        # spares none
        no_decay=[],
    ),
    lr=4e-4,
    betas=(0.9, 0.999),
    weight_decay=1e-4,
)
