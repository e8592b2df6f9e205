"""Mutated requests, seeded: none ends in a fault of the server, and its memory does not grow.

CQDINO_MUTATED_REQUESTS=10000 sends that number instead of a few hundred.
"""

import asyncio
import base64
import copy
import gc
import json
import os

import numpy as np
import psutil

from tests.serving.api.conftest import encoded

COUNT = int(os.environ.get("CQDINO_MUTATED_REQUESTS", "300"))
MOST_GROWTH = 48 * 2**20  # bytes over all of them
IMAGE = encoded(24, 32)
BASE64 = base64.b64encode(IMAGE).decode()
DETECT = {"image": BASE64, "prompt": "a cat. dog.", "threshold": 0.1, "nms": 0.5, "most": 5}
NAMES = {"image": BASE64, "names": ["cat", ["dog", "bus"]], "negatives": ["red"], "answer": "png"}
SELECT = {"image": BASE64, "model": "categories", "only": ["category 3"], "num_selected": 2}
LATER = {
    "image": BASE64, "prompt": {"type": "text", "text": "cat.dog"}, "targets": ["bbox"],
    "bbox_threshold": 0.2, "iou_threshold": 0.8, "model": "words",
}  # fmt: skip
EARLIER = {
    "image": BASE64, "targets": ["bbox"], "model": "words",
    "prompts": [{"text": "cat", "is_positive": True, "type": "text"}],
}  # fmt: skip
FORM = (
    b'--b\r\nContent-Disposition: form-data; name="prompt"\r\n\r\ncat.\r\n'
    b'--b\r\nContent-Disposition: form-data; name="image"; filename="a.png"\r\n\r\n'
    + IMAGE
    + b"\r\n--b--\r\n"
)
JSON, MULTIPART = b"application/json", b"multipart/form-data; boundary=b"
KINDS = [b"", b"text/plain", JSON, MULTIPART, b"multipart/form-data", b";"]
SEEDS = [
    *(("POST", "/v1/detect", JSON, one) for one in (DETECT, NAMES, SELECT)),
    ("POST", "/v1/detect", MULTIPART, FORM),
    ("POST", "/v2/task/words/detection", JSON, LATER),
    ("POST", "/tasks/detection", JSON, EARLIER),
    ("POST", "/upload_signature", JSON, {"file_name": "a.png"}),
    ("PUT", "/uploads/abc", b"image/png", IMAGE),
    ("GET", "/v2/task_status/abc", b"", b""),
    ("GET", "/v1/models", b"", b""),
]
VALUES = [
    None, True, 0, -1, 1, 2**31, 2**63, -(2**70), 1e308, float("nan"), float("inf"), "", " ", ".",
    "cat", "\ud800", "\0", "a" * 5000, "../../etc/passwd", "/etc/passwd", "file:///etc/passwd",
    "http://127.0.0.1:1/", "data:image/png;base64,", "%s%n", "[SEP]", "🐈 cat", "cat|dog",
    [], [[]], [None], ["cat"] * 3, [["cat", "dog"], "cat"], {}, {"a": {}}, BASE64[:60], "A" * 4001,
]  # fmt: skip


def mutated(rng):
    """Method, path, type of content and body of a request."""
    method, path, kind, body = SEEDS[rng.integers(len(SEEDS))]
    if isinstance(body, dict):
        body = mutated_fields(rng, body)
    if rng.random() < 0.4:
        body = mutated_bytes(rng, body)
    if rng.random() < 0.1:
        method = rng.choice(["GET", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH", "X"])
    if rng.random() < 0.1:
        kind = bytes(
            rng.choice([b"", b"text/plain", JSON, MULTIPART, b"multipart/form-data", b";"])
        )
    if rng.random() < 0.1:
        path += rng.choice(["/", "//", "/..", "\0", "?a=b", "\u00e9", "%00", "x" * 300])
    return method, path, kind, body


def mutated_fields(rng, body):
    body = json.loads(json.dumps(body))
    for _ in range(rng.integers(3)):
        key = rng.choice([*body, "path", "only", "branches", "extra"])
        value = copy.deepcopy(VALUES[rng.integers(len(VALUES))])
        if rng.random() < 0.15:
            body.pop(key, None)
        elif isinstance(body.get(key), dict) and rng.random() < 0.5:
            body[key][rng.choice(["type", "text", "x"])] = value
        else:
            body[key] = value
    return json.dumps(body).encode()


def mutated_bytes(rng, body):
    body = bytearray(body)
    for _ in range(rng.integers(1, 6)):
        place = int(rng.integers(len(body) + 1))
        how = rng.integers(4)
        if how == 0:
            del body[place:]
        elif how == 1:
            body[place:place] = rng.bytes(int(rng.integers(1, 20)))
        elif how == 2:
            del body[place : place + int(rng.integers(1, 50))]
        elif place < len(body):
            body[place] = int(rng.integers(256))
    return bytes(body)


async def send(app, method, path, kind, body):
    """Status and body of the answer, below HTTP."""
    messages = [{"type": "http.request", "body": body, "more_body": False}]
    answer = {"status": None, "body": b""}

    async def receive():
        if not messages:
            await asyncio.sleep(60)
        return messages.pop()

    async def take(message):
        answer["status"] = message.get("status", answer["status"])
        answer["body"] += message.get("body", b"")

    scope = {
        "type": "http", "method": str(method), "path": path, "raw_path": path.encode(),
        "query_string": b"", "headers": [(b"host", b"127.0.0.1"), (b"content-type", kind)],
        "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 8000), "scheme": "http",
        "http_version": "1.1", "root_path": "",
    }  # fmt: skip
    await app(scope, receive, take)
    return answer["status"], answer["body"]


def resident():
    gc.collect()
    return psutil.Process().memory_info().rss


def test_mutated_requests(serve):
    rng = np.random.default_rng(0)
    statuses, before = {}, 0
    limits = {"requests_per_minute": 10**9, "kept_tasks": 20, "upload_bytes": 100_000}
    with serve(pixels=10_000, **limits) as client:

        async def run():
            nonlocal before
            for number in range(COUNT):
                request = mutated(rng)
                status, body = await send(client.app, *request)
                assert status is not None and status < 500, (request, body)
                if status >= 400 and request[0] != "HEAD" and body[:1] == b"{":
                    said = json.loads(body)["detail"]
                    assert said.endswith((".", "?", "!")) and len(said) <= 300, said
                    assert "Traceback" not in said, said
                statuses[status] = statuses.get(status, 0) + 1
                if number == COUNT // 3:
                    before = resident()
            good = await send(client.app, "POST", "/v1/detect", JSON, json.dumps(DETECT).encode())
            assert good[0] == 200

        asyncio.run(run())
        growth = resident() - before
        print(f"{COUNT} requests: {statuses}, memory grew by {growth / 2**20:.1f} MiB")
        assert growth < MOST_GROWTH
        assert client.detector.models.pixels.taken == 0
    assert {200, 400, 404, 405, 415, 422} <= statuses.keys(), statuses
