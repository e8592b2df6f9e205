"""A web page on which a detector looks at your pictures. Needs gradio: pip install gradio.

Examples:
    python projects_tools/web_demo.py --config-file configs/emojidet/quickstart.py \\
        --weights output/quickstart/training/model_inference.pth
    python projects_tools/web_demo.py --config-file A.py B.py --weights a/model.pth b/model.pth

Several configs and weights, in the same order, can be chosen from on the page. The page is at
http://127.0.0.1:7860, for this machine alone unless --host says otherwise. Uploads are kept in a
folder of their own and removed at the end, at the latest an hour after they were made; the page
fetches nothing from elsewhere.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import signal
import socket
import sys
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path

MISSING = "the web page needs gradio, which is not installed here: pip install gradio"
_LOCAL = ("127.0.0.1", "localhost", "::1")
# what the browser may load: the page's own files, and what its scripts make themselves
_POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; "
    "style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; font-src 'self' data:; "
    "connect-src 'self' data: blob:; worker-src 'self' blob:; object-src 'none'; base-uri 'self'; "
    "form-action 'self'; frame-ancestors 'self'"
)


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--config-file", nargs="+", required=True, metavar="FILE", help="configs of configs/")
    add("--weights", nargs="+", required=True, metavar="FILE", help="a checkpoint for each config")
    add("--host", default="127.0.0.1", help="address to listen at; 0.0.0.0 for all (127.0.0.1)")
    add("--port", type=int, default=7860, help="0 takes a free one (7860)")
    add("--max-upload", default="15mb", metavar="SIZE", help="largest file (15mb)")
    add("--max-pixels", type=float, default=25e6, metavar="N", help="largest picture (25e6)")
    add("--device", help="cpu, cuda, ...; default: a GPU where there is one")
    given = parser.parse_args(arguments)
    if len(given.config_file) == 1:
        given.config_file *= len(given.weights)
    if len(given.config_file) != len(given.weights):
        parser.error(
            f"{len(given.config_file)} configs need as many --weights, got {len(given.weights)}"
        )
    return given


def model_names(config_files: list[str], weights: list[str]) -> list[str]:
    """Names for the page: the config's, and of the weights as much as tells them apart."""
    parts = [Path(file).resolve().parts for file in weights]
    for length in range(1, max(map(len, parts)) + 1):
        ends = ["/".join(part[-length:]) for part in parts]
        names = [f"{Path(c).stem}: {end}" for c, end in zip(config_files, ends, strict=True)]
        if len(set(names)) == len(names):
            return [Path(file).stem for file in config_files] if len(names) == 1 else names
    raise ValueError("the same config and weights are given twice")


def make_app(given: argparse.Namespace) -> Callable[..., Awaitable[None]]:
    """The server's application.

    Raises:
        ModuleNotFoundError: gradio is not installed.
        ValueError, FileNotFoundError: a model that cannot be loaded.
    """
    import gradio as gr
    from fastapi import FastAPI, Request, Response
    from starlette.middleware.trustedhost import TrustedHostMiddleware

    from cqdino_d2.prediction.loading import load_predictor
    from cqdino_d2.serving.page import STYLE, Models, build_page

    names = model_names(given.config_file, given.weights)
    predictors = {
        name: load_predictor(config, weights, device=given.device)
        for name, config, weights in zip(names, given.config_file, given.weights, strict=True)
    }
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)

    @app.middleware("http")
    async def add_policy(
        request: Request, call_next: Callable[[Request], Awaitable[Response]]
    ) -> Response:
        response = await call_next(request)
        response.headers["Content-Security-Policy"] = _POLICY
        response.headers["X-Content-Type-Options"] = "nosniff"
        response.headers["Referrer-Policy"] = "no-referrer"
        return response

    if given.host in _LOCAL:  # no other name may lead a browser here
        app.add_middleware(TrustedHostMiddleware, allowed_hosts=["127.0.0.1", "localhost", "[::1]"])
    fonts = ["system-ui", "sans-serif"]
    return gr.mount_gradio_app(
        app,
        build_page(Models(predictors, max_pixels=int(given.max_pixels))),
        path="/",
        footer_links=[],
        app_kwargs={"docs_url": None, "redoc_url": None, "openapi_url": None},
        show_error=False,
        max_file_size=given.max_upload,
        ssr_mode=False,
        enable_monitoring=False,
        theme=gr.themes.Default(font=fonts, font_mono=["ui-monospace", "monospace"]),
        css=STYLE,
    )


def serve(given: argparse.Namespace) -> None:
    """Serves the page until it is interrupted.

    Raises:
        OSError: the address cannot be had.
    """
    family = socket.AF_INET6 if ":" in given.host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((given.host, given.port))
        except OSError as error:
            raise OSError(f"cannot listen at {given.host}, port {given.port}: {error}") from error
        app = make_app(given)
        import uvicorn

        settings = {
            "log_level": "warning",
            "timeout_graceful_shutdown": 2,
        }  # open pages do not hold
        server = uvicorn.Server(uvicorn.Config(app, **settings))
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # ended so, it cleans up as well
        listener.listen()
        host = f"[{given.host}]" if ":" in given.host else given.host
        print(f"http://{host}:{listener.getsockname()[1]}  (Ctrl-C ends it)", flush=True)
        asyncio.run(server.serve(sockets=[listener]))


def main(arguments: list[str] | None = None) -> int:
    """Serves; the exit code is 2 if it cannot."""
    given = parse_arguments(arguments)
    logging.basicConfig(format="%(name)s: %(message)s", level=logging.WARNING)
    try:
        with tempfile.TemporaryDirectory(prefix="cqdino_web_") as folder:
            os.environ["GRADIO_TEMP_DIR"] = folder
            serve(given)
    except ModuleNotFoundError as error:
        print(f"web_demo: {MISSING if error.name == 'gradio' else error}", file=sys.stderr)
        return 2
    except (ValueError, OSError) as error:
        print(f"web_demo: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        pass
    return 0


if __name__ == "__main__":
    sys.exit(main())
