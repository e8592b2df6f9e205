"""A socket that listens, and a server behind it that ends cleanly."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
from collections.abc import Callable, Iterator
from typing import Any

import uvicorn
from starlette.types import ASGIApp


@contextlib.contextmanager
def listening(host: str, port: int) -> Iterator[socket.socket]:
    """A socket that listens.

    Args:
        host: an IPv4 or IPv6 address or a name.
        port: 0 takes a free one.

    Raises:
        OSError: the address cannot be had.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, port))
        except (OSError, OverflowError) as error:
            raise OSError(f"cannot listen at {host}, port {port}: {error}") from error
        listener.listen()
        yield listener


def address(listener: socket.socket, scheme: str = "http") -> str:
    """Where a browser finds a socket."""
    host, port = listener.getsockname()[:2]
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"


class _Server(uvicorn.Server):
    """Says when it is about to end, before it waits for requests in progress."""

    def __init__(self, config: uvicorn.Config, at_end: Callable[[], None]) -> None:
        super().__init__(config)
        self._at_end = at_end

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Ends."""
        self._at_end()
        await super().shutdown(sockets)


def serve(
    app: ASGIApp,
    listener: socket.socket,
    *,
    connections: int,
    grace_seconds: int = 2,
    at_end: Callable[[], None] | None = None,
    **options: Any,
) -> None:
    """Serves until it is interrupted, or terminated, which counts as an interrupt.

    Args:
        app: the application.
        listener: a socket that listens.
        connections: open at the same time; what comes beyond is answered with 503.
        grace_seconds: how long requests in progress may take at the end.
        at_end: ends what would run until its client disconnects.
        options: of uvicorn, besides.

    Raises:
        KeyboardInterrupt: at the end, so that callers clean up.
    """
    config = uvicorn.Config(
        app,
        log_level="warning",
        limit_concurrency=connections,
        timeout_graceful_shutdown=grace_seconds,
        server_header=False,
        proxy_headers=False,  # any client on this machine could call itself another
        **options,
    )
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ended so, it cleans up as well
    server = _Server(config, at_end or (lambda: None))
    asyncio.run(server.serve(sockets=[listener]))
