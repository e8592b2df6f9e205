"""What a server lets in: an ASGI middleware in front of the page."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter, OrderedDict
from http import HTTPStatus

from starlette.datastructures import Headers
from starlette.formparsers import MultiPartException
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .limits import PageLimits, Rate
from .refusals import Refusal, check_source, declared_length, replayed, too_large
from .upload_folder import DISK_IS_FULL, UploadFolder

_API = "/gradio_api"
_UPLOAD, _JOIN, _ANSWERS = f"{_API}/upload", f"{_API}/queue/join", f"{_API}/queue/data"
_PROGRESS = f"{_API}/upload_progress"
_WRITES = {_UPLOAD, _JOIN, f"{_API}/cancel", f"{_API}/reset"}  # all that the page sends
# What can be read, but writes to the disk, fetches other addresses or is no part of the page.
_CLOSED = tuple(
    f"{_API}/{route}"
    for route in ("deep_link", "proxy=", "file=http", "file/http", "vibe", "run-history", "runs")
)
_READS = ("GET", "HEAD", "OPTIONS")
_FORM_BYTES = 2**16  # of an upload's form around the file, and of any other request
_URL_BYTES = 2048
_SESSION_LETTERS = 64
_MINUTE = 60.0
_EVERYBODY = ""


class _FormRefused(MultiPartException):
    """Gradio deletes the parts of a form that ends in this exception."""


class _CountedBody:
    """Passes a form on while it is small enough, brings one file and arrives in time."""

    def __init__(
        self, receive: Receive, content_type: str, most_bytes: int, seconds: float
    ) -> None:
        boundary = content_type.partition("boundary=")[2].partition(";")[0].strip().strip('"')
        self._delimiter, self._tail = f"--{boundary}".encode(), b""
        self._receive, self._most_bytes = receive, most_bytes
        self._end = time.monotonic() + seconds
        self.num_bytes, self._delimiters = 0, 0
        self.refusal: Refusal | None = None

    async def receive(self) -> Message:
        try:
            message = await asyncio.wait_for(self._receive(), self._end - time.monotonic())
        except asyncio.TimeoutError as error:
            self.refusal = Refusal(HTTPStatus.REQUEST_TIMEOUT, "The upload took too long.")
            raise _FormRefused(self.refusal.reason) from error
        if message["type"] != "http.request":
            return message
        body = message.get("body", b"")
        self.num_bytes += len(body)
        text = self._tail + body
        self._delimiters += text.count(self._delimiter)
        self._tail = text[max(0, len(text) - len(self._delimiter) + 1) :]
        if self.num_bytes > self._most_bytes:
            self.refusal = too_large(self._most_bytes)
        elif self._delimiters > 2:  # before the file and at the end
            self.refusal = Refusal(
                HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "A request may bring one file."
            )
        if self.refusal is not None:
            raise _FormRefused(self.refusal.reason)
        return message


class _Unread:
    """How many answers wait for sessions that do not fetch them."""

    def __init__(self, most_sessions: int) -> None:
        self._most_sessions = most_sessions
        self._waiting: OrderedDict[str, int] = OrderedDict()
        self._readers: dict[str, int] = {}

    def asked(self, session: str) -> int:
        """Notes a request; how many answers of the session nobody fetches."""
        if self._readers.get(session):
            return 0
        self._waiting[session] = self._waiting.get(session, 0) + 1
        self._waiting.move_to_end(session)
        if len(self._waiting) > self._most_sessions:
            self._waiting.popitem(last=False)
        return self._waiting[session]

    def begins_to_read(self, session: str) -> None:
        self._waiting.pop(session, None)
        self._readers[session] = self._readers.get(session, 0) + 1

    def ends_to_read(self, session: str) -> None:
        self._readers[session] -= 1
        if not self._readers[session]:
            del self._readers[session]


class Gate:
    """Lets in what the page sends, within limits.

    Pages of other origins, websockets and all routes that the page does not need are refused:
    403 and 404. What is larger than the limits is answered with 413, what comes too often with
    429, an upload that the disk has no room for with 507.

    Args:
        app: the page.
        limits: of the server.
        folder: of the uploads.
        is_local: see `check_source`.
    """

    def __init__(
        self, app: ASGIApp, *, limits: PageLimits, folder: UploadFolder, is_local: bool = False
    ) -> None:
        self.app, self.limits, self.folder, self.is_local = app, limits, folder, is_local
        self._uploads = Rate(limits.uploads_per_minute, _MINUTE)
        self._all_uploads = Rate(limits.uploads_per_minute_in_all, _MINUTE)
        self._bytes = Rate(limits.client_bytes, limits.keep_seconds)
        self._runs = Rate(limits.runs_per_minute, _MINUTE)
        self._unread = _Unread(limits.sessions)
        self._arriving: Counter[str] = Counter()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a request or passes it on."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
        elif scope["type"] == "websocket":  # the page has none; before it is accepted, 403
            await send({"type": "websocket.close", "code": 1008})
        else:
            try:
                await self._pass(scope, receive, send)
            except Refusal as refusal:
                await _answer(refusal, _path_of(scope))(scope, receive, send)

    async def _pass(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers, path = Headers(scope=scope), _path_of(scope)
        check_source(headers, is_local=self.is_local)
        _check_route(scope["method"], path)
        if len(path) + len(scope["query_string"]) > _URL_BYTES:
            raise Refusal(HTTPStatus.REQUEST_URI_TOO_LONG, "The address is too long.")
        client = scope["client"][0] if scope.get("client") else _EVERYBODY
        if scope["method"] in _READS:
            if path == _PROGRESS:
                self._count_run(client)
            if path == _ANSWERS:
                await self._read_answers(scope, receive, send)
            else:
                await self.app(scope, receive, send)
        elif path == _UPLOAD:
            await self._upload(scope, receive, send, headers, client)
        else:
            body = await _whole_body(receive, headers)
            if path == _JOIN:
                self._count_run(client)
                self._count_unread(body)
            await self.app(scope, replayed(body, receive), send)

    async def _read_answers(self, scope: Scope, receive: Receive, send: Send) -> None:
        session = scope["query_string"].partition(b"session_hash=")[2].partition(b"&")[0].decode()
        self._unread.begins_to_read(session)
        try:
            await self.app(scope, receive, send)
        finally:
            self._unread.ends_to_read(session)

    def _count_run(self, client: str) -> None:
        if not self._runs.allows(client):
            raise _too_often("Too many requests")
        self._runs.take(client)

    def _count_unread(self, body: bytes) -> None:
        try:
            session = json.loads(body)["session_hash"]
        except (ValueError, KeyError, TypeError, RecursionError):
            session = None
        if not isinstance(session, str) or len(session) > _SESSION_LETTERS:
            raise Refusal(HTTPStatus.BAD_REQUEST, "This is no request of the page.")
        if self._unread.asked(session) > self.limits.unread_answers:
            raise _too_often("Too many answers wait for this page")

    async def _upload(
        self, scope: Scope, receive: Receive, send: Send, headers: Headers, client: str
    ) -> None:
        most = self.limits.upload_bytes + _FORM_BYTES
        length = declared_length(headers)
        if length is not None and length > most:
            raise too_large(most)
        length = most if length is None else length
        if not (self._uploads.allows(client) and self._all_uploads.allows(_EVERYBODY)):
            raise _too_often("Too many uploads")
        if not self._bytes.allows(client, length):
            raise _too_often("You have uploaded too much")
        if self._arriving[client] >= self.limits.uploads_at_once:
            raise _too_often("Too many uploads at the same time")
        if not self.folder.reserve(length):
            raise _too_often("Too many uploads at the same time")
        if not self.folder.disk_has(length):
            self.folder.release(length)
            raise Refusal(HTTPStatus.INSUFFICIENT_STORAGE, DISK_IS_FULL)
        self._uploads.take(client)
        self._all_uploads.take(_EVERYBODY)
        self._arriving[client] += 1
        seconds = self.limits.upload_seconds
        body = _CountedBody(receive, headers.get("content-type", ""), most, seconds)
        try:
            await self.app(scope, body.receive, _unless_refused(body, send))
        except _FormRefused:
            pass
        finally:
            self._bytes.take(client, body.num_bytes)
            self.folder.release(length)
            self._arriving -= Counter([client])  # leaves no zeros behind
        if body.refusal is not None:
            raise body.refusal


def _path_of(scope: Scope) -> str:
    """The path below the place where the page is."""
    return scope["path"].removeprefix(scope.get("root_path", "")).rstrip("/")


def _answer(refusal: Refusal, path: str) -> Response:
    """The answer in the form in which the page shows its reason: JSON but for uploads."""
    options = {"status_code": refusal.status, "headers": refusal.all_headers()}
    if path == _UPLOAD:
        return PlainTextResponse(refusal.reason, **options)
    return JSONResponse({"detail": refusal.reason}, **options)


def _check_route(method: str, path: str) -> None:
    needed = method in _READS or (method == "POST" and path in _WRITES)
    if not needed or path.lower().startswith(_CLOSED):
        raise Refusal(HTTPStatus.NOT_FOUND, "Not Found")


def _too_often(reason: str) -> Refusal:
    reason = f"{reason}: try again in a minute."
    return Refusal(HTTPStatus.TOO_MANY_REQUESTS, reason, retry_seconds=60)


async def _whole_body(receive: Receive, headers: Headers) -> bytes:
    if (declared_length(headers) or 0) > _FORM_BYTES:
        raise too_large(_FORM_BYTES)
    body = b""
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return body
        body += message.get("body", b"")
        if len(body) > _FORM_BYTES:
            raise too_large(_FORM_BYTES)
        if not message.get("more_body"):
            return body


def _unless_refused(body: _CountedBody, send: Send) -> Send:
    async def send_unless(message: Message) -> None:
        if body.refusal is None:
            await send(message)

    return send_unless
