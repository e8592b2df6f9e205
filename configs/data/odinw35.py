"""ODinW35: 35 small datasets, each asked for its own categories."""

from cqdino_d2.annotations.odinw import ODINW35

from .prompted import dataloader, vocabulary

dataloader.test.dataset.names = [f"odinw35_{name}" for name in sorted(ODINW35)]
