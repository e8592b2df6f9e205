"""Learning-rate schedules over the whole training.

``warmup_iter`` is a length as in `train.py`; milestones are given in the unit of ``epochs``, the
length of the whole training, so that a shorter training has them at the same shares of it.
"""

from detectron2.config import LazyCall as L

from cqdino_d2.engine import cosine_schedule, multi_step_schedule

lr_multiplier_24ep = L(multi_step_schedule)(
    max_iter="${train.max_iter}",
    epochs=24,
    milestones=[12, 18],
    gamma=0.1,
    warmup_iter=1000,
    warmup_factor=0.1,
)
lr_multiplier_cosine = L(cosine_schedule)(
    max_iter="${train.max_iter}",
    final_factor=0.0,
    warmup_iter=1000,
    warmup_factor=0.1,
)
