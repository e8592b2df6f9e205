"""Whom a server believes who its clients are."""

import asyncio

import pytest

uvicorn = pytest.importorskip("uvicorn", reason="the server needs uvicorn, which is not installed")


def test_a_client_does_not_choose_its_address(monkeypatch):
    from cqdino_d2.serving import listener

    configs, seen = [], []

    class Server:
        def __init__(self, config, at_end):
            configs.append(config)

        async def serve(self, sockets):
            configs[0].load()

    async def app(scope, receive, send):
        seen.append((scope["client"][0], scope["scheme"]))

    monkeypatch.setattr(listener, "_Server", Server)
    monkeypatch.setattr("signal.signal", lambda *_: None)
    listener.serve(app, None, connections=1)
    headers = [(b"x-forwarded-for", b"10.1.2.3"), (b"x-forwarded-proto", b"https")]
    scope = {"type": "http", "client": ("127.0.0.1", 1), "scheme": "http", "headers": headers}
    asyncio.run(configs[0].loaded_app(scope, None, None))
    assert seen == [("127.0.0.1", "http")]
