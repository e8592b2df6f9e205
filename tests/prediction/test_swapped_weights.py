"""However weights are replaced after a prediction, the next one uses the new ones."""

import numpy as np
import pytest
import torch
from detectron2.engine import DefaultPredictor

from cqdino_d2.prediction import get_predictor_cfg
from tests.prediction.test_category_predictor import CONFIG, save_tiny

IMAGE = np.random.default_rng(0).integers(0, 256, (64, 80, 3), dtype=np.uint8)


def through_numpy(old, new):
    old.detach().numpy()[...] = new.numpy()


def by_swap_tensors(old, new):
    torch.utils.swap_tensors(old, torch.nn.Parameter(new.clone()))


def through_data(old, new):
    old.data = new.clone()


def at_once(old, new):
    with torch.no_grad():
        torch._foreach_copy_([old], [new])


def in_inference_mode(old, new):
    with torch.inference_mode():
        old.copy_(new)


def in_the_memory(old, new):
    if old.is_contiguous():
        old.untyped_storage().copy_(new.contiguous().untyped_storage())
    else:
        old.data.lerp_(new, 1.0)


WAYS = [through_numpy, by_swap_tensors, through_data, at_once, in_inference_mode, in_the_memory]


@pytest.fixture(scope="module")
def predictors(tmp_path_factory):
    def make(seed):
        weights = save_tiny(tmp_path_factory.mktemp("trained"), seed=seed)
        cfg = get_predictor_cfg(CONFIG.format("tree"), weights=weights, device="cpu")
        return lambda: DefaultPredictor(cfg)

    return make(0), make(3)


@pytest.mark.parametrize("replace", WAYS)
def test_no_old_query_is_used(predictors, replace):
    predictor, other = (make() for make in predictors)
    before, wanted = predictor(IMAGE)["instances"].scores, other(IMAGE)["instances"].scores
    new = other.model.state_dict()
    for name, parameter in list(predictor.model.named_parameters()):
        replace(parameter, new[name])
    assert not torch.equal(before, wanted)
    assert torch.equal(predictor(IMAGE)["instances"].scores, wanted)


def test_a_model_in_training_mode_is_named(predictors):
    predictor = predictors[0]()
    predictor.model.train()
    with pytest.raises(ValueError, match=r"in training mode.*model\.eval\(\)"):
        predictor(IMAGE)
