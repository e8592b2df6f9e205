"""As MM-Grounding-DINO was pre-trained: backbone and language model at a tenth of the rate."""

from ..common.optim import optimizer
from ..common.schedule import lr_multiplier_24ep as lr_multiplier

optimizer.params.multipliers = {
    "backbone": dict(lr=0.1),
    "categories.language_model": dict(lr=0.1),
}
optimizer.lr = 4e-4  # for 128 images per iteration
lr_multiplier.epochs = 30
lr_multiplier.milestones = [19, 26]
