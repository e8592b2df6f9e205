"""ODinW13: 13 small datasets, each asked for its own categories."""

from cqdino_d2.annotations.odinw import ODINW13

from .prompted import dataloader, vocabulary

dataloader.test.dataset.names = [f"odinw13_{name}" for name in sorted(ODINW13)]
