"""RichSem on LVIS v1 as `richsem_r50.py`, all trained, for MIIL's ResNet-50 of ImageNet-21K-P.

`model.backbone.pretrained=FILE` takes its weights.
"""

from .richsem_r50 import dataloader, lr_multiplier, model, optimizer, train, vocabulary

train.output_dir = "output/lvis_richsem_r50_21k"
train.frozen = []
