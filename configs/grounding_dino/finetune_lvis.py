"""Fine-tuning on LVIS with drawn names, rare categories more often; `train.init_checkpoint=`."""

from .finetune_coco import dataloader, lr_multiplier, model, optimizer, train, vocabulary

train.output_dir = "output/mm_grounding_dino_swint_lvis"
lr_multiplier.milestones = [11]
dataloader.train.dataset.names = "cq_lvis_v1_train"
dataloader.train.sampler = "repeat_factor"
dataloader.train.mapper.prompts.update(listing="drawn", verified_only=True, drop_brackets=True)
dataloader.test.dataset.names = "cq_lvis_v1_minival_inserted_image_name"
dataloader.evaluator.protocols = ["lvis-fixed"]
