"""A web page on which a detector looks at your images. Needs gradio: pip install gradio.

Examples:
    python projects_tools/web_demo.py --config-file configs/emojidet/quickstart.py \\
        --weights output/quickstart/training/model_inference.pth
    python projects_tools/web_demo.py --config-file A.py B.py --weights a/model.pth b/model.pth

Several configs and weights, in the same order, can be chosen from on the page. The page is at
http://127.0.0.1:7860, for this machine alone unless --host says otherwise. Uploads and drawn images
are kept in a folder of their own, of --max-disk at most; they are deleted after an hour, earlier
when the folder is full, and when the server ends. The page fetches nothing from elsewhere.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import sys
import tempfile
from pathlib import Path

from cqdino_d2.structures import log_to_terminal, one_line

MISSING = "the web page needs gradio, which is not installed here: pip install gradio"
BAD_INPUT = 2


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
    add("--max-disk", default="256mb", metavar="SIZE", help="all uploads together (256mb)")
    add("--max-pixels", type=float, default=25e6, metavar="N", help="largest image (25e6)")
    add("--device", help="cpu, cuda, ...; default: a GPU where there is one")
    given = parser.parse_args(arguments)
    if len(given.config_file) == 1:
        given.config_file *= len(given.weights)
    if len(given.config_file) != len(given.weights):
        parser.error(
            f"{len(given.config_file)} configs need as many --weights, got {len(given.weights)}"
        )
    return given


def run(given: argparse.Namespace) -> None:
    """Serves the page until it is interrupted."""
    from cqdino_d2.serving.limits import PageLimits, size_in_bytes  # takes seconds

    limits = PageLimits(
        upload_bytes=size_in_bytes(given.max_upload),
        disk_bytes=size_in_bytes(given.max_disk),
        pixels=int(given.max_pixels),
    )
    from cqdino_d2.serving.listener import address, listening, serve
    from cqdino_d2.serving.models import Models, load_predictors, model_names
    from cqdino_d2.serving.refusals import LOCAL_HOSTS
    from cqdino_d2.serving.web_app import make_page_app

    names = model_names(given.config_file, given.weights)
    with (
        tempfile.TemporaryDirectory(prefix="cqdino_web_") as folder,
        listening(given.host, given.port) as listener,
    ):
        files = zip(names, given.config_file, given.weights, strict=True)
        models = Models(load_predictors(files, given.device), limits=limits)
        is_local = given.host in LOCAL_HOSTS
        page = make_page_app(models, folder=Path(folder), limits=limits, is_local=is_local)
        print(f"{address(listener)}  (Ctrl-C ends it)", flush=True)
        with contextlib.closing(models.runner):
            serve(page.app, listener, connections=limits.connections, at_end=page.end_streams)


def main(arguments: list[str] | None = None) -> int:
    """Serves; the exit code is 2 if it cannot."""
    given = parse_arguments(arguments)
    log_to_terminal("%(name)s: %(message)s", logging.WARNING)
    try:
        run(given)
    except ModuleNotFoundError as error:
        print(f"web_demo: {MISSING if error.name == 'gradio' else error}", file=sys.stderr)
        return BAD_INPUT
    except (ValueError, OSError, OverflowError) as error:
        print(f"web_demo: {one_line(str(error))}", file=sys.stderr)
        return BAD_INPUT
    except KeyboardInterrupt:
        pass
    return 0


if __name__ == "__main__":
    sys.exit(main())
