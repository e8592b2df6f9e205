"""NaN in pixels or weights ends a prediction with words, also in Detectron2's own predictor."""

import numpy as np
import pytest
import torch
from detectron2.engine import DefaultPredictor

from cqdino_d2.prediction import get_predictor_cfg
from tests.detector.test_category_tagger import tiny_tagger
from tests.prediction.test_category_predictor import CONFIG, save_tiny
from tests.tiny import make_input, tiny_model

SAID = "output for image {} of the batch is NaN or infinite: so are pixels of it, or weights"


@pytest.fixture(scope="module")
def cfg(tmp_path_factory):
    weights = save_tiny(tmp_path_factory.mktemp("trained"))
    return get_predictor_cfg(CONFIG.format("tree"), weights=weights, device="cpu")


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_pixels_in_detectron2s_own_predictor(cfg, value):
    image = np.random.default_rng(0).integers(0, 256, (64, 80, 3)).astype(np.float32)
    image[3, 4] = value
    with pytest.raises(ValueError, match=SAID.format(0)):
        DefaultPredictor(cfg)(image)


@pytest.mark.parametrize("part", ["backbone.", "categories.", "decoder.", "selection."])
def test_weights(part):
    model = tiny_model().eval()
    name = next(name for name, _ in model.named_parameters() if name.startswith(part))
    with torch.no_grad():
        model.get_parameter(name).fill_(np.nan)
        with pytest.raises(ValueError, match=SAID.format(0)):
            model([make_input()])


@pytest.mark.parametrize("make", [tiny_model, tiny_tagger])
def test_the_image_is_named(make):
    model, bad = make().eval(), make_input(size=(48, 80), seed=1)
    bad["image"] = bad["image"].float()
    bad["image"][0, 5, 6] = np.nan
    with torch.no_grad(), pytest.raises(ValueError, match=SAID.format(1)):
        model([make_input(), bad])
