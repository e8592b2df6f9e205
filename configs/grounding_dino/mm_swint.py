"""MM-Grounding-DINO or LLMDet with Swin-T, evaluated on COCO with its names in one caption."""

from ..common.train import train
from ..data.coco_prompted import dataloader, vocabulary
from ..models.mm_grounding_dino import model
from .optim import lr_multiplier, optimizer

train.output_dir = "output/mm_grounding_dino_swint"
train.max_iter = "30ep"
train.base_batch_size = 128
