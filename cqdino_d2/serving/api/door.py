"""What the HTTP API lets in: an ASGI middleware that reads every body within limits."""

from __future__ import annotations

import asyncio
import base64
import hmac
import logging
import time
from collections.abc import Callable
from http import HTTPStatus

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ..limits import ApiLimits, Budget, Rate
from ..models import BUSY
from ..refusals import Refusal, check_source, declared_length, replayed, too_large
from .answers import refused
from .detection import ClientGoneError
from .hosted import NO_PLACE
from .journal import REQUESTS
from .metrics import Metrics

_LOGGER = logging.getLogger(__name__)
OPEN_PATHS = ("/healthz", "/docs", "/openapi.json")  # tell nothing about models or requests
PAGE = "/page"
UPLOADS = "/uploads/"  # an address is its own secret: see hosted.py
_POLLED = ("/healthz", "/metrics")
_URL_BYTES = 4096
_MINUTE = 60.0
_OTHER = "other"


class _Sent:
    """Passes an answer on and notes its status."""

    def __init__(self, send: Send) -> None:
        self._send, self.status = send, 0

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
        await self._send(message)


class Door:
    """Lets requests in that are within limits and bring the token, and counts all.

    Refused are too many requests of one client (429), another name of a local server (400), pages
    of other origins (403), a wrong token (401), too long an address (414), too large a body (413)
    or one that takes too long (408), and bodies for which there is no memory now (503). Where no
    token is asked for, no body is read: of open paths there is none (413), of an upload only for a
    place that was given out (404). The page's bodies are read by its own gate.

    Args:
        app: the API.
        limits: of the server.
        metrics: count what is answered.
        knows_place: whether an upload's place was given out.
        is_local: see `check_source`.
        has_page: whether a page for people is there, at `PAGE` and at the root.
        token: that clients must bring; None for none. Browsers bring it as a password to the page.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        limits: ApiLimits,
        metrics: Metrics,
        knows_place: Callable[[str], bool],
        is_local: bool,
        has_page: bool = False,
        token: str | None = None,
    ) -> None:
        self.app, self.limits, self.metrics, self._knows_place = app, limits, metrics, knows_place
        self._is_local, self._has_page = is_local, has_page
        self._token = None if token is None else token.encode()
        self._rate = Rate(limits.requests_per_minute, _MINUTE)
        self._bytes = Budget(limits.bytes_at_once)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a request or passes it on."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
        elif scope["type"] == "websocket":  # there is none; before it is accepted, 403
            await send({"type": "websocket.close", "code": 1008})
        else:
            await self._answer(scope, receive, _Sent(send))

    async def _answer(self, scope: Scope, receive: Receive, sent: _Sent) -> None:
        most = 0 if scope["path"] in OPEN_PATHS else self.limits.body_bytes
        body = _Body(receive, most, self.limits.upload_seconds, self._bytes)
        start = time.monotonic()
        try:
            self._check(scope)
            if not self._is_of_page(scope["path"]):
                receive = replayed(await body.read(Headers(scope=scope)), receive)
            await self.app(scope, receive, sent)
        except Refusal as refusal:
            if not body.is_whole:
                refusal.headers += (("Connection", "close"),)
            await refused(refusal, scope["path"])(scope, receive, sent)
        except ClientGoneError:
            pass
        except Exception:
            _LOGGER.exception("a request failed")
            if not sent.status:
                fault = Refusal(HTTPStatus.INTERNAL_SERVER_ERROR, "Internal server error.")
                await refused(fault, scope["path"])(scope, receive, sent)
        finally:
            body.release()
            self._note(scope, sent.status, time.monotonic() - start, body.num_bytes)

    def _check(self, scope: Scope) -> None:
        headers, path = Headers(scope=scope), scope["path"]
        client = scope["client"][0] if scope.get("client") else ""
        if path != OPEN_PATHS[0]:
            if not self._rate.allows(client):
                reason = "Too many requests: try again in a minute."
                raise Refusal(HTTPStatus.TOO_MANY_REQUESTS, reason, int(_MINUTE))
            self._rate.take(client)
        check_source(headers, is_local=self._is_local)
        if len(path) + len(scope["query_string"]) > _URL_BYTES:
            raise Refusal(HTTPStatus.REQUEST_URI_TOO_LONG, "The address is too long.")
        if path.startswith(UPLOADS):
            if not self._knows_place(path.removeprefix(UPLOADS)):
                raise Refusal(HTTPStatus.NOT_FOUND, NO_PLACE)
        elif path not in OPEN_PATHS:
            self._check_token(headers, self._is_of_page(path))

    def _is_of_page(self, path: str) -> bool:
        return self._has_page and (path in ("/", PAGE) or path.startswith(f"{PAGE}/"))

    def _check_token(self, headers: Headers, is_of_page: bool) -> None:
        if self._token is None:
            return
        given = _password(headers) if is_of_page else _bearer(headers)
        if not hmac.compare_digest(given.encode("utf-8", "surrogatepass"), self._token):
            how = "as the password" if is_of_page else "Authorization: Bearer TOKEN"
            scheme = 'Basic realm="CQ-DINO"' if is_of_page else "Bearer"
            challenge = (("WWW-Authenticate", scheme),)
            reason = f"This server asks for its token: {how}."
            raise Refusal(HTTPStatus.UNAUTHORIZED, reason, headers=challenge)

    def _note(self, scope: Scope, status: int, seconds: float, num_bytes: int) -> None:
        is_of_page = self._is_of_page(scope["path"])
        route = PAGE if is_of_page else getattr(scope.get("route"), "path", _OTHER)
        known = ("GET", "HEAD", "POST", "PUT", "OPTIONS", "DELETE", "PATCH")
        method = scope["method"] if scope["method"] in known else _OTHER
        self.metrics.count_request(route, method, status, seconds, num_bytes)
        fields = {
            "route": route,
            "method": method,
            "status": status,
            "seconds": round(seconds, 4),
            "bytes": num_bytes,
            "client": scope["client"][0] if scope.get("client") else None,
        }
        is_chatter = route in _POLLED or (is_of_page and method == "GET")
        level = logging.DEBUG if is_chatter else logging.INFO
        REQUESTS.log(level, "request", extra={"fields": fields | scope.get("noted", {})})


def _bearer(headers: Headers) -> str:
    """The token of a program."""
    scheme, _, bearer = headers.get("authorization", "").partition(" ")
    return bearer.strip() if scheme.lower() == "bearer" else headers.get("token", "")


def _password(headers: Headers) -> str:
    """What somebody has given to a browser, with whatever name."""
    scheme, _, both = headers.get("authorization", "").partition(" ")
    if scheme.lower() != "basic":
        return ""
    try:
        return base64.b64decode(both.strip(), validate=True).decode().partition(":")[2]
    except ValueError:  # of base64 and of UTF-8
        return ""


class _Body:
    """The body of a request, read as long as there is room and time.

    Args:
        receive: gives its parts.
        most: bytes.
        seconds: that all of it may take.
        budget: of the bytes of all bodies.

    Attributes:
        is_whole: whether nothing more comes.
        num_bytes: that have come.
    """

    def __init__(self, receive: Receive, most: int, seconds: float, budget: Budget) -> None:
        self._receive, self._most, self._seconds, self._budget = receive, most, seconds, budget
        self.is_whole, self.num_bytes = False, 0

    async def read(self, headers: Headers) -> bytes:
        """All of it.

        Raises:
            Refusal: too much, too slow, or no room at the moment.
            ClientGoneError: the rest does not come.
        """
        if (declared_length(headers) or 0) > self._most:
            raise too_large(self._most)
        parts = []
        end = time.monotonic() + self._seconds
        while not self.is_whole:
            try:
                message = await asyncio.wait_for(self._receive(), end - time.monotonic())
            except asyncio.TimeoutError as error:
                reason = "The request took too long to arrive."
                raise Refusal(HTTPStatus.REQUEST_TIMEOUT, reason) from error
            if message["type"] != "http.request":
                raise ClientGoneError
            parts.append(message.get("body", b""))
            self._count(parts[-1])
            self.is_whole = not message.get("more_body", False)
        return b"".join(parts)

    def _count(self, part: bytes) -> None:
        if self.num_bytes + len(part) > self._most:
            raise too_large(self._most)
        if not self._budget.take(len(part)):
            raise Refusal(HTTPStatus.SERVICE_UNAVAILABLE, BUSY, 2)
        self.num_bytes += len(part)

    def release(self) -> None:
        """Gives its room back."""
        self._budget.give(self.num_bytes)
