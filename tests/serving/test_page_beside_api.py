"""The page and the HTTP API in one server: one set of models, one door."""

import base64
import contextlib
import json

import pytest

pytest.importorskip("gradio", reason="the web page needs gradio, which is not installed")
pytest.importorskip("prometheus_client", reason="the server needs it, and it is not installed")
pytest.importorskip("httpx", reason="starlette's test client needs httpx")

from starlette.testclient import TestClient

from cqdino_d2.serving import served as serving
from cqdino_d2.serving.limits import ApiLimits, PageLimits
from cqdino_d2.serving.models import Models
from cqdino_d2.serving.runner import Runner
from tests.prediction.test_category_predictor import load
from tests.serving.api.conftest import encoded

HERE = "http://127.0.0.1:8000"
IMAGE = encoded()
CALLS = "/page/gradio_api"


@pytest.fixture
def serve(weights, tmp_path, monkeypatch):
    monkeypatch.setattr(serving, "load_predictors", lambda *_: {"tiny": load(weights)})

    @contextlib.contextmanager
    def make(token=None, **limits):
        served = serving.load_api(
            [],
            host="127.0.0.1",
            limits=ApiLimits(**limits),
            token=token,
            page_folder=tmp_path / "uploads",
        )
        with contextlib.closing(served.runner), TestClient(served.app, HERE) as client:
            yield client

    return make


def call(client, inputs, *data):
    """Calls the page's function with this number of inputs; its answer."""
    config = client.get("/page/config").json()
    place = next(d["id"] for d in config["dependencies"] if len(d["inputs"]) == inputs)
    asked = {"data": data, "fn_index": place, "session_hash": "abc"}
    joined = client.post(f"{CALLS}/queue/join", json=asked)
    assert joined.status_code == 200, joined.text
    return client.get(f"{CALLS}/queue/data?session_hash=abc").text.replace(" ", "")


def upload(client, content=IMAGE):
    files = {"files": ("a.png", content, "image/png")}
    return client.post(f"{CALLS}/upload", files=files)


def look(client, path):
    file = {"path": path, "meta": {"_type": "gradio.FileData"}, "orig_name": "a.png"}
    return call(client, 5, file, "tiny", 8, "", True)


def detect(client):
    body = {"image": base64.b64encode(IMAGE).decode()}
    return client.post("/v1/detect", json=body)


def test_both_are_answered_by_one_runner(serve, monkeypatch):
    made = []
    monkeypatch.setattr(serving, "Runner", lambda *given: made.append(Runner(*given)) or made[-1])
    with serve() as client:
        page = client.get("/")
        assert page.url.path == "/page/" and "gradio" in page.text
        assert "default-src 'self'" in page.headers["Content-Security-Policy"]
        path = upload(client).json()[0]
        assert '"success":true' in look(client, path)
        assert detect(client).status_code == 200
        text = client.get("/metrics").text
    assert 'cqdino_batch_size_count{model="tiny"} 2.0' in text
    assert 'cqdino_requests_total{method="POST",route="/page",status="200"} 2.0' in text
    assert len(made) == 1


def test_the_apis_addresses_stay_as_they_are(serve):
    with serve() as client:
        assert client.get("/v1/models").json()["models"][0]["name"] == "tiny"
        answer = client.get("/v1/detect")
        assert answer.status_code == 405 and answer.headers["allow"] == "POST"
        assert client.get("/no/such").json() == {"detail": "Not Found: see /docs."}
        assert client.get("/pages").status_code == 404
        assert "POST /v1/detect" in client.get("/docs").text
        assert "/page" not in client.get("/openapi.json").json()["paths"]


def test_the_pages_gate_is_behind_the_door(serve):
    with serve(upload_bytes=5000) as client:
        assert upload(client, bytes(100_000)).status_code == 413
        for path in ("deep_link", "file=http://127.0.0.1:9/a.png"):
            assert client.get(f"{CALLS}/{path}").status_code == 404, path
        assert client.post(f"{CALLS}/run/look", json={}).status_code == 404
        big = {"session_hash": "s", "data": ["x" * 70_000]}
        assert client.post(f"{CALLS}/queue/join", json=big).status_code == 413
        for headers in ({"Origin": "http://evil.example"}, {"Host": "evil.example"}):
            assert client.get("/page/", headers=headers).status_code in (400, 403)
        assert client.get(f"{CALLS}/file=/etc/passwd").status_code == 403


def test_requests_to_both_count_together(serve):
    with serve(requests_per_minute=4) as client:
        answers = [client.get(path).status_code for path in ("/v1/models", "/page/") * 3]
    assert answers == [200] * 4 + [429] * 2


def test_the_token_is_the_pages_password(serve):
    with serve(token="secret-token") as client:
        for path in ("/", "/page", "/page/", "/page/config", f"{CALLS}/info"):
            answer = client.get(path, follow_redirects=False)
            assert answer.status_code == 401, path
            assert answer.headers["www-authenticate"] == 'Basic realm="CQ-DINO"'
        assert client.get("/page/", auth=("anybody", "secret-token")).status_code == 200
        wrong = ["Basic", "Basic %", "Basic " + base64.b64encode(b"\xff:\xff").decode()]
        wrong += ["Basic " + base64.b64encode(b"secret-token").decode(), "Bearer secret-token"]
        for header in wrong:
            assert client.get("/page/", headers={"Authorization": header}).status_code == 401
        # a browser sends a password by itself, also for other pages: programs bring a header
        assert client.get("/v1/models", auth=("anybody", "secret-token")).status_code == 401


def test_images_of_both_share_the_memory(serve, monkeypatch):
    made = []
    monkeypatch.setattr(serving, "Models", lambda *a, **b: made.append(Models(*a, **b)) or made[-1])
    with serve(pixels=48 * 64, pixels_at_once=48 * 64) as client:
        path = upload(client).json()[0]
        assert '"success":true' in look(client, path)
        with made[0].pixels.share(1):  # of an image that is looked at meanwhile
            assert "toomuchtodo" in look(client, path)
            assert detect(client).status_code == 503
        assert '"success":true' in look(client, path) and detect(client).status_code == 200
        assert made[0].pixels.taken == 0


def test_limits_of_a_page_beside_an_api():
    api = ApiLimits(upload_bytes=200 * 2**20, kept_bytes=2**30, bytes_at_once=2**30, pixels=10**6)
    page = PageLimits.beside(api)
    assert (page.upload_bytes, page.pixels) == (200 * 2**20, 10**6)
    assert page.disk_bytes == 800 * 2**20 and json.dumps(vars(page))
