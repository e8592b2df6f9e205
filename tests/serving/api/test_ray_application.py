"""The API as an application of Ray Serve."""

import os
import socket
import sys

import httpx
import pytest

from cqdino_d2.serving.ray_application import build
from cqdino_d2.serving.runner import Batching
from cqdino_d2.serving.server_settings import TOKEN_VARIABLE, named_model

from .conftest import encoded


@pytest.fixture
def model(word_files):
    config, weights = word_files
    return f"words={config},{weights}"


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def test_a_replica_has_an_api_of_its_own(model, needed):
    from starlette.testclient import TestClient

    from cqdino_d2.serving.served import load_api

    models, options = [named_model(model)], {"batching": Batching(most=2), "token": "secret"}
    served = load_api(models, host="0.0.0.0", device="cpu", **options)
    client = TestClient(served.app, base_url="http://anywhere.example:8000")
    upload = {"image": encoded()}
    wanted = {"prompt": "a cat.", "threshold": "0"}
    assert client.post("/v1/detect", files=upload, data=wanted).status_code == 401
    headers = {"Authorization": "Bearer secret"}
    answer = client.post("/v1/detect", files=upload, data=wanted, headers=headers)
    assert answer.status_code == 200 and answer.json()["objects"]
    served.runner.close()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "expected model=NAME=CONFIG,WEIGHTS .* got nothing"),
        ({"model": "a=b,c", "replica": "2"}, "got replica"),
        ({"model": "a=b"}, "expected NAME=CONFIG,WEIGHTS, got 'a=b'"),
        ({"model": "a=b,c", "replicas": "two"}, "two"),
    ],
)
def test_wrong_arguments(arguments, message):
    pytest.importorskip("ray.serve", reason="ray[serve] is not installed")
    with pytest.raises(ValueError, match=message):
        build(arguments)


def test_ray_is_asked_for_where_it_is_missing(model, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray.serve", None)
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install ray\[serve\]"):
        build({"model": model})


@pytest.mark.slow
def test_two_replicas_answer(model, monkeypatch):
    serve = pytest.importorskip("ray.serve", reason="ray[serve] is not installed")
    import ray

    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, sys.path)))
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    monkeypatch.setenv("RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S", "120")  # 5 on a busy machine fail
    monkeypatch.delenv(TOKEN_VARIABLE, raising=False)
    port = free_port()
    ray.init(include_dashboard=False, log_to_driver=False)
    try:
        serve.start(http_options={"host": "127.0.0.1", "port": port})
        serve.run(build({"model": model, "replicas": "2", "cpus": "0.5"}))
        here = f"http://127.0.0.1:{port}"
        for seed in range(4):
            image = encoded(seed=seed)
            wanted = {"prompt": "a red cat. two dog.", "threshold": "0"}
            answer = httpx.post(
                f"{here}/v1/detect", files={"image": image}, data=wanted, timeout=120
            )
            assert answer.status_code == 200, answer.text
            names = {found["name"] for found in answer.json()["objects"]}
            assert names and names <= {"a red cat", "two dog"}
        assert httpx.get(f"{here}/healthz", timeout=60).status_code == 200
        assert httpx.post(f"{here}/v1/detect", data={}, timeout=60).status_code == 415
    finally:
        serve.shutdown()
        ray.shutdown()
