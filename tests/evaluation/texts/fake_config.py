from detectron2.config import LazyCall as L
from omegaconf import MISSING

from tests.evaluation.texts.fake_predictor import FakePredictor

from ....configs.common.optim import optimizer  # noqa: F401
from ....configs.common.schedule import lr_multiplier_24ep as lr_multiplier  # noqa: F401
from ....configs.common.train import train  # noqa: F401
from ....configs.data.prompted import dataloader, vocabulary  # noqa: F401

model = L(FakePredictor)(answers=MISSING)
dataloader.test.num_workers = 0
