"""As Grounding DINO 1.5 Pro: ViT-L, fusion in every layer, more negatives; see docs/edge.md."""

from ..models.grounding_dino_vit_l import model
from .pretrain_swint import dataloader, lr_multiplier, optimizer, train, vocabulary

train.output_dir = "output/grounding_dino_pro_vitl"
train.activation_checkpointing = ["backbone.body.model.blocks.*"]
dataloader.train.mapper.prompts.update(num_negatives=200, full_share=0.8, phrase_negatives=20)
