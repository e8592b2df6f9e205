"""Who is let in, how much, how often and how slowly."""

import asyncio
import base64
import json
import logging
import threading
import time

import pytest

from cqdino_d2.serving.api.journal import JsonLines
from cqdino_d2.serving.limits import ApiLimits, Budget
from cqdino_d2.serving.runner import Batching
from tests.serving.api.conftest import HERE, encoded

IMAGE = base64.b64encode(encoded()).decode()
SLOW = 30  # seconds that a test waits before it fails


def detect(client, **headers):
    return client.post("/v1/detect", json={"image": IMAGE, "prompt": "cat."}, headers=headers)


@pytest.fixture
def held(monkeypatch):
    """Models wait until the event is set."""
    from cqdino_d2.prediction.question_batches import QuestionBatches

    may_run, original = threading.Event(), QuestionBatches.__call__

    def run(self, *arguments):
        assert may_run.wait(SLOW)
        return original(self, *arguments)

    monkeypatch.setattr(QuestionBatches, "__call__", run)
    yield may_run
    may_run.set()


def test_the_token(serve):
    with serve(token="secret-token") as client:
        for headers in (
            {},
            {"Authorization": "Bearer other"},
            {"Authorization": "secret-token"},
            {"Authorization": "Basic secret-token"},
            {"Token": "other"},
            {"Authorization": "Bearer \xe9".encode("latin-1")},
        ):
            answer = detect(client, **headers)
            assert answer.status_code == 401 and answer.headers["www-authenticate"] == "Bearer"
            assert "secret" not in answer.text
        assert detect(client, Authorization="Bearer secret-token").status_code == 200
        assert detect(client, Authorization="bearer secret-token").status_code == 200
        assert detect(client, Token="secret-token").status_code == 200
        for path in ("/v1/models", "/metrics", "/v2/task_status/a", "/no/such"):
            assert client.get(path).status_code == 401, path
        for path in ("/healthz", "/docs", "/openapi.json"):
            assert client.get(path).status_code == 200, path


def test_other_origins_and_other_names_of_the_machine(client):
    assert detect(client, Origin="http://evil.example").status_code == 403
    assert detect(client, Origin=HERE).status_code == 200
    assert detect(client, Host="evil.example").status_code == 400
    assert client.get("/v1/models?" + "x" * 5000).status_code == 414


def test_a_foreign_host_is_counted_like_any_request(serve):
    with serve(requests_per_minute=5) as client:
        foreign = [client.get("/v1/models", headers={"Host": "evil.example"}) for _ in range(2)]
        assert [answer.status_code for answer in foreign] == [400] * 2
        assert (
            foreign[0].json()["detail"] == "This server is known as 127.0.0.1 or localhost alone."
        )
        for host in ("localhost", "127.0.0.1:80", "[::1]:8000"):
            assert client.get("/metrics", headers={"Host": host}).status_code == 200
        assert client.get("/v1/models").status_code == 429
        text = client.detector.models.runner._observe.__self__.text().decode()
    assert 'cqdino_requests_total{method="GET",route="other",status="400"} 2.0' in text


def test_requests_of_a_minute_are_counted(serve):
    with serve(requests_per_minute=3) as client:
        answers = [client.get("/v1/models") for _ in range(5)]
        assert [answer.status_code for answer in answers] == [200] * 3 + [429] * 2
        assert answers[-1].headers["retry-after"] == "60"
        assert client.get("/healthz").status_code == 200


def test_a_full_queue(serve, held):
    with serve(batching=Batching(most=1, queue=1)) as client:
        threads = [threading.Thread(target=detect, args=(client,)) for _ in range(2)]
        threads[0].start()
        wait_for(lambda: client.detector.models.pixels.taken == 48 * 64)
        wait_for(lambda: len(client.detector.models.runner) == 0)
        threads[1].start()
        wait_for(lambda: len(client.detector.models.runner) == 1)
        answer = detect(client)
        assert answer.status_code == 503 and int(answer.headers["retry-after"]) > 0
        held.set()
        for thread in threads:
            thread.join(SLOW)
        assert detect(client).status_code == 200 and client.detector.models.pixels.taken == 0


def wait_for(condition):
    end = time.monotonic() + SLOW
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)


def test_an_answer_that_takes_too_long(serve, held):
    with serve(answer_seconds=0.2) as client:
        answer = detect(client)
        assert answer.status_code == 503 and "took too long" in answer.json()["detail"]
        held.set()
        wait_for(lambda: client.detector.models.pixels.taken == 0)


def test_images_at_once_share_the_memory(serve, held):
    with serve(pixels=4000, pixels_at_once=5000) as client:
        thread = threading.Thread(target=detect, args=(client,))
        thread.start()
        wait_for(lambda: client.detector.models.pixels.taken == 48 * 64)
        assert detect(client).status_code == 503
        held.set()
        thread.join(SLOW)
        assert detect(client).status_code == 200


def test_a_model_that_fails(serve, monkeypatch):
    from cqdino_d2.prediction.question_batches import QuestionBatches

    def fail(*_):
        raise RuntimeError("a secret of the machine")

    monkeypatch.setattr(QuestionBatches, "__call__", fail)
    with serve() as client:
        answer = detect(client)
        assert answer.status_code == 500
        assert answer.json() == {"detail": "The model failed on this image."}


def test_a_fault_of_the_server_says_nothing(serve, monkeypatch, caplog):
    from cqdino_d2.serving.api.detection import Detector

    def fail(*_):
        raise RuntimeError("a secret of the machine")

    monkeypatch.setattr(Detector, "model_name", fail)
    with serve() as client:
        answer = detect(client)
    assert (answer.status_code, answer.json()) == (500, {"detail": "Internal server error."})
    assert "a secret of the machine" in caplog.text  # where its operator reads it


class Raw:
    """A request below HTTP, whose body comes as it likes."""

    def __init__(self, app, *messages, headers=()):
        self.app, self.messages, self.sent = app, list(messages), []
        self.scope = {
            "type": "http",
            "method": "POST",
            "path": "/v1/detect",
            "raw_path": b"/v1/detect",
            "query_string": b"",
            "headers": [(b"host", b"127.0.0.1"), (b"content-type", b"application/json"), *headers],
            "client": ("127.0.0.1", 1),
            "server": ("127.0.0.1", 8000),
            "scheme": "http",
            "http_version": "1.1",
            "root_path": "",
        }

    async def receive(self):
        if not self.messages:
            await asyncio.sleep(SLOW)
        return self.messages.pop(0)

    async def send(self, message):
        self.sent.append(message)

    async def run(self):
        await self.app(self.scope, self.receive, self.send)
        return self.sent[0]["status"] if self.sent else None


def part(body, more=True):
    return {"type": "http.request", "body": body, "more_body": more}


WHOLE = json.dumps({"image": IMAGE, "prompt": "cat."}).encode()
GONE = {"type": "http.disconnect"}


def test_a_slow_upload_ends(serve):
    with serve(upload_seconds=0.2) as client:
        assert asyncio.run(Raw(client.app, part(WHOLE[:50])).run()) == 408
        whole = [part(WHOLE[i : i + 40]) for i in range(0, len(WHOLE), 40)]
        assert asyncio.run(Raw(client.app, *whole, part(b"", more=False)).run()) == 200


@pytest.mark.parametrize("path", ["/healthz", "/docs", "/openapi.json", "/uploads/none"])
def test_without_a_token_no_body_is_read(serve, path):
    status = 404 if path.startswith("/uploads") else 413
    with serve(token="secret-token") as client:
        for headers in ((), [(b"content-length", b"8")]):
            raw = Raw(client.app, part(bytes(8)), part(bytes(8)), headers=headers)
            raw.scope |= {"path": path, "raw_path": path.encode(), "method": "PUT"}
            assert asyncio.run(raw.run()) == status
            assert len(raw.messages) >= (2 if headers or status == 404 else 1)
        assert client.get("/healthz").status_code == 200
        text = client.get("/metrics", headers={"Token": "secret-token"}).text
        assert "cqdino_request_bytes_total 0.0" in text


def test_bodies_at_once_share_the_memory(serve):
    few = {"upload_bytes": 1000, "bytes_at_once": 300_000, "kept_bytes": 1000}
    with serve(upload_seconds=0.5, **few) as client:

        async def both():
            requests = (Raw(client.app, part(bytes(200_000))).run() for _ in range(2))
            return await asyncio.gather(*requests)

        assert sorted(asyncio.run(asyncio.wait_for(both(), SLOW))) == [408, 503]


def test_a_client_that_hangs_up(serve, held):
    with serve(batching=Batching(most=1)) as client:
        assert asyncio.run(Raw(client.app, part(WHOLE[:50]), GONE).run()) is None
        thread = threading.Thread(target=detect, args=(client,))
        thread.start()
        runner = client.detector.models.runner
        wait_for(lambda: client.detector.models.pixels.taken and not len(runner))
        gone = Raw(client.app, part(WHOLE, more=False), GONE)
        assert asyncio.run(gone.run()) is None  # it waited, and is not run
        assert client.detector.models.pixels.taken == 48 * 64
        held.set()
        thread.join(SLOW)
        text = client.get("/metrics").text
        assert 'cqdino_batch_size_count{model="words"} 1.0' in text


def test_a_total():
    budget = Budget(10)
    assert budget.take(6) and not budget.take(5) and budget.take(4)
    budget.give(6)
    assert budget.taken == 4 and budget.take(6)


def test_a_share_is_given_back_by_the_last_who_keeps_it():
    budget = Budget(10)
    share = budget.share(7)
    assert budget.share(4) is None
    share.keep()
    with share:
        assert budget.taken == 7
    assert budget.taken == 7
    share.let_go()
    assert budget.taken == 0


@pytest.mark.parametrize(
    "wrong",
    [
        {"pixels": 0},
        {"answer_seconds": float("nan")},
        {"bytes_at_once": 10**6},
        {"kept_bytes": 10**6},
        {"pixels_at_once": 10**6},
    ],
)
def test_limits_that_let_nothing_in(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        ApiLimits(**wrong)


def test_the_log_is_a_line_of_json_per_request(client, caplog):
    with caplog.at_level(logging.INFO, logger="cqdino_d2.requests"):
        assert detect(client).status_code == 200
        client.get("/etc/passwd?a=b")
        client.get("/healthz")
    lines = [JsonLines().format(record) for record in caplog.records]
    first, second = (json.loads(line) for line in lines)
    assert first["route"] == "/v1/detect" and first["model"] == "words" and first["batch"] == 1
    assert first["status"] == 200 and first["bytes"] > len(IMAGE) and first["seconds"] >= 0
    assert second["route"] == "other" and second["status"] == 404
    assert "passwd" not in lines[1] and "cat" not in lines[0] and IMAGE[:20] not in lines[0]


def test_a_log_line_cannot_be_forged():
    record = logging.LogRecord("a", logging.WARNING, "", 0, "one\n{}\x1b[31m", None, None)
    line = JsonLines().format(record)
    assert "\n" not in line and json.loads(line)["message"] == "one {}\ufffd[31m"
