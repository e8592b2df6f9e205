"""The web page: what its functions answer, what its server lets out, and the page in a browser."""

import contextlib
import dataclasses
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
import web_demo
from PIL import Image

from cqdino_d2.visualization.media import write_image
from tests.prediction.test_category_predictor import load, save_tiny

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


# ---- the functions behind the page


@pytest.fixture(scope="module")
def models(weights):
    from cqdino_d2.serving.page import Models

    return Models({"tiny": load(weights)}, max_pixels=6000)


def test_a_look_is_shown_in_several_ways(models, picture):
    look = models.look(str(picture), "tiny", 8, "", True)
    assert look.offered == 40 and look.image_rgb.shape == (64, 80, 3)
    drawn, summary, boxes, selected = models.show(look, 0.0, 4)
    assert drawn.shape == (640, 800, 3)
    assert "<b>160 boxes</b> of score 0.00" in summary and "8 selected of 40" in summary
    assert boxes.count("<tr>") == 161 and selected.count('class="fill"') == 8
    rolled = models.show(look, 0.0, 1)[2]
    assert set(re.findall(r"</span>(category \d+)</td>", rolled)) == {"category 0"}
    nothing = models.show(look, 1.0, 4)
    assert "<b>0 boxes</b>" in nothing[1] and "Try a lower threshold" in nothing[2]
    assert models.show(None, 0.5, 1) == (None, "", "", "")


def test_words_restrict_to_names_or_branches(models, picture):
    names = models.look(str(picture), "tiny", 40, "category 2; Category 37\n\n", False)
    assert sorted(names.result["selected_vocab_ids"].tolist()) == [2, 37]
    branch = models.look(str(picture), "tiny", 3, " category_2 ", True)
    assert branch.offered == 8 and len(branch.result["selected_vocab_ids"]) == 3
    assert models.look(None, "tiny", 8, "", True) is None


def test_users_errors_are_said_without_paths(models, picture, tmp_path):
    import gradio as gr

    with pytest.raises(gr.Error, match="no category 'categry 2': did you mean 'category 2"):
        models.look(str(picture), "tiny", 8, "categry 2", True)
    (tmp_path / "text.png").write_text("no picture")
    for unreadable in (tmp_path / "text.png", tmp_path / "gone.png"):
        with pytest.raises(gr.Error) as caught:
            models.look(str(unreadable), "tiny", 8, "", True)
        assert caught.value.message == "This file cannot be read as a picture."
    Image.new("1", (6001, 1)).save(tmp_path / "large.png")
    with pytest.raises(gr.Error, match=r"6001 x 1 pixels; at most 0\.006 million"):
        models.look(str(tmp_path / "large.png"), "tiny", 8, "", True)


def test_names_of_categories_are_no_markup(weights, picture):
    from cqdino_d2.serving.page import Models

    predictor = load(weights)
    names = tuple(f"<script>{i}</script>" for i in range(40))
    predictor.vocabulary = dataclasses.replace(predictor.vocabulary, names=names)
    models = Models({"tiny": predictor}, max_pixels=6000)
    shown = models.show(models.look(str(picture), "tiny", 8, "", True), 0.0, 4)
    assert "<script" not in "".join(shown[1:])
    assert "&lt;script&gt;" in shown[2] and "&lt;script&gt;" in shown[3]


# ---- the command


def test_names_of_models():
    assert web_demo.model_names(["c/a.py"], ["x/m.pth"]) == ["a"]
    names = web_demo.model_names(["c/a.py"] * 2, ["x/m.pth", "y/m.pth"])
    assert names == ["a: x/m.pth", "a: y/m.pth"]
    with pytest.raises(ValueError, match="given twice"):
        web_demo.model_names(["a.py"] * 2, ["m.pth"] * 2)


def test_what_cannot_be_served_is_said(monkeypatch, capsys):
    start = ["--config-file", CONFIG, "--port", "0", "--weights"]
    assert web_demo.main([*start, "gone.pth"]) == 2
    assert "gone.pth" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        web_demo.main(["--config-file", "a", "b", "--weights", "c"])
    monkeypatch.setitem(sys.modules, "gradio", None)
    assert web_demo.main([*start, "gone.pth"]) == 2
    assert "pip install gradio" in capsys.readouterr().err


# ---- the server


@pytest.fixture(scope="module")
def server(weights, tmp_path_factory):
    command = [sys.executable, "-W", "ignore", "projects_tools/web_demo.py", "--port", "0"]
    other = save_tiny(tmp_path_factory.mktemp("other"), "sa")
    command += ["--config-file", CONFIG, CONFIG.replace("tree", "sa"), "--device", "cpu"]
    command += ["--weights", str(weights), str(other)]
    command += ["--max-upload", "200kb"]
    scratch = tmp_path_factory.mktemp("uploads")
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


def fetch(url, body=None, **headers):
    """Status and text, headers; of errors, too."""
    request = urllib.request.Request(url, body, headers)
    with contextlib.ExitStack() as stack:
        try:
            answer = stack.enter_context(urllib.request.urlopen(request, timeout=60))
        except urllib.error.HTTPError as error:
            answer = error
        return answer.status, answer.read().decode(errors="replace"), answer.headers


def upload(server, content, name="a.png"):
    edge = "edge"
    head = f'--{edge}\r\nContent-Disposition: form-data; name="files"; filename="{name}"\r\n\r\n'
    body = head.encode() + content + f"\r\n--{edge}--\r\n".encode()
    kind = f"multipart/form-data; boundary={edge}"
    return fetch(f"{server}/gradio_api/upload", body, **{"Content-Type": kind})[:2]


def run_look(server, path):
    """Asks the page's function for a look at a file of the server; returns its messages."""
    config = json.loads(fetch(f"{server}/config")[1])
    place = next(d["id"] for d in config["dependencies"] if len(d["inputs"]) == 5)
    file = {"path": str(path), "meta": {"_type": "gradio.FileData"}, "orig_name": "a.png"}
    call = {"data": [file, MODELS[0], 8, "", True], "fn_index": place, "session_hash": "abc"}
    join = f"{server}/gradio_api/queue/join"
    status, text, _ = fetch(join, json.dumps(call).encode(), **{"Content-Type": "application/json"})
    assert status == 200, text
    return fetch(f"{server}/gradio_api/queue/data?session_hash=abc")[1]


def test_no_file_of_the_machine_is_served(server, weights, picture):
    for path in ("/etc/passwd", str(ROOT / "README.md"), "README.md", "setup.py", str(weights)):
        status, text, _ = fetch(f"{server}/gradio_api/file={path}")
        assert status in (403, 404), (path, status)
        assert "root:" not in text and "CQ-DINO" not in text
    for path in ("/etc/passwd", picture, "http://127.0.0.1:9/a.png"):
        told = run_look(server, path)
        assert '"success":false' in told.replace(" ", "")
        assert "Only uploaded pictures" in told and str(path) not in told


def test_an_upload_is_looked_at_and_a_large_one_is_refused(server, picture):
    status, text = upload(server, picture.read_bytes())
    assert status == 200
    told = run_look(server, json.loads(text)[0])
    assert '"success":true' in told.replace(" ", "")
    status, text = upload(server, bytes(300_000))
    assert status == 413


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
            raise AssertionError(f"{pattern!r} not in {self.text(selector)!r}") from error

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
    page.wait_for("body", "This file cannot be read as a picture")
    assert "/tmp" not in page.text("body") and str(tmp_path) not in page.text("body")
