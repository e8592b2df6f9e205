"""What the gate lets in, before a small application in place of the page."""

import asyncio
import json
import shutil

import pytest

from cqdino_d2.serving.limits import PageLimits
from cqdino_d2.serving.upload_folder import UploadFolder

pytest.importorskip("starlette", reason="the server needs starlette, which gradio brings")
pytest.importorskip("httpx", reason="starlette's test client needs httpx")

from starlette.testclient import TestClient
from starlette.websockets import WebSocketDisconnect

from cqdino_d2.serving.gate import Gate

HERE = "http://testserver"
JSON = {"Content-Type": "application/json"}
LIMITS = {"upload_bytes": 1000, "disk_bytes": 10**6}


class Echo:
    """Answers 200 with the body it got; counts the requests that it was given."""

    def __init__(self):
        self.requests = 0

    async def __call__(self, scope, receive, send):
        self.requests += 1
        body, more = b"", True
        while more:
            message = await receive()
            body += message.get("body", b"")
            more = message.get("more_body", False)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": body})


@pytest.fixture
def serve(tmp_path):
    def make(**limits):
        limits = PageLimits(**(LIMITS | limits))
        folder = UploadFolder(tmp_path / "up", most_bytes=limits.disk_bytes, keep_seconds=100)
        echo = Echo()
        gate = Gate(echo, limits=limits, folder=folder)
        return TestClient(gate, HERE), echo, gate

    return make


def form(*contents):
    return [("files", (f"{i}.png", content, "image/png")) for i, content in enumerate(contents)]


def upload(client, *contents, **headers):
    return client.post("/gradio_api/upload", files=form(*contents), headers=headers)


def join(client, session="s", **headers):
    call = {"session_hash": session, "data": [], "fn_index": 0}
    return client.post("/gradio_api/queue/join", json=call, headers=headers)


@pytest.mark.parametrize(
    "origin",
    ["http://evil.example", "null", "http://testserver:81", "http://testserver.evil.example", ""],
)
def test_a_foreign_origin_is_refused(serve, origin):
    client, echo, _ = serve()
    for method, path in (("POST", "upload"), ("POST", "queue/join"), ("GET", "queue/data")):
        answer = client.request(method, f"/gradio_api/{path}", headers={"Origin": origin})
        assert answer.status_code == 403, path
    assert client.get("/", headers={"Origin": origin}).status_code == 403
    with pytest.raises(WebSocketDisconnect):
        client.websocket_connect("/gradio_api/queue/join").__enter__()
    assert echo.requests == 0


def test_the_own_origin_and_none_are_let_in(serve):
    client, _, _ = serve()
    for headers in ({}, {"Origin": HERE}, {"Origin": HERE.upper()}):
        assert upload(client, b"image", **headers).status_code == 200
        assert join(client, **headers).status_code == 200
        assert client.get("/", headers=headers).status_code == 200


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "process_recording"),
        ("POST", "component_server"),
        ("POST", "run/look"),
        ("POST", "call/look"),
        ("PUT", "upload"),
        ("DELETE", "upload"),
        ("GET", "deep_link?session_hash=s"),
        ("GET", "file=http://example.org/a.png"),
        ("GET", "file/https://example.org/a.png"),
        ("GET", "proxy=https://example.org"),
    ],
)
def test_what_the_page_does_not_need_is_closed(serve, method, path):
    client, echo, _ = serve()
    assert client.request(method, f"/gradio_api/{path}").status_code == 404
    assert echo.requests == 0


def test_a_form_passes_unchanged_and_brings_one_file(serve):
    client, echo, gate = serve(upload_bytes=200_000)
    content = bytes(range(256)) * 700
    answer = upload(client, content)
    assert answer.status_code == 200 and content in answer.content
    for count in (2, 100):
        answer = upload(client, *[b"image"] * count)
        assert answer.status_code == 413 and answer.text == "A request may bring one file."
    assert gate.folder._reserved == 0


def test_the_end_of_a_part_is_found_across_chunks(serve):
    client, _, _ = serve()
    kind = {"Content-Type": "multipart/form-data; boundary=edge"}
    head = 'Content-Disposition: form-data; name="files"; filename="a"\r\n\r\nx\r\n'
    whole = f"--edge\r\n{head}--edge\r\n{head}--edge--\r\n".encode()

    def pieces(text, size):
        yield from (text[i : i + size] for i in range(0, len(text), size))

    for size in (1, 3, 7, 1000):
        answer = client.post("/gradio_api/upload", content=pieces(whole, size), headers=kind)
        assert answer.status_code == 413, size
    one = f"--edge\r\n{head}--edge--\r\n".encode()
    answer = client.post("/gradio_api/upload", content=pieces(one, 3), headers=kind)
    assert answer.status_code == 200


def test_too_many_bytes_are_refused_declared_or_not(serve):
    client, echo, gate = serve()
    assert upload(client, bytes(100_000)).status_code == 413
    assert echo.requests == 0

    def endless():
        for _ in range(1000):
            yield bytes(10_000)

    kind = {"Content-Type": "multipart/form-data; boundary=edge"}
    answer = client.post("/gradio_api/upload", content=endless(), headers=kind)
    assert answer.status_code == 413 and gate.folder._reserved == 0
    big = {"session_hash": "s", "data": ["x" * 70_000]}
    assert client.post("/gradio_api/queue/join", json=big).status_code == 413
    assert client.post("/gradio_api/queue/join", content=endless()).status_code == 413
    for text in (b"", b"[]", b"{", b"{}", b"[" * 60_000):
        answer = client.post("/gradio_api/queue/join", content=text, headers=JSON)
        assert answer.status_code == 400


def test_uploads_of_a_minute_are_counted(serve):
    client, _, _ = serve(uploads_per_minute=5)
    assert [upload(client, b"image").status_code for _ in range(7)] == [200] * 5 + [429] * 2
    assert upload(client, b"image").headers["Retry-After"] == "60"


def test_uploads_of_all_clients_are_counted(serve):
    client, _, gate = serve(uploads_per_minute_in_all=3)
    others = [TestClient(gate, HERE, client=(f"10.0.0.{i}", 1)) for i in range(5)]
    assert [upload(c, b"image").status_code for c in others] == [200] * 3 + [429] * 2


def test_bytes_of_a_client_are_counted(serve):
    client, _, gate = serve(upload_bytes=100_000, client_bytes=250_000)
    answers = [upload(client, bytes(100_000)).status_code for _ in range(4)]
    assert answers == [200, 200, 429, 429]
    assert upload(TestClient(gate, HERE, client=("10.0.0.9", 1)), bytes(9)).status_code == 200


def test_uploads_at_the_same_time_share_the_disk(serve):
    client, _, gate = serve(disk_bytes=200_000)
    assert gate.folder.reserve(99_000)
    assert upload(client, b"image" * 200).status_code == 429
    gate.folder.release(99_000)
    assert upload(client, b"image" * 200).status_code == 200


def test_runs_are_counted(serve):
    client, _, _ = serve(runs_per_minute=4, unread_answers=100)
    assert [join(client).status_code for _ in range(6)] == [200] * 4 + [429] * 2


def test_answers_that_nobody_fetches_are_counted(serve):
    client, _, gate = serve(unread_answers=3, sessions=2)
    assert [join(client).status_code for _ in range(5)] == [200] * 3 + [429] * 2
    assert join(client, "other").status_code == 200
    assert client.get("/gradio_api/queue/data?session_hash=s").status_code == 200
    assert join(client).status_code == 200
    for session in range(20):
        join(client, f"session {session}")
    assert len(gate._unread._waiting) == 2 and gate._unread._readers == {}


def test_a_call_reaches_the_page_unchanged(serve):
    client, _, _ = serve()
    answer = join(client, "a session")
    assert json.loads(answer.content) == {"session_hash": "a session", "data": [], "fn_index": 0}


def test_long_addresses_and_session_names_are_refused(serve):
    client, echo, _ = serve()
    assert client.get("/gradio_api/upload_progress?upload_id=" + "x" * 3000).status_code == 414
    assert client.get("/gradio_api/file=" + "x" * 3000).status_code == 414
    assert join(client, "s" * 65).status_code == 400 and join(client, 7).status_code == 400
    assert echo.requests == 0


def test_the_page_can_show_why_it_was_refused(serve):
    client, _, _ = serve(runs_per_minute=1, uploads_per_minute=1)
    join(client), upload(client, b"a")
    reason = "Too many requests: try again in a minute."
    assert join(client).json() == {"detail": reason}  # where Gradio's script looks for it
    assert upload(client, b"a").text == "Too many uploads: try again in a minute."
    assert client.get("/gradio_api/runs").json() == {"detail": "Not Found"}


def test_an_upload_that_the_disk_has_no_room_for(serve, monkeypatch):
    client, echo, gate = serve()
    usage = shutil.disk_usage("/")._replace(free=100)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    answer = upload(client, b"a")
    assert (answer.status_code, answer.text) == (507, "The server's disk is full.")
    assert echo.requests == 0 and gate.folder._reserved == 0


def test_following_an_upload_counts_as_a_run(serve):
    client, _, _ = serve(runs_per_minute=2)
    url = "/gradio_api/upload_progress?upload_id=a"
    assert [client.get(url).status_code for _ in range(3)] == [200, 200, 429]


class Arriving:
    """An upload of which the rest never comes."""

    def __init__(self, gate, client):
        head = [(b"content-type", b"multipart/form-data; boundary=e"), (b"host", b"h")]
        self.scope = {
            "type": "http",
            "method": "POST",
            "path": "/gradio_api/upload",
            "query_string": b"",
            "headers": head,
            "client": (client, 1),
        }
        self.gate, self.sent = gate, []

    async def receive(self):
        if not self.sent:
            await asyncio.sleep(60)
        return {"type": "http.disconnect"}

    async def send(self, message):
        self.sent.append(message)

    async def status(self):
        await self.gate(self.scope, self.receive, self.send)
        return self.sent[0]["status"]


def test_slow_uploads_are_few_and_end(serve):
    """Each holds room on the disk, so that a client may have few, and none for long."""
    _, _, gate = serve(uploads_at_once=2, upload_seconds=0.5)

    async def all_at_once():
        return await asyncio.gather(*(Arriving(gate, c).status() for c in "aaab"))

    assert sorted(asyncio.run(all_at_once())) == [408, 408, 408, 429]
    assert gate.folder._reserved == 0 and not gate._arriving
