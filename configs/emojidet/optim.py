"""Learning from scratch in minutes: one high rate for all parts, cosine schedule."""

from ..common.optim import optimizer
from ..common.schedule import lr_multiplier_cosine as lr_multiplier

optimizer.params.multipliers = dict()
optimizer.lr = 1.5e-3
optimizer.betas = (0.9, 0.99)
optimizer.weight_decay = 1e-2
optimizer.fused = True
lr_multiplier.warmup_iter = 50
lr_multiplier.warmup_factor = 0.02
