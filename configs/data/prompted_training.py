"""Training with prompts: any sets that are registered, of categories or of texts, side by side.

The recipe's model has to read words (`..models.grounding_dino`): its tokenizer counts the tokens.
"""

from detectron2.config import LazyCall as L
from omegaconf import MISSING

from cqdino_d2.data import TrainingPrompts, get_prompted_training_records

from .detection import dataloader as detection
from .prompted import dataloader, vocabulary

dataloader.train = detection.train
dataloader.train.dataset = L(get_prompted_training_records)(names=MISSING, filter_empty=False)
dataloader.train.shares = None  # e.g. {v3det_train: 2, sentences: 1}; None: every record once
dataloader.train.mapper.prompts = L(TrainingPrompts)(
    sets="${dataloader.train.dataset.names}",
    tokenizer="${model.categories.tokenizer}",
    listing="drawn",  # drawn | all: the set's whole list of names for every image
    num_negatives=85,
    full_share=0.5,
    verified_only=False,
    split_alternatives=True,
    drop_brackets=False,
    phrase_negatives=0,
)
