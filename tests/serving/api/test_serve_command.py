"""The server in a process of its own, as docs/serving.md starts and asks it, and its clients."""

import asyncio
import contextlib
import importlib.util
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from unittest import mock

import httpx
import pytest
import serve
from benchmarks import serving as benchmark
from PIL import Image

from cqdino_d2.serving.server_settings import TOKEN_VARIABLE, read_token
from tests import doc_commands as docs
from tests import prompted
from tests.prediction.test_category_predictor import save_tiny
from tests.serving.api.conftest import encoded

ROOT = docs.ROOT
PAGE = ROOT / "docs/serving.md"
TOKEN = "choose-a-long-one"
SLOW = 180  # seconds that a test waits before it fails
START, ASK, SECURE, _ = docs.blocks(PAGE, "bash")
HTTPX, HOSTED = docs.blocks(PAGE, "python")
# what a client's process may reach, and that its crash reporter is off
GUARD = """
import socket
_connect = socket.socket.connect
def connect(self, address):
    assert address[0] == "127.0.0.1", address
    return _connect(self, address)
socket.socket.connect = connect
"""
IS_OFF = "\nassert sentry_sdk.get_client().transport is None\n"
OLD_CLIENT = """
import os
from dds_cloudapi_sdk import Client, Config, DetectionModel, DetectionTarget, DetectionTask
from dds_cloudapi_sdk import TextPrompt
client = Client(Config("choose-a-long-one"))
image, prompts = client.upload_file("photo.jpg"), [TextPrompt(text="cat"), TextPrompt(text="dog")]
task = DetectionTask(image, prompts, [DetectionTarget.BBox], DetectionModel.GDino1_5_Pro)
client.run_task(task)
print([(one.category, one.score, one.bbox) for one in task.result.objects])
"""


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    """A checkout in which the page's model, photo and certificate are small ones."""
    folder = tmp_path_factory.mktemp("checkout")
    with mock.patch.object(prompted, "WORDS", [*prompted.WORDS, "ball", "sofa", "couch"]):
        word_files = prompted.save_prompted(tmp_path_factory.mktemp("trained"))
    for name in ("cqdino_d2", "projects_tools"):
        (folder / name).symlink_to(ROOT / name)
    config = folder / "configs/grounding_dino/swint_ogc.py"
    config.parent.mkdir(parents=True)
    config.write_text(
        "from detectron2.config import LazyConfig\n"
        f"globals().update(LazyConfig.load({str(word_files[0])!r}))\n"
    )
    (folder / "models/gdino_swint").mkdir(parents=True)
    shutil.copy(word_files[1], folder / "models/gdino_swint/model.pth")
    (folder / "photos").mkdir()
    for path in (folder / "photo.jpg", folder / "photos/photo.jpg"):
        path.write_bytes(encoded(60, 80, "JPEG"))
    key = ["-keyout", "server.key", "-out", "server.crt", "-days", "2", "-nodes"]
    about = ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", *key, *about]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    return folder


def environment(checkout, **more):
    path = os.pathsep.join(filter(None, [str(checkout), os.environ.get("PYTHONPATH")]))
    return os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": path} | more


@contextlib.contextmanager
def started(checkout, block, *more, **variables):
    """The process of a block's command, with options that make it small."""
    *_, (program, *rest) = docs.commands(block.text)  # before it: the quickstart's model, a page
    assert program == "python"
    process = subprocess.Popen(
        [sys.executable, "-W", "ignore", *rest, "--port", "0", "--device", "cpu", *more],
        cwd=checkout,
        env=environment(checkout, **variables),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def address_of(process):
    line = process.stdout.readline()
    found = re.match(r"https?://127\.0\.0\.1:\d+", line)
    assert found, line + process.stderr.read()
    return found[0]


@pytest.fixture(scope="module")
def servers(checkout):
    """Process and address of the page's plain server and of its secure one."""
    if not shutil.which("openssl"):
        pytest.skip("makes its certificate with openssl, which is not installed")
    with (
        started(checkout, START) as plain,
        started(checkout, SECURE, "--max-wait", "2000", CQDINO_API_TOKEN=TOKEN) as secure,
    ):
        yield (plain, address_of(plain)), (secure, address_of(secure))


def run(checkout, command, **variables):
    done = subprocess.run(
        command,
        cwd=checkout,
        env=environment(checkout, **variables),
        capture_output=True,
        text=True,
        timeout=SLOW,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.skipif(not shutil.which("curl"), reason="curl is not installed")
def test_the_page_is_followed_with_curl(checkout, servers):
    (_, address), _ = servers
    said = [
        run(checkout, [word.replace("http://127.0.0.1:8000", address) for word in command])
        for command in docs.commands(ASK.text)
    ]
    models, found, _, below = said
    assert json.loads(models)["models"][0]["name"] == "words"
    assert json.loads(found)["width"] == 80 and json.loads(found)["objects"]
    assert Image.open(checkout / "found.png").size == (80, 60)
    assert json.loads(below)["height"] == 60


def test_the_page_is_followed_in_python(checkout, servers):
    (_, address), _ = servers
    text = HTTPX.text.replace("http://127.0.0.1:8000", address)
    lines = run(checkout, [sys.executable, "-c", text]).splitlines()
    assert lines and all(re.match(r"(cat|sofa) 0\.\d+ \[", line) for line in lines), lines


@pytest.mark.skipif(
    not all(map(importlib.util.find_spec, ("dds_cloudapi_sdk", "sentry_sdk", "flask"))),
    reason="needs the hosted API's client: pip install dds-cloudapi-sdk flask",
)
def test_the_client_of_the_hosted_api(checkout, servers):
    (_, address), _ = servers
    text = GUARD + HOSTED.text.replace("http://127.0.0.1:8000", address) + IS_OFF
    lines = run(checkout, [sys.executable, "-c", text]).splitlines()
    assert lines and all(re.match(r"(cat|sofa) 0\.\d+ \[", line) for line in lines), lines


@pytest.mark.skipif(
    "CQDINO_EARLIER_CLIENT" not in os.environ,
    reason="CQDINO_EARLIER_CLIENT names no folder with dds-cloudapi-sdk 0.2.1",
)
def test_the_earlier_client_of_the_hosted_api(checkout, servers):
    _, (_, address) = servers
    path = os.pathsep.join([os.environ["CQDINO_EARLIER_CLIENT"], str(checkout)])
    variables = {
        "DDS_CLOUDAPI_ENDPOINT": address.removeprefix("https://"),
        "REQUESTS_CA_BUNDLE": str(checkout / "server.crt"),
        "PYTHONPATH": path,
    }
    command = [sys.executable, "-W", "ignore", "-c", GUARD + OLD_CLIENT]
    assert re.match(r"\[\('(cat|dog)', 0\.\d+", run(checkout, command, **variables))


def test_the_load_of_the_benchmark(servers):
    (_, address), _ = servers
    image = benchmark.photo(40, 50)
    figures = asyncio.run(benchmark.measure(address, 3, 0.5, image, own_prompts=True))
    latencies, sizes, seconds = figures
    assert len(latencies) == len(sizes) >= 3 and 1 <= max(sizes) <= 3
    assert all(0 < latency <= seconds for latency in latencies)
    cells = benchmark.row(3, 4, figures)
    assert len(cells) == len(benchmark.COLUMNS) and cells[:2] == ["3", "4"]
    assert all(float(cell) > 0 for cell in cells) and cells[-1] == str(len(latencies))


def test_what_is_not_http(servers):
    (_, address), _ = servers
    place = address.removeprefix("http://").split(":")
    for text in (
        b"\0" * 100,
        b"GET\r\n\r\n",
        b"POST /v1/detect HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
        b"POST /v1/detect HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 99999999999\r\n\r\n",
        b"POST /v1/detect HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 5\r\n\r\nab",
        b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nX: " + b"a" * 200_000 + b"\r\n\r\n",
    ):
        with socket.create_connection((place[0], int(place[1])), timeout=SLOW) as client:
            with contextlib.suppress(OSError):  # it may hang up before it has read all
                client.sendall(text)
                client.shutdown(socket.SHUT_WR)
                assert client.recv(20)[9:10] in (b"4", b"")
    assert httpx.get(f"{address}/healthz").json() == {"status": "ok"}


def test_what_is_under_way_is_answered_before_the_end(checkout, servers):
    _, (process, address) = servers
    options = {"verify": str(checkout / "server.crt"), "timeout": SLOW}
    assert httpx.get(f"{address}/v1/models", **options).status_code == 401
    options["headers"] = {"Authorization": f"Bearer {TOKEN}"}
    answers = []

    def ask():
        files, data = {"image": (checkout / "photo.jpg").read_bytes()}, {"prompt": "cat."}
        answers.append(httpx.post(f"{address}/v1/detect", files=files, data=data, **options))

    thread = threading.Thread(target=ask)
    thread.start()  # waits two seconds for others of its batch
    end = time.monotonic() + SLOW
    while "cqdino_queue_length 1.0" not in httpx.get(f"{address}/metrics", **options).text:
        assert time.monotonic() < end
    process.send_signal(signal.SIGTERM)
    _, log = process.communicate(timeout=SLOW)
    thread.join(SLOW)
    assert [answer.status_code for answer in answers] == [200]
    assert process.returncode == 0
    lines = [json.loads(line) for line in log.splitlines()]
    last = [line for line in lines if line["message"] == "request"][-1]
    assert last["route"] == "/v1/detect" and last["status"] == 200 and "Traceback" not in log


MODEL = "words=configs/emojidet/tiny_tree.py,{}"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model", MODEL.format("none.pth")], "there is no checkpoint none.pth"),
        (["--model", "a=configs/none.py,README.md"], "none.py"),
        (["--model", MODEL.format("README.md"), "--folder", "none"], "none is no folder"),
        (["--model", MODEL.format("README.md"), "--token-file", "none"], "none"),
        (["--model", MODEL.format("README.md"), "--token-file", "README.md"], "printable ASCII"),
        (["--model", MODEL.format("README.md"), "--max-upload", "much"], "expected a size"),
        (["--model", MODEL.format("README.md"), "--max-pixels", "inf"], "infinity"),
        (["--model", MODEL.format("README.md"), "--timeout", "nan"], "answer_seconds"),
        (["--model", MODEL.format("README.md"), "--max-batch", "0"], "1 or more"),
        (["--model", MODEL.format("README.md"), "--port", "99999"], "cannot listen"),
        (
            ["--model", MODEL.format("README.md"), "--certificate", "none", "--key", "none"],
            "No such file",
        ),
    ],
)
def test_what_cannot_be_served_is_one_line(arguments, message, capsys, monkeypatch):
    monkeypatch.chdir(ROOT)
    monkeypatch.delenv(TOKEN_VARIABLE, raising=False)
    assert serve.main(arguments) == 2
    said = capsys.readouterr().err
    assert message in said and said.startswith("serve: ") and said.count("\n") == 1


def test_weights_that_cannot_be_read(word_files, tmp_path, capsys):
    (tmp_path / "model.pth").write_text("no weights")
    assert serve.main(["--model", f"a={word_files[0]},{tmp_path / 'model.pth'}"]) == 2
    said = capsys.readouterr().err
    assert "model.pth" in said and said.startswith("serve: ") and said.count("\n") == 1


def test_a_tagger_of_stage_1(tmp_path, capsys):
    tagger = save_tiny(tmp_path, "stage1")
    assert serve.main(["--model", f"a=configs/emojidet/tiny_stage1.py,{tagger}"]) == 2
    said = capsys.readouterr().err.splitlines()
    assert said[-1].startswith("serve: the model of configs/emojidet/tiny_stage1.py is a tagger")


def test_a_page_without_its_package(word_files, capsys, monkeypatch):
    for module in ("page", "web_app"):
        monkeypatch.delitem(sys.modules, f"cqdino_d2.serving.{module}", raising=False)
    monkeypatch.setitem(sys.modules, "gradio", None)
    assert serve.main(["--page", "--model", f"a={word_files[0]},{word_files[1]}"]) == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert said == f"serve: {serve.PAGE_MISSING}"


def test_a_device_that_does_not_exist(word_files, capsys):
    arguments = ["--model", f"a={word_files[0]},{word_files[1]}", "--port", "0"]
    assert serve.main([*arguments, "--device", "foo"]) == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.startswith("serve: expected a device") and said.endswith("got 'foo'")


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--model", "a"],
        ["--model", "a=b"],
        ["--model", "=b,c"],
        ["--model", "a/b=c,d"],
        ["--model", "a=b,c", "--model", "a=d,e"],
        ["--model", "a=b,c", "--key", "k"],
    ],
)
def test_wrong_command_lines(arguments, capsys):
    with pytest.raises(SystemExit) as ended:
        serve.main(arguments)
    assert ended.value.code == 2 and "usage" in capsys.readouterr().err


def test_a_missing_package_is_one_line(word_files, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    for name in list(sys.modules):
        if name.startswith("cqdino_d2.serving.api"):
            monkeypatch.delitem(sys.modules, name)
    assert serve.main(["--model", f"a={word_files[0]},{word_files[1]}"]) == 2
    assert "needs prometheus_client, which is not installed here" in capsys.readouterr().err


def test_tokens(tmp_path, monkeypatch):
    file = tmp_path / "token"
    file.write_text(" abc \n")
    assert read_token(file) == "abc"
    monkeypatch.setenv(TOKEN_VARIABLE, "of-the-environment")
    assert read_token(None) == "of-the-environment"
    for wrong in ("", "a b", "\u00e9", "a\tb"):
        monkeypatch.setenv(TOKEN_VARIABLE, wrong)
        with pytest.raises(ValueError, match="printable ASCII"):
            read_token(None)


def test_the_dockerfile_starts_what_is_there():
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    for name in re.findall(r"projects_tools/\w+\.(?:py|sh)", text):
        assert (ROOT / name).is_file(), name
    stages = set(re.findall(r"^FROM \S+ AS (\S+)$", text, re.MULTILINE))
    assert {"cpu", "cuda"} <= stages == stages | set(re.findall(r"--from=(\S+)", text))
    assert Path(ROOT / ".dockerignore").is_file()
