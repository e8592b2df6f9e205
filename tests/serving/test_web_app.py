"""The server: what it lets out and in, its totals under load, and the page in a browser."""

import contextlib
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cqdino_d2.visualization.media import write_image
from tests.prediction.test_category_predictor import save_tiny
from tests.prompted import save_prompted

pytest.importorskip("gradio", reason="the web page needs gradio, which is not installed")

ROOT = Path(__file__).resolve().parents[2]
CONFIG = "configs/emojidet/tiny_tree.py"
MODELS = ["tiny_tree: model_inference.pth", "tiny_sa: model_inference.pth"]
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)
DRIVER = shutil.which("chromedriver")


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    return save_tiny(tmp_path_factory.mktemp("trained"))


@pytest.fixture
def picture(tmp_path):
    image = np.random.default_rng(0).integers(0, 256, (64, 80, 3), dtype=np.uint8)
    write_image(tmp_path / "picture.png", image)
    return tmp_path / "picture.png"


# ---- the server


@contextlib.contextmanager
def serving(scratch, weights, *more):
    """The command's server in a process of its own; its address."""
    command = [sys.executable, "-W", "ignore", "projects_tools/web_demo.py", "--port", "0"]
    command += ["--device", "cpu", "--weights", *map(str, weights), *more]
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1", "TMPDIR": str(scratch)},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        line = process.stdout.readline()
        found = re.match(r"http://127\.0\.0\.1:\d+", line)
        assert found, line
        yield found[0]
        process.terminate()
        process.wait(timeout=30)
        assert not list(scratch.glob("cqdino_web_*")), "uploads stay behind"
    finally:
        process.kill()
        process.wait()


@pytest.fixture(scope="module")
def server(weights, tmp_path_factory):
    other = save_tiny(tmp_path_factory.mktemp("other"), "sa")
    configs = ["--config-file", CONFIG, CONFIG.replace("tree", "sa"), "--max-upload", "200kb"]
    with serving(tmp_path_factory.mktemp("uploads"), (weights, other), *configs) as address:
        yield address


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
    """Calls the page's function of so many inputs with a file of the server; its messages."""
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


def test_no_file_of_the_machine_is_served(server, weights, picture):
    for path in ("/etc/passwd", str(ROOT / "README.md"), "README.md", "setup.py", str(weights)):
        status, text, _ = fetch(f"{server}/gradio_api/file={path}")
        assert status in (403, 404), (path, status)
        assert "root:" not in text and "CQ-DINO" not in text
    for path in ("/etc/passwd", picture, "http://127.0.0.1:9/a.png"):
        told = run_look(server, path)
        assert '"success":false' in told
        assert "Onlyuploadedimages" in told and str(path) not in told


def test_an_upload_is_looked_at_and_a_large_one_is_refused(server, picture):
    status, text = upload(server, picture.read_bytes())
    assert status == 200
    path = json.loads(text)[0]
    assert '"success":true' in run_look(server, path)
    shown = run_show(server, path)
    assert '"success":true' in shown and "160boxes" in shown
    assert "notkeptherea" in run_show(server, path, session="another")
    status, text = upload(server, bytes(300_000))
    assert status == 413


def test_pages_of_other_origins_are_refused(server, picture):
    before = json.loads(upload(server, picture.read_bytes())[1])
    assert Path(before[0]).is_file()
    evil = {"Origin": "http://evil.example", "Content-Type": "application/json"}
    for path in ("upload", "queue/join", "cancel"):
        assert fetch(f"{server}/gradio_api/{path}", b"{}", **evil)[0] == 403
    own = {"Origin": server, "Content-Type": "application/json"}
    assert fetch(f"{server}/gradio_api/queue/join", b"{}", **own)[0] == 400
    deep = fetch(f"{server}/gradio_api/deep_link?session_hash=abc")
    assert deep[0] == 404 and not list(Path(before[0]).parents[1].glob("deep_links"))
    assert fetch(f"{server}/gradio_api/file=http://127.0.0.1:9/a.png")[0] == 404


def disk_total(folder):
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def test_the_disk_has_a_total_and_uploads_a_rate(weights, tmp_path):
    limits = ["--config-file", CONFIG, "--max-upload", "200kb", "--max-disk", "1mb"]
    rng, answers, totals, names = np.random.default_rng(0), [], [], []
    with serving(tmp_path, (weights,), *limits) as address:
        for _ in range(40):
            status, text = upload(address, rng.bytes(150_000))
            answers.append(status)
            totals.append(disk_total(tmp_path))
            names += json.loads(text) if status == 200 else []
        kept = [name for name in names if Path(name).is_file()]
    with serving(tmp_path, (weights,), *limits) as address:
        for count in (2, 100):
            status, text = upload(address, *[rng.bytes(2000)] * count)
            assert (status, text) == (413, "A request may bring one file.")
        assert disk_total(tmp_path) == 0  # what had arrived is deleted
    assert answers == [200] * 30 + [429] * 10
    assert 600_000 < max(totals) <= 2**20
    assert kept == names[-len(kept) :] and 4 <= len(kept) <= 6  # the newest


def test_drawn_images_count_as_well(weights, tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (600, 800, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "noise.jpg", quality=30)
    limits = ["--config-file", CONFIG, "--max-upload", "1mb", "--max-disk", "4mb"]
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    with serving(scratch, (weights,), *limits) as address:
        for run in range(8):
            path = json.loads(upload(address, (tmp_path / "noise.jpg").read_bytes())[1])[0]
            assert '"success":true' in run_look(
                address, path, "tiny_tree", session=f"session-{run}"
            )
            assert '"success":true' in call(
                address, 3, path, run / 1000, 4, session=f"session-{run}"
            )
            # the one that was drawn last comes after the folder was tidied
            assert disk_total(scratch) <= 4 * 2**20 + 1.5e6


def test_the_page_stays_among_itself(server):
    status, _, headers = fetch(server)
    assert status == 200 and "default-src 'self'" in headers["Content-Security-Policy"]
    assert fetch(server, Host="evil.example")[0] == 400
    assert str(ROOT) not in fetch(f"{server}/config")[1]
    assert fetch(f"{server}/docs")[0] == fetch(f"{server}/openapi.json")[0] == 404


# ---- the page in a browser


def in_a_browser(test):
    """Skips the test where there is no browser or nothing to drive it."""
    no_driver = importlib.util.find_spec("selenium") is None
    test = pytest.mark.skipif(no_driver, reason="selenium is not installed")(test)
    missing = "no headless browser: apt-get install chromium chromium-driver"
    return pytest.mark.skipif(not (CHROMIUM and DRIVER), reason=missing)(test)


@pytest.fixture
def browser():
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for argument in ("headless=new", "disable-dev-shm-usage", "disable-gpu", "no-first-run"):
        options.add_argument(f"--{argument}")
    options.add_argument("--window-size=1360,1150")
    if os.geteuid() == 0:
        options.add_argument("--no-sandbox")
    options.set_capability("goog:loggingPrefs", {"performance": "ALL"})
    service = webdriver.ChromeService(executable_path=DRIVER)
    driver = webdriver.Chrome(options=options, service=service)
    yield driver
    driver.quit()


class Page:
    """The page as a user sees it."""

    def __init__(self, browser, url):
        from selenium.webdriver.support.ui import WebDriverWait

        self.browser, self.wait = browser, WebDriverWait(browser, 60)
        browser.get(url)
        self.field("#upload input[type=file]")

    def field(self, selector):
        return self.wait.until(lambda b: b.find_elements("css selector", selector))[0]

    def type(self, selector, text):
        self.field(selector).send_keys("\ue009a\ue000" + text)  # control-a, then over it

    def text(self, selector):
        """Of all that fits; read in one go, as the page may replace it at any time."""
        script = "return [...document.querySelectorAll(arguments[0])].map(e => e.innerText)"
        return "\n".join(self.browser.execute_script(script, selector))

    def wait_for(self, selector, pattern):
        try:
            self.wait.until(lambda b: re.search(pattern, self.text(selector)))
        except Exception as error:
            raise AssertionError(f"{pattern!r} not in {self.text(selector)[:2000]!r}") from error

    def foreign_requests(self):
        messages = [
            json.loads(e["message"])["message"] for e in self.browser.get_log("performance")
        ]
        sent = [m["params"] for m in messages if m["method"] == "Network.requestWillBeSent"]
        urls = [params["request"]["url"] for params in sent]
        assert urls
        here = ("http://127.0.0.1:", "data:", "blob:", "chrome:")
        return [url for url in urls if not url.startswith(here)]


@in_a_browser
def test_the_page_in_a_browser(server, browser, picture, tmp_path):
    page = Page(browser, server)
    page.field("#upload input[type=file]").send_keys(str(picture))
    page.field("#drawn img")
    page.wait_for("#summary", r"boxes? of score 0\.30 or more, among 8 selected of 40 categories")
    page.type("#threshold input[type=number]", "0\t")
    page.wait_for("#summary", r"160 boxes of score 0\.00")
    assert page.text("#selected .above").count("category 0") > 0

    artifacts = Path(os.environ.get("CQDINO_ARTIFACTS") or tmp_path)
    artifacts.mkdir(parents=True, exist_ok=True)
    assert browser.save_screenshot(str(artifacts / "web_demo.png"))
    with Image.open(artifacts / "web_demo.png") as shot:
        assert len(shot.convert("RGB").getcolors(1 << 24)) > 1000

    before = page.text("#boxes")
    page.field("#model input").click()
    page.field("#model li:nth-child(2), ul[role=listbox] li:nth-child(2)").click()
    page.wait.until(lambda _: page.text("#boxes") != before)
    assert page.field("#model input").get_attribute("value") == MODELS[1]

    page.type("#depth input[type=number]", "1\t")
    page.wait_for("#boxes td:first-child", r"^(category 0\n?)+$")
    page.type("#words textarea", "category 2")
    page.field("#look").click()
    page.wait_for("#summary", "among 8 selected of 8 categories")
    page.type("#words textarea", "categry 17")
    page.field("#look").click()
    page.wait_for("body", "there is no category 'categry 17': did you mean 'category 17'")
    assert page.foreign_requests() == []


@in_a_browser
def test_a_file_that_is_no_picture_in_a_browser(server, browser, tmp_path):
    page = Page(browser, server)
    (tmp_path / "text.png").write_text("no picture")
    page.field("#upload input[type=file]").send_keys(str(tmp_path / "text.png"))
    page.wait_for("body", "This file cannot be read as an image")
    assert "/tmp" not in page.text("body") and str(tmp_path) not in page.text("body")


@in_a_browser
def test_a_model_that_reads_words_in_a_browser(weights, browser, picture, tmp_path):
    config, trained = save_prompted(tmp_path, max_tokens=11)
    configs = ["--config-file", str(config), CONFIG]
    with serving(tmp_path, (trained, weights), *configs) as server:
        page = Page(browser, server)
        page.wait_for("#words", "Look for")
        page.type("#words textarea", "a red cat. two dog.")
        page.field("#upload input[type=file]").send_keys(str(picture))
        page.wait_for("#summary", r"of score 0\.30 or more, among 2 phrases")
        assert set(page.text("#boxes td:first-child").split("\n")) <= {"a red cat", "two dog"}
        assert not page.text("#selected") and not page.text("#count")
        artifacts = Path(os.environ.get("CQDINO_ARTIFACTS") or tmp_path)
        assert browser.save_screenshot(str(artifacts / "web_demo_words.png"))
        page.type("#words textarea", " ")
        page.field("#look").click()
        page.wait_for("body", "Say what to look for")
        page.field("#model input").click()
        page.field("#model li:nth-child(2), ul[role=listbox] li:nth-child(2)").click()
        page.wait_for("#words", "Find only")
        page.wait_for("#summary", "among 8 selected of 40 categories")
        assert page.foreign_requests() == []


@pytest.fixture(scope="module")
def marked_up(tmp_path_factory):
    """A server whose categories bear names that are markup."""
    trained = save_tiny(tmp_path_factory.mktemp("marked_up"))
    path = trained.with_name("vocabulary.json")
    content = json.loads(path.read_text(encoding="utf-8"))
    evil = "<img src=x onerror=\"document.title='HACKED'\">"
    content["names"] = [f"{evil} {place}" for place in range(len(content["names"]))]
    path.write_text(json.dumps(content), encoding="utf-8")
    scratch = tmp_path_factory.mktemp("uploads")
    with serving(scratch, (trained,), "--config-file", CONFIG) as address:
        yield address


@in_a_browser
def test_names_are_no_markup_in_a_browser(marked_up, browser, picture):
    page = Page(browser, marked_up)
    page.field("#upload input[type=file]").send_keys(str(picture))
    page.type("#threshold input[type=number]", "0\t")
    page.wait_for("#boxes", "<img src=x")
    page.type("#words textarea", "<img src=x onerror=\"document.title='HACKED'\"> 4O")
    page.field("#look").click()
    page.wait_for("body", "there is no category '<img src=x .*did you mean '<img src=x")
    assert browser.execute_script("return document.querySelectorAll('img[src=x]').length") == 0
    assert browser.title == "CQ-DINO"
