"""What the HTTP API lets in: an ASGI middleware that reads every body within limits."""

from __future__ import annotations

import asyncio
import hmac
import logging
import time
from http import HTTPStatus

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ..limits import ApiLimits, Budget, Rate
from ..models import BUSY
from ..refusals import Refusal, check_origin, declared_length, replayed, too_large
from .answers import refused
from .detection import ClientGoneError
from .journal import REQUESTS
from .metrics import Metrics

_LOGGER = logging.getLogger(__name__)
OPEN_PATHS = ("/healthz", "/docs", "/openapi.json")  # tell nothing about models or requests
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

    Refused are pages of other origins (403), a wrong token (401), too long an address (414), too
    many requests of one client (429), too large a body (413) or one that takes too long (408), and
    bodies for which there is no memory now (503).

    Args:
        app: the API.
        limits: of the server.
        metrics: count what is answered.
        token: that clients must bring; None for none.
    """

    def __init__(
        self, app: ASGIApp, *, limits: ApiLimits, metrics: Metrics, token: str | None = None
    ) -> None:
        self.app, self.limits, self.metrics = app, limits, metrics
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
        start, body = time.monotonic(), _Body(receive, self.limits, self._bytes)
        try:
            self._check(scope)
            content = await body.read(Headers(scope=scope))
            await self.app(scope, replayed(content, receive), sent)
        except Refusal as refusal:
            if not body.is_whole:
                refusal.headers += (("Connection", "close"),)
            await refused(refusal, scope["path"])(scope, receive, sent)
        except ClientGoneError:
            pass
        except Exception:
            _LOGGER.exception("a request failed")
            if not sent.status:
                fault = Refusal(HTTPStatus.INTERNAL_SERVER_ERROR, "The server made a mistake.")
                await refused(fault, scope["path"])(scope, receive, sent)
        finally:
            body.release()
            self._note(scope, sent.status, time.monotonic() - start, body.num_bytes)

    def _check(self, scope: Scope) -> None:
        headers, path = Headers(scope=scope), scope["path"]
        check_origin(headers)
        if len(path) + len(scope["query_string"]) > _URL_BYTES:
            raise Refusal(HTTPStatus.REQUEST_URI_TOO_LONG, "The address is too long.")
        client = scope["client"][0] if scope.get("client") else ""
        if path != OPEN_PATHS[0]:
            if not self._rate.allows(client):
                reason = "Too many requests: try again in a minute."
                raise Refusal(HTTPStatus.TOO_MANY_REQUESTS, reason, int(_MINUTE))
            self._rate.take(client)
        if path not in OPEN_PATHS and not path.startswith(UPLOADS):
            self._check_token(headers)

    def _check_token(self, headers: Headers) -> None:
        if self._token is None:
            return
        scheme, _, bearer = headers.get("authorization", "").partition(" ")
        given = bearer.strip() if scheme.lower() == "bearer" else headers.get("token", "")
        if not hmac.compare_digest(given.encode("utf-8", "surrogatepass"), self._token):
            reason = "This server asks for its token: Authorization: Bearer TOKEN."
            challenge = (("WWW-Authenticate", "Bearer"),)
            raise Refusal(HTTPStatus.UNAUTHORIZED, reason, headers=challenge)

    def _note(self, scope: Scope, status: int, seconds: float, num_bytes: int) -> None:
        route = getattr(scope.get("route"), "path", _OTHER)
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
        level = logging.DEBUG if route in _POLLED else logging.INFO
        REQUESTS.log(level, "request", extra={"fields": fields | scope.get("noted", {})})


class _Body:
    """The body of a request, read as long as there is room and time.

    Args:
        receive: gives its parts.
        limits: of the server.
        budget: of the bytes of all bodies.

    Attributes:
        is_whole: whether nothing more comes.
        num_bytes: that have come.
    """

    def __init__(self, receive: Receive, limits: ApiLimits, budget: Budget) -> None:
        self._receive, self._limits, self._budget = receive, limits, budget
        self.is_whole, self.num_bytes = False, 0

    async def read(self, headers: Headers) -> bytes:
        """All of it.

        Raises:
            Refusal: too much, too slow, or no room at the moment.
            ClientGoneError: the rest does not come.
        """
        if (declared_length(headers) or 0) > self._limits.body_bytes:
            raise too_large(self._limits.body_bytes)
        parts = []
        end = time.monotonic() + self._limits.upload_seconds
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
        if self.num_bytes + len(part) > self._limits.body_bytes:
            raise too_large(self._limits.body_bytes)
        if not self._budget.take(len(part)):
            raise Refusal(HTTPStatus.SERVICE_UNAVAILABLE, BUSY, 2)
        self.num_bytes += len(part)

    def release(self) -> None:
        """Gives its room back."""
        self._budget.give(self.num_bytes)
