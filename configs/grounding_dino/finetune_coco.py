"""Fine-tuning on COCO's 80 names, all of them in every caption; `train.init_checkpoint=` starts it.

As MM-Grounding-DINO was fine-tuned; `train.frozen=[categories.language_model]` saves BERT's memory.
"""

from .pretrain_swint import dataloader, lr_multiplier, model, optimizer, train, vocabulary

train.output_dir = "output/mm_grounding_dino_swint_coco"
train.max_iter = "12ep"
optimizer.lr = 2e-4
lr_multiplier.epochs = 12
lr_multiplier.milestones = [8, 11]
dataloader.train.dataset.names = "cq_coco_2017_train"
dataloader.train.mapper.prompts.listing = "all"
