import numpy as np
import pytest

from cqdino_d2.visualization.media import write_image
from tests.prediction.test_category_predictor import save_tiny
from tests.serving.web_server import CONFIG, serving


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    return save_tiny(tmp_path_factory.mktemp("trained"))


@pytest.fixture
def picture(tmp_path):
    image = np.random.default_rng(0).integers(0, 256, (64, 80, 3), dtype=np.uint8)
    write_image(tmp_path / "picture.png", image)
    return tmp_path / "picture.png"


@pytest.fixture(scope="module")
def server(weights, tmp_path_factory):
    other = save_tiny(tmp_path_factory.mktemp("other"), "sa")
    configs = ["--config-file", CONFIG, CONFIG.replace("tree", "sa"), "--max-upload", "200kb"]
    with serving(tmp_path_factory.mktemp("uploads"), (weights, other), *configs) as address:
        yield address
