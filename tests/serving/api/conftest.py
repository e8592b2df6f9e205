import contextlib
import io

import numpy as np
import pytest
from PIL import Image

from cqdino_d2.prediction.loading import load_predictor
from cqdino_d2.serving.limits import ApiLimits
from cqdino_d2.serving.models import Models
from cqdino_d2.serving.runner import Batching, Runner
from tests.prediction.test_category_predictor import load, save_tiny
from tests.prompted import save_prompted

HERE = "http://127.0.0.1:8000"


@pytest.fixture(scope="session", autouse=True)
def needed():
    for package in ("fastapi", "prometheus_client"):
        pytest.importorskip(package, reason=f"the server needs {package}, which is not installed")


def encoded(height=48, width=64, kind="PNG", seed=0):
    """A random image as a file's content."""
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind)
    return file.getvalue()


@pytest.fixture(scope="session")
def word_files(tmp_path_factory):
    """Config and weights of a tiny detector that reads words."""
    return save_prompted(tmp_path_factory.mktemp("words"))


@pytest.fixture(scope="session")
def category_weights(tmp_path_factory):
    return save_tiny(tmp_path_factory.mktemp("categories"))


@pytest.fixture(scope="session")
def predictors(word_files, category_weights):
    return {
        "words": load_predictor(*word_files, device="cpu"),
        "categories": load(category_weights),
    }


@pytest.fixture(scope="session")
def serve(needed, predictors):
    """Makes a client of a server; its `detector` is an attribute."""
    from starlette.testclient import TestClient

    from cqdino_d2.serving.api.app import make_api
    from cqdino_d2.serving.api.detection import Detector
    from cqdino_d2.serving.api.metrics import Metrics

    @contextlib.contextmanager
    def make(token=None, folder=None, batching=None, **limits):
        limits, metrics = ApiLimits(**limits), Metrics()
        runner = Runner(predictors, batching or Batching(), metrics.count_batch)
        models = Models(predictors, limits=limits, runner=runner)
        detector = Detector(models, limits, folder)
        guards = {"limits": limits, "metrics": metrics, "token": token}
        api = make_api(detector, host="127.0.0.1", **guards)
        with contextlib.closing(runner), TestClient(api, HERE) as client:
            client.detector = detector
            yield client

    return make


@pytest.fixture(scope="session")
def client(serve):
    with serve(upload_bytes=200_000, pixels=10_000) as made:
        yield made
