"""`box.py` with the federated loss."""

from ...models.richsem import use_federated_loss
from .box import dataloader, lr_multiplier, model, optimizer, train, vocabulary

train.output_dir = "output/long_tail/federated"
use_federated_loss(model)
model.criterion.losses.focal.num_sampled = 40
