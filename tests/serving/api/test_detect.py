"""What is asked in a request, and what is answered."""

import base64
import io
import tempfile

import numpy as np
import pytest
import torch
from PIL import Image

from cqdino_d2.files import read_image
from cqdino_d2.visualization.result_view import ResultView
from tests.serving.api.conftest import encoded

IMAGE = encoded()
BASE64 = base64.b64encode(IMAGE).decode()


def detect(client, **fields):
    return client.post("/v1/detect", json={"image": BASE64, **fields})


def expected(client, name, threshold=0.0, **question):
    """What the model finds for the same image, asked in Python."""
    image = read_image(io.BytesIO(IMAGE), "BGR")
    found = client.detector.models.predictors[name]
    found = (found.ask(**question) if question else found)(image)["instances"]
    return found[found.scores >= threshold]


def assert_same(objects, found):
    assert [one["name"] for one in objects] == list(found.phrases) != []
    boxes = torch.tensor([one["box"] for one in objects]).reshape(-1, 4)
    torch.testing.assert_close(boxes, found.pred_boxes.tensor, rtol=1e-4, atol=0.02)
    scores = torch.tensor([one["score"] for one in objects])
    torch.testing.assert_close(scores, found.scores, rtol=1e-3, atol=1e-4)


def test_words_in_base64(client):
    answer = detect(client, prompt="a red cat. two dog.", threshold=0.0)
    assert answer.status_code == 200, answer.text
    told = answer.json()
    assert (told["model"], told["width"], told["height"]) == ("words", 64, 48)
    assert_same(told["objects"], expected(client, "words", wanted="a red cat. two dog."))
    assert {one["id"] for one in told["objects"]} <= {1, 2} and told["selected"] == []
    assert detect(client, prompt="a red cat. two dog.", threshold=1.0).json()["objects"] == []


def test_names_with_synonyms_negatives_and_fewer_boxes(client):
    names = ["cat", ["dog", "two dog"]]
    told = detect(client, names=names, negatives=["red"], threshold=0.0).json()
    asked = expected(client, "words", wanted=names, negatives=["red"])
    assert_same(told["objects"], asked)
    few = detect(client, names=names, negatives=["red"], threshold=0.0, most=2).json()["objects"]
    assert few == told["objects"][:2]
    nms = detect(client, names=names, negatives=["red"], threshold=0.0, nms=0.01).json()["objects"]
    assert 0 < len(nms) < len(told["objects"])


def test_a_form_says_the_same_as_json(client):
    fields = {"names": ["cat", "dog|two dog"], "negatives": ["red"], "threshold": "0", "nms": "0.5"}
    form = client.post("/v1/detect", data=fields, files={"image": ("a.png", IMAGE)}).json()
    json = {"names": ["cat", ["dog", "two dog"]], "negatives": ["red"], "threshold": 0, "nms": 0.5}
    assert form["objects"] == detect(client, **json).json()["objects"] != []


def test_categories_all_some_and_branches(client):
    told = detect(client, model="categories", threshold=0.0).json()
    assert_same(told["objects"], expected(client, "categories"))
    scores = [one["score"] for one in told["selected"]]
    assert len(scores) == client.detector.models.predictors["categories"].num_selected
    assert scores == sorted(scores, reverse=True)
    only = detect(client, model="categories", only=["category 3"], threshold=0.0).json()
    assert {one["name"] for one in only["objects"]} == {"category 3"}
    branch = detect(client, model="categories", branches=["category 2"], num_selected=3).json()
    assert len(branch["selected"]) == 3
    asked = detect(client, model="categories", prompt="category 3. category 4").json()
    assert {one["name"] for one in asked["selected"]} == {"category 3", "category 4"}


@pytest.mark.parametrize("kind", ["png", "jpeg"])
def test_a_drawn_image(client, kind):
    answer = detect(client, prompt="cat. dog.", threshold=0.0, answer=kind)
    assert answer.headers["content-type"] == f"image/{kind}"
    drawn = Image.open(io.BytesIO(answer.content))
    assert drawn.format == kind.upper() and drawn.size == (64, 48)
    bare = detect(client, prompt="cat. dog.", threshold=1.0, answer=kind).content
    difference = np.abs(np.asarray(drawn, int) - np.asarray(Image.open(io.BytesIO(bare)), int))
    assert difference.max() > 50
    if kind == "png":
        assert np.array_equal(
            np.asarray(Image.open(io.BytesIO(bare))), read_image(io.BytesIO(IMAGE), "RGB")
        )


def test_a_path_below_the_folder(serve, tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in/a.png").write_bytes(IMAGE)
    (tmp_path / "secret.png").write_bytes(IMAGE)
    with serve(folder=tmp_path / "in") as client:
        ask = {"prompt": "cat."}
        assert client.post("/v1/detect", json=ask | {"path": "a.png"}).status_code == 200
        wrong = ["../secret.png", str(tmp_path / "secret.png"), "b.png", "", ".", "a\0", "x" * 4000]
        for path in wrong:
            answer = client.post("/v1/detect", json=ask | {"path": path})
            assert answer.status_code == 404, path
            assert answer.json() == {"detail": "There is no such image in the server's folder."}
    with serve() as client:
        assert client.post("/v1/detect", json=ask | {"path": "a.png"}).status_code == 403


@pytest.mark.parametrize(
    ("fields", "status", "message"),
    [
        ({}, 422, "give it a caption or names"),
        ({"prompt": "."}, 422, "needs words"),
        ({"prompt": "cat.", "names": ["cat"]}, 422, "not both"),
        ({"names": []}, 422, "names"),
        ({"names": [[]]}, 422, "names"),
        ({"names": [""]}, 422, "names"),
        ({"names": ["cat", "cat"]}, 422, "the same to the model"),
        ({"names": ["cat"] * 2001}, 422, "names"),
        ({"names": ["cat"] * 501}, 422, "names: 501 are too many, at most 500"),
        ({"names": [["cat"] * 20] * 25, "negatives": ["dog"]}, 422, "names: 501 are too many"),
        ({"prompt": "x" * 5001}, 422, "5,001 are too many, at most 5,000"),
        ({"names": ["x" * 200] * 26}, 422, "5,200 are too many"),
        ({"model": "categories", "num_selected": 301}, 422, "num_selected: 301 are too many"),
        ({"prompt": "cat.", "threshold": 1.5}, 422, "threshold"),
        ({"prompt": "cat.", "threshold": "much"}, 422, "threshold"),
        ({"prompt": "cat.", "nms": -1}, 422, "nms"),
        ({"prompt": "cat.", "most": 0}, 422, "most"),
        ({"prompt": "cat.", "answer": "gif"}, 422, "answer"),
        ({"prompt": "cat.", "unknown": 1}, 422, "unknown"),
        ({"prompt": "cat.", "model": "other"}, 404, "no such model"),
        ({"prompt": "cat.", "image": "%%%"}, 422, "base64"),
        ({"prompt": "cat.", "image": "data:image/png,abc"}, 422, "base64"),
        ({"prompt": "cat.", "image": ""}, 422, "cannot be read as an image"),
        ({"prompt": "cat.", "image": BASE64[:200]}, 422, "cannot be read as an image"),
        ({"prompt": "cat.", "image": None}, 422, "Give one image"),
        ({"prompt": "cat.", "path": "a.png"}, 422, "Give one image"),
        ({"model": "categories", "only": ["no such"]}, 422, "no such"),
        ({"model": "categories", "prompt": "no such"}, 422, "not in the vocabulary"),
        ({"model": "words", "prompt": "cat.", "num_selected": 3}, 422, "selects no categories"),
    ],
)
def test_wrong_requests(client, fields, status, message):
    answer = detect(client, **fields)
    assert answer.status_code == status, answer.text
    (said,) = answer.json().values()
    assert message in said and said.endswith((".", "?", "!")) and "\n" not in said


@pytest.mark.parametrize(
    ("body", "kind", "status"),
    [
        (b"", "application/json", 400),
        (b"{", "application/json", 400),
        (b"[" * 100_000, "application/json", 400),
        (b"[]", "application/json", 422),
        (b"\xff\xfe", "application/json", 400),
        (b'{"prompt": "\\ud800"}', "application/json", 400),
        (b'{"threshold": NaN, "prompt": "a"}', "application/json", 422),
        (b"{}", "text/plain", 415),
        (b"a=b", "application/x-www-form-urlencoded", 415),
        (b"--x\r\n", "multipart/form-data", 400),
        (b"--x\r\nno head", "multipart/form-data; boundary=x", 400),
        (b"", "multipart/form-data; boundary=x", 400),
        (b"--x--\r\n", "multipart/form-data; boundary=x", 422),
    ],
)
def test_wrong_bodies(client, body, kind, status):
    answer = client.post("/v1/detect", content=body, headers={"Content-Type": kind})
    assert answer.status_code == status, answer.text
    assert answer.json()["detail"].endswith(".")


def test_a_form_that_is_cut_off_is_no_form(client):
    head = 'Content-Disposition: form-data; name="image"; filename="a.png"\r\n\r\n'
    words = '--x\r\nContent-Disposition: form-data; name="prompt"\r\n\r\ncat.\r\n'
    whole = f"{words}--x\r\n{head}".encode() + IMAGE + b"\r\n--x--\r\n"
    kind = {"Content-Type": "multipart/form-data; boundary=x"}
    assert client.post("/v1/detect", content=whole, headers=kind).status_code == 200
    for end in (10, len(words), len(words) + 80, -500, -9, -4):
        answer = client.post("/v1/detect", content=whole[:end], headers=kind)
        assert answer.status_code == 400 and "cut off" in answer.json()["detail"], end


def test_pixels_are_kept_until_the_answer_is_made(serve, monkeypatch):
    original, taken = ResultView.draw, []

    def draw(*arguments, **options):
        taken.append(client.detector.models.pixels.taken)
        return original(*arguments, **options)

    monkeypatch.setattr(ResultView, "draw", draw)
    with serve() as client:
        assert detect(client, prompt="cat.", answer="png").status_code == 200
        assert taken == [48 * 64] and client.detector.models.pixels.taken == 0


def test_a_form_is_not_written_to_the_disk(serve, monkeypatch):
    def roll(*_):
        raise OSError("the disk is full")

    monkeypatch.setattr(tempfile.SpooledTemporaryFile, "rollover", roll)
    large = encoded(800, 800)
    assert len(large) > 2**20
    with serve() as client:
        files = {"image": ("a.png", large)}
        answer = client.post("/v1/detect", data={"prompt": "cat."}, files=files)
    assert answer.status_code == 200 and answer.json()["width"] == 800


def test_wrong_forms(client):
    image = ("a.png", IMAGE)
    two = [("image", image), ("image", image)]
    assert client.post("/v1/detect", data={"prompt": "cat."}, files=two).status_code == 400
    other = {"photo": image}
    assert client.post("/v1/detect", data={"prompt": "cat."}, files=other).status_code == 422
    twice = {"prompt": ["cat.", "dog."]}
    answer = client.post("/v1/detect", data=twice, files={"image": image})
    assert answer.status_code == 422 and "'prompt' is given twice" in answer.json()["detail"]


def test_a_bomb_of_pixels_is_refused_before_it_is_decoded(client, monkeypatch):
    bomb = io.BytesIO()
    Image.new("1", (5000, 5000)).save(bomb, "PNG")
    files, decoded = (bomb.getvalue(), encoded(101, 100)), []
    monkeypatch.setattr(Image.Image, "load", lambda *_: decoded.append(1))
    for file in files:
        answer = client.post("/v1/detect", data={"prompt": "cat."}, files={"image": ("a", file)})
        assert answer.status_code == 422 and not decoded
    assert "at most 0.01 million" in answer.json()["detail"]


def test_an_image_that_no_jpeg_holds(serve):
    body = {"image": base64.b64encode(encoded(1, 65_501)).decode(), "prompt": "cat."}
    with serve() as client:
        answer = detect(client, **body, answer="jpeg")
        assert answer.status_code == 422 and "ask for png" in answer.json()["detail"]
        assert client.detector.models.pixels.taken == 0


def test_what_is_too_large(client):
    large = base64.b64encode(bytes(200_001)).decode()
    assert detect(client, image=large, prompt="cat.").status_code == 413
    answer = client.post("/v1/detect", content=bytes(10**6))
    assert answer.status_code == 413 and answer.headers["connection"] == "close"


def test_models_and_status(client):
    words, categories = client.get("/v1/models").json()["models"]
    assert words == {
        "name": "words", "reads_words": True, "num_categories": None, "num_selected": None,
    }  # fmt: skip
    assert categories["num_categories"] == 40 and categories["num_selected"] > 0
    assert client.get("/healthz").json() == {"status": "ok"}
    for path in ("/", "/v1", "/v1/detect/", "/etc/passwd"):
        answer = client.get(path, follow_redirects=False)
        assert answer.status_code == 404 and answer.json() == {"detail": "Not Found: see /docs."}
    answer = client.get("/v1/detect")
    assert answer.status_code == 405 and answer.headers["allow"] == "POST"


def test_what_is_described_loads_nothing(client):
    page = client.get("/docs")
    assert page.status_code == 200 and "POST /v1/detect" in page.text
    assert "<script" not in page.text and "http" not in page.text
    assert "default-src 'none'" in page.headers["content-security-policy"]
    schema = client.get("/openapi.json").json()
    body = schema["paths"]["/v1/detect"]["post"]["requestBody"]["content"]
    assert set(body) == {"application/json", "multipart/form-data"}
    assert "negatives" in body["application/json"]["schema"]["properties"]


def test_what_is_counted(serve):
    with serve() as client:
        detect(client, prompt="cat.")
        detect(client, prompt=".")
        client.get("/no/such")
        lines = client.get("/metrics").text.splitlines()
    counted = 'cqdino_requests_total{method="POST",route="/v1/detect",status="%d"} 1.0'
    assert counted % 200 in lines and counted % 422 in lines
    assert 'cqdino_requests_total{method="GET",route="other",status="404"} 1.0' in lines
    assert 'cqdino_batch_size_count{model="words"} 1.0' in lines
    assert "cqdino_queue_length 0.0" in lines
