"""MM-Grounding-DINO's pre-training, Swin-T: boxes and sentences of several sets in one run.

Further sets are registered in a copy of this file (docs/text_training.md).
"""

from ..data.prompted_training import dataloader, vocabulary
from .mm_swint import lr_multiplier, model, optimizer, train

train.output_dir = "output/mm_grounding_dino_swint_pretraining"
dataloader.train.dataset.names = ["v3det_train", "cq_coco_2017_train"]
dataloader.test.dataset.names = "cq_coco_2017_val"
