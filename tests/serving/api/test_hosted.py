"""Both protocols of the hosted API, as their clients speak them."""

import asyncio
import base64
import time
from concurrent.futures import Future

import pytest

from cqdino_d2.prediction.loading import Question
from cqdino_d2.serving.api.kept import Kept
from cqdino_d2.serving.limits import ApiLimits, Budget
from tests.serving.api.conftest import HERE, encoded

IMAGE = encoded()
BASE64 = f"data:image/png;base64,{base64.b64encode(IMAGE).decode()}"
SLOW = 30  # seconds that a test waits before it fails


def begin(client, key=None, name="words", **changes):
    body = {
        "model": "GroundingDINO-1.5-Pro",
        "image": BASE64,
        "prompt": {"type": "text", "text": "cat.dog"},
        "targets": ["bbox"],
        "bbox_threshold": 0.0,
    }
    headers = {"Idempotency-Key": key} if key else {}
    return client.post(f"/v2/task/{name}/detection", json=body | changes, headers=headers)


def result_of(client, answer, path="/v2/task_status"):
    assert answer.status_code == 200 and answer.json()["code"] == 0, answer.text
    identity = answer.json()["data"]["task_uuid"]
    end = time.monotonic() + SLOW
    while time.monotonic() < end:
        told = client.get(f"{path}/{identity}").json()
        assert told["code"] == 0
        if told["data"]["status"] not in ("waiting", "running"):
            return told["data"]
        time.sleep(0.01)
    raise TimeoutError(told)


def test_the_later_protocol(client):
    told = result_of(client, begin(client, iou_threshold=None))
    assert told["status"] == "success" and told["error"] is None
    objects = told["result"]["objects"]
    body = {"image": BASE64, "prompt": "cat.dog", "threshold": 0.0}
    own = client.post("/v1/detect", json=body).json()["objects"]
    assert [one["category"] for one in objects] == [one["name"] for one in own] != []
    assert [one["bbox"] for one in objects] == [one["box"] for one in own]
    fewer = result_of(client, begin(client, iou_threshold=0.01))["result"]["objects"]
    assert 0 < len(fewer) < len(objects)
    by_default = begin(client, bbox_threshold=1.0)
    assert result_of(client, by_default)["result"]["objects"] == []


def test_the_model_is_named_in_the_body_or_the_address(client):
    for change in ({"model": "categories"}, {"name": "categories"}):
        answer = begin(client, prompt={"type": "universal"}, **change)
        assert result_of(client, answer)["status"] == "success"
    answer = begin(client, prompt={"type": "universal"})
    assert answer.status_code == 422 and "give it a caption" in answer.json()["msg"]


def test_the_same_key_is_the_same_task(client):
    first, again = begin(client, "one"), begin(client, "one")
    assert first.json() == again.json() != begin(client, "two").json()
    assert begin(client, "k" * 201).status_code == 400


def test_a_key_belongs_to_one_task(client):
    assert begin(client, "mine").status_code == 200
    other = begin(client, "mine", prompt={"type": "text", "text": "dog"})
    assert other.status_code == 422 and "another task" in other.json()["msg"]
    refused = begin(client, "failed", image="not base64")
    assert refused.status_code == 422
    assert begin(client, "failed").status_code == 200  # nothing was begun with it


def test_clients_choose_keys_of_their_own(client):
    from starlette.testclient import TestClient

    other = TestClient(client.app, HERE, client=("10.0.0.9", 1))
    first = begin(client, "1")
    theirs = begin(other, "1", prompt={"type": "text", "text": "dog"})
    assert theirs.status_code == 200 and theirs.json() != first.json() == begin(client, "1").json()


def test_requests_with_one_key_at_once_are_one_task():
    from cqdino_d2.serving.api.detection import Pending
    from cqdino_d2.serving.api.hosted import HostedTasks, LaterTask

    starts = []

    class Detector:
        async def start(self, encoded, name, question):
            starts.append(name)
            await asyncio.sleep(0.01)
            return Pending(name, None, Future(), Budget(10).share(10))

    async def three():
        tasks = HostedTasks(Detector(), ApiLimits())
        task = LaterTask(image=BASE64, prompt={"text": "cat"})
        begun = (tasks.begin(task, Question("cat"), "words", key="key") for _ in range(3))
        return await asyncio.gather(*begun)

    assert len(set(asyncio.run(three()))) == len(starts) == 1


def test_all_categories_and_negatives_in_both_protocols(client):
    def earlier(*prompts, model="categories"):
        place = client.post("/upload_signature", json={}).json()["data"]["upload_url"]
        client.put(place, content=IMAGE)
        body = {"image": place, "prompts": prompts, "model": model}
        return client.post("/tasks/detection", json=body)

    every = {"type": "universal"}
    assert result_of(client, earlier(every), "/task_statuses")["status"] == "success"
    answer = earlier(every, model="words")
    assert answer.status_code == 422 and "give it a caption" in answer.json()["msg"]
    for prompts in ([every, {"text": "cat"}], [every | {"is_positive": False}]):
        answer = earlier(*prompts)
        assert answer.status_code == 422 and "stands alone" in answer.json()["msg"]
    answer = begin(client, prompt={"text": "cat", "is_positive": False})
    assert answer.status_code == 422 and "must be positive" in answer.json()["msg"]


def test_the_earlier_protocol(client):
    signed = client.post("/upload_signature", json={"file_name": "a.png"}).json()
    assert signed["code"] == 0
    assert client.put(signed["data"]["upload_url"], content=IMAGE).status_code == 200
    body = {
        "image": signed["data"]["download_url"],
        "prompts": [
            {"text": "cat", "is_positive": True, "type": "text"},
            {"text": "two dog", "is_positive": True, "type": "text"},
            {"text": "two. red", "is_positive": False, "type": "text"},
        ],
        "targets": ["bbox"],
        "model": "GroundingDino-1.5-Edge",
    }
    answer = client.post("/tasks/detection", json=body)
    objects = result_of(client, answer, "/task_statuses")["result"]["objects"]
    wanted = {"prompt": "cat. two dog", "negatives": ["two", "red"], "threshold": 0.25}
    own = client.post("/v1/detect", json=wanted | {"image": BASE64}).json()["objects"]
    assert [one["bbox"] for one in objects] == [one["box"] for one in own] != []
    assert {one["category"] for one in objects} <= {"cat", "two dog"}


@pytest.mark.parametrize(
    ("changes", "status", "message"),
    [
        ({"image": "https://example.org/a.png"}, 422, "fetches no addresses"),
        ({"image": "http://127.0.0.1:8000/uploads/none"}, 422, "fetches no addresses"),
        ({"image": "http://[broken"}, 422, "fetches no addresses"),
        ({"image": "not base64"}, 422, "not in base64"),
        ({"targets": ["bbox", "mask"]}, 422, "boxes alone"),
        ({"targets": []}, 422, "boxes alone"),
        ({"prompt": {"type": "visual"}}, 422, "prompt.type"),
        ({"prompt": {"text": "."}}, 422, "needs words"),
        ({"bbox_threshold": 2}, 422, "bbox_threshold"),
    ],
)
def test_wrong_tasks(client, changes, status, message):
    answer = begin(client, **changes)
    told = answer.json()
    assert (answer.status_code, told["code"]) == (status, status)
    assert message in told["msg"] == told["detail"]


def test_unknown_tasks_and_places(client):
    for path in ("/v2/task_status/none", "/task_statuses/none"):
        assert client.get(path).json()["code"] == 404
    assert client.put("/uploads/none", content=IMAGE).status_code == 404
    place = client.post("/upload_signature", json={}).json()["data"]["upload_url"]
    assert client.put(place, content=bytes(200_001)).status_code == 413
    assert client.get(place).status_code == 405  # nothing is given out


def test_a_model_that_fails(client, monkeypatch):
    from cqdino_d2.prediction.question_batches import QuestionBatches

    def fail(*_):
        raise RuntimeError("a secret of the machine")

    monkeypatch.setattr(QuestionBatches, "__call__", fail)
    told = result_of(client, begin(client))
    assert (told["status"], told["error"]) == ("failed", "The model failed on this image.")


def test_what_is_kept_has_limits():
    now = [0.0]
    kept = Kept(most=3, seconds=10, most_bytes=100, clock=lambda: now[0])
    for key in "abcd":
        kept.put(key, key, 10)
    assert [kept.get(key) for key in "abcd"] == [None, "b", "c", "d"]
    kept.put("b", "new", 60)
    assert kept.num_bytes == 80 and kept.get("b") == "new"
    kept.put("e", "e", 40)
    assert [kept.get(key) for key in "cdbe"] == [None, None, "new", "e"]
    assert kept.num_bytes == 100 and len(kept) == 2
    now[0] = 10.0
    assert kept.get("b") is None and len(kept) == kept.num_bytes == 0
    kept.put("f", "f", 101)
    assert kept.get("f") is None and kept.num_bytes == 0
