"""Fine-tuning on few images of a set, by its whole list of names; docs/text_training.md.

Rate and steps are those of small sets elsewhere; BERT stays as it is, the backbone learns slowly.
"""

from ..common.schedule import lr_multiplier_cosine as lr_multiplier
from .finetune_coco import dataloader, model, optimizer, train, vocabulary

train.output_dir = "output/mm_grounding_dino_swint_few_shot"
train.max_iter, train.eval_period = 500, 0
train.base_batch_size = None  # the rate is for few images
train.frozen = ["categories.language_model"]
dataloader.train.dataset.names = "odinw13_Aquarium_train_1shot_seed3"
dataloader.test.dataset.names = "odinw13_Aquarium"
dataloader.train.total_batch_size = 4
optimizer.lr = 1e-4
lr_multiplier.warmup_iter = 50
