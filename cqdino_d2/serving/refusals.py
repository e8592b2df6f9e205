"""Requests that are refused, whatever they ask for."""

from __future__ import annotations

import re
from collections.abc import MutableMapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from starlette.datastructures import Headers
from starlette.types import Message, Receive

LOCAL_HOSTS = ("127.0.0.1", "localhost", "::1")
_LOCAL_NAMES = ("127.0.0.1", "localhost", "[::1]")


@dataclass(eq=False)
class Refusal(Exception):
    """A request that is not let in.

    Attributes:
        status: of the answer.
        reason: one sentence that says nothing about the machine.
        retry_seconds: after which the same request may be let in; None if it will not.
        headers: of the answer, besides.
    """

    status: HTTPStatus
    reason: str
    retry_seconds: int | None = None
    headers: tuple[tuple[str, str], ...] = ()

    def all_headers(self) -> dict[str, str]:
        """The headers of the answer."""
        later = {} if self.retry_seconds is None else {"Retry-After": str(self.retry_seconds)}
        return later | dict(self.headers)


def too_large(most_bytes: int) -> Refusal:
    """A body beyond a limit."""
    return Refusal(
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"At most {most_bytes:,} bytes can be sent at once."
    )


def check_source(headers: Headers, *, is_local: bool) -> None:
    """Refuses what pages of other sites send through the browser of somebody on this machine.

    Browsers name the origin of a page that sends something or reads another site's answers, and
    the host by which they have found the server.

    Args:
        headers: of a request.
        is_local: whether the server is for this machine alone, so that no other name leads there.

    Raises:
        Refusal: another host, or the page of another origin.
    """
    host = headers.get("host", "").lower()
    if is_local and re.sub(r":\d*$", "", host) not in _LOCAL_NAMES:
        reason = "This server is known as 127.0.0.1 or localhost alone."
        raise Refusal(HTTPStatus.BAD_REQUEST, reason)
    origin = headers.get("origin")
    if origin is None:
        return
    scheme, _, place = origin.lower().partition("://")
    if scheme not in ("http", "https") or place != host:
        raise Refusal(HTTPStatus.FORBIDDEN, "Pages of other origins may not use this server.")


def declared_length(headers: Headers) -> int | None:
    """The bytes of a body, None where its header does not say."""
    text = headers.get("content-length", "")
    return int(text) if text.isdecimal() and len(text) < 20 else None


def replayed(body: bytes, receive: Receive) -> Receive:
    """What gives a body that was read already, and then what comes after it."""
    messages: list[MutableMapping[str, Any]] = [
        {"type": "http.request", "body": body, "more_body": False}
    ]

    async def replay() -> Message:
        return messages.pop() if messages else await receive()

    return replay
