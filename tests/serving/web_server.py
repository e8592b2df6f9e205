"""The server of the page in a process of its own, and how to ask it."""

import contextlib
import json
import os
import re
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CONFIG = "configs/emojidet/tiny_tree.py"
MODELS = ["tiny_tree: model_inference.pth", "tiny_sa: model_inference.pth"]
SOON = 20  # seconds: less than what an open page could hold a server for
SERVE = """
import ast, functools, sys
sys.path.insert(0, "projects_tools")
import web_demo
from cqdino_d2.serving import limits
limits.PageLimits = functools.partial(limits.PageLimits, **ast.literal_eval(sys.argv.pop(1)))
sys.exit(web_demo.main())
"""


@contextlib.contextmanager
def serving(scratch, weights, *more, **limits):
    """The page's command in a process of its own; its address."""
    command = ["-c", SERVE, repr(limits), "--weights", *map(str, weights), *more]
    with running(scratch, command) as address:
        yield address


@contextlib.contextmanager
def serving_both(scratch, weights, *more, **variables):
    """The command of the HTTP API with the page beside it; the page's address."""
    models = [f"--model={name}={CONFIG},{path}" for name, path in weights.items()]
    with running(scratch, ["projects_tools/serve.py", "--page", *models, *more], **variables) as at:
        yield f"{at}/page/"


@contextlib.contextmanager
def running(scratch, arguments, **variables):
    """A server's process that ends cleanly and soon, whoever listens to it; its address."""
    command = [sys.executable, "-W", "ignore", *arguments, "--port", "0", "--device", "cpu"]
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1", "TMPDIR": str(scratch)} | variables,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        line = process.stdout.readline()
        found = re.match(r"http://127\.0\.0\.1:\d+", line)
        assert found, line
        yield found[0]
        process.terminate()
        process.wait(timeout=SOON)
        assert not list(scratch.glob("cqdino_web_*")), "uploads stay behind"
    finally:
        process.kill()
        process.wait()


def fetch(url, body=None, **headers):
    """Status and text, headers; of errors, too."""
    request = urllib.request.Request(url, body, headers)
    with contextlib.ExitStack() as stack:
        try:
            answer = stack.enter_context(urllib.request.urlopen(request, timeout=60))
        except urllib.error.HTTPError as error:
            answer = error
        return answer.status, answer.read().decode(errors="replace"), answer.headers


def upload(server, *contents, name="a.png"):
    edge = "edge"
    head = f'--{edge}\r\nContent-Disposition: form-data; name="files"; filename="{name}"\r\n\r\n'
    body = b"".join(head.encode() + content + b"\r\n" for content in contents)
    body += f"--{edge}--\r\n".encode()
    kind = f"multipart/form-data; boundary={edge}"
    return fetch(f"{server}/gradio_api/upload", body, **{"Content-Type": kind})[:2]


def call(server, inputs, path, *more, session="abc"):
    """The page's function with this number of inputs on a file; its messages."""
    config = json.loads(fetch(f"{server}/config")[1])
    place = next(d["id"] for d in config["dependencies"] if len(d["inputs"]) == inputs)
    file = {"path": str(path), "meta": {"_type": "gradio.FileData"}, "orig_name": "a.png"}
    data = {"data": [file, *more], "fn_index": place, "session_hash": session}
    join = f"{server}/gradio_api/queue/join"
    status, text, _ = fetch(join, json.dumps(data).encode(), **{"Content-Type": "application/json"})
    assert status == 200, text
    return fetch(f"{server}/gradio_api/queue/data?session_hash={session}")[1].replace(" ", "")


def run_look(server, path, model=MODELS[0], session="abc"):
    return call(server, 5, path, model, 8, "", True, session=session)


def run_show(server, path, session="abc"):
    return call(server, 3, path, 0.0, 4, session=session)
