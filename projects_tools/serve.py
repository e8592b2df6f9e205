"""An HTTP server that finds objects in images. Needs: pip install .[serve].

Examples:
    python projects_tools/serve.py \\
        --model words=configs/grounding_dino/swint_ogc.py,models/gdino_swint/model.pth
    python projects_tools/serve.py --folder photos --max-batch 8 --token-file token.txt \\
        --model emoji=configs/emojidet/quickstart.py,output/quickstart/training/model_inference.pth
    python projects_tools/serve.py --page --model ...

Several --model can be asked for by their names; the first is the default. The server is at
http://127.0.0.1:8000, for this machine alone unless --host says otherwise; /docs describes it.
--page puts the web page over the same models, at /page/. A token that clients must bring is read
from --token-file or from the environment variable CQDINO_API_TOKEN. The log is a line of JSON per
request. Ctrl-C or SIGTERM end the server after it has answered the requests in progress.
"""

from __future__ import annotations

import argparse
import contextlib
import ssl
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from cqdino_d2.structures import one_line

if TYPE_CHECKING:  # what takes seconds to import is imported once the command line is read
    from cqdino_d2.serving.limits import ApiLimits
    from cqdino_d2.serving.server_settings import NamedModel

MISSING = "the server needs {}, which is not installed here: pip install .[serve]"
PACKAGES = ("fastapi", "prometheus_client", "pydantic", "starlette", "uvicorn")
PAGE_MISSING = "the web page needs gradio, which is not installed here: pip install gradio"
BAD_INPUT = 2
GRACE_SECONDS = 30


def model_of(text: str) -> NamedModel:
    """A ``--model``."""
    from cqdino_d2.serving.server_settings import named_model

    try:
        return named_model(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add(
        "--model",
        action="append",
        required=True,
        type=model_of,
        metavar="NAME=CONFIG,WEIGHTS",
        help="can be given several times",
    )
    add("--host", default="127.0.0.1", help="address to listen at; 0.0.0.0 for all (127.0.0.1)")
    add("--port", type=int, default=8000, help="0 takes a free one (8000)")
    add("--device", help="cpu, cuda, ...; default: a GPU where there is one")
    add("--page", action="store_true", help="the web page as well, at /page/; needs gradio")
    add(
        "--folder", type=Path, metavar="DIR", help="folder of images that requests may name by path"
    )
    add("--token-file", type=Path, metavar="FILE", help="file with a token that clients must send")
    add("--certificate", type=Path, metavar="FILE", help="for https, with --key")
    add("--key", type=Path, metavar="FILE", help="key of the certificate")
    add("--max-batch", type=int, default=4, metavar="N", help="largest batch (4)")
    add(
        "--max-wait",
        type=float,
        default=5,
        metavar="MS",
        help="wait for more requests of a batch (5)",
    )
    add("--max-queue", type=int, default=64, metavar="N", help="most waiting requests (64)")
    add("--max-upload", default="15mb", metavar="SIZE", help="largest image file (15mb)")
    add("--max-pixels", type=float, default=25e6, metavar="N", help="largest image (25e6)")
    add("--timeout", type=float, default=120, metavar="S", help="longest wait for an answer (120)")
    add("--rate", type=int, default=6000, metavar="N", help="requests of a client a minute (6000)")
    given = parser.parse_args(arguments)
    names = [name for name, _, _ in given.model]
    if len(set(names)) < len(names):
        parser.error(f"two models have the same name: {', '.join(names)}")
    if (given.certificate is None) != (given.key is None):
        parser.error("--certificate and --key are given together")
    return given


def limits_of(given: argparse.Namespace) -> ApiLimits:
    """The limits that the command line names, and what follows from them."""
    from cqdino_d2.serving.limits import ApiLimits, size_in_bytes

    upload, pixels = size_in_bytes(given.max_upload), int(given.max_pixels)
    default = ApiLimits()
    return ApiLimits(
        upload_bytes=upload,
        pixels=pixels,
        bytes_at_once=max(default.bytes_at_once, 4 * upload),
        kept_bytes=max(default.kept_bytes, 2 * upload),
        pixels_at_once=max(default.pixels_at_once, 2 * pixels),
        answer_seconds=given.timeout,
        requests_per_minute=given.rate,
    )


def check_files(given: argparse.Namespace) -> None:
    """Finds files that are missing before anything is loaded.

    Raises:
        OSError: a file or folder cannot be had.
    """
    for _, _, weights in given.model:
        if not Path(weights).is_file():
            raise FileNotFoundError(f"there is no checkpoint {weights}")
    if given.folder is not None and not given.folder.is_dir():
        raise NotADirectoryError(f"--folder {given.folder} is no folder")
    if given.certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(given.certificate, given.key)


def run(given: argparse.Namespace) -> None:
    """Serves until it is interrupted."""
    from cqdino_d2.serving.server_settings import read_token

    limits, token = limits_of(given), read_token(given.token_file)
    check_files(given)
    from cqdino_d2.serving.api.door import PAGE
    from cqdino_d2.serving.api.journal import log_as_json
    from cqdino_d2.serving.listener import address, listening, serve
    from cqdino_d2.serving.refusals import LOCAL_HOSTS
    from cqdino_d2.serving.runner import Batching
    from cqdino_d2.serving.served import load_api

    batching = Batching(given.max_batch, given.max_wait / 1000, given.max_queue)
    scheme = "http" if given.certificate is None else "https"
    with contextlib.ExitStack() as stack:
        uploads = None
        if given.page:
            folder = tempfile.TemporaryDirectory(prefix="cqdino_web_")
            uploads = Path(stack.enter_context(folder))
        listener = stack.enter_context(listening(given.host, given.port))
        served = load_api(
            given.model,
            host=given.host,
            device=given.device,
            batching=batching,
            limits=limits,
            folder=given.folder,
            token=token,
            page_folder=uploads,
        )
        stack.enter_context(contextlib.closing(served.runner))
        log_as_json()
        if token is None and given.host not in LOCAL_HOSTS:
            print(
                "serve: anyone who can reach this address can use it: see --token-file",
                file=sys.stderr,
            )
        here = address(listener, scheme)
        print(f"{here}  (Ctrl-C ends it)", flush=True)
        if given.page:
            print(f"{here}{PAGE}/  is the page", flush=True)
        serve(
            served.app,
            listener,
            connections=limits.connections,
            grace_seconds=GRACE_SECONDS,
            at_end=served.end_streams,
            ssl_certfile=given.certificate,
            ssl_keyfile=given.key,
            log_config=None,
            access_log=False,
        )


def main(arguments: list[str] | None = None) -> int:
    """Serves; the exit code is 2 if it cannot."""
    given = parse_arguments(arguments)
    try:
        run(given)
    except ModuleNotFoundError as error:
        known = {name: MISSING.format(name) for name in PACKAGES} | {"gradio": PAGE_MISSING}
        reason = known.get(error.name, str(error))
        print(f"serve: {one_line(reason)}", file=sys.stderr)
        return BAD_INPUT
    except (ValueError, OSError, OverflowError) as error:
        print(f"serve: {one_line(str(error))}", file=sys.stderr)
        return BAD_INPUT
    except KeyboardInterrupt:
        pass
    return 0


if __name__ == "__main__":
    sys.exit(main())
