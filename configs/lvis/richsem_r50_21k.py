"""RichSem on LVIS v1 as `richsem_r50.py`, from MIIL's ResNet-50 of ImageNet-21K-P, all trained."""

from .richsem_r50 import dataloader, lr_multiplier, model, optimizer, train, vocabulary

train.output_dir = "output/lvis_richsem_r50_21k"
train.frozen = []
model.backbone.pretrained = "datasets/resnet50_miil_21k.pth"
