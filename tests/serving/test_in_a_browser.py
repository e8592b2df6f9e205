"""The page in a browser."""

import base64
import importlib.util
import json
import os
import re
import shutil
from pathlib import Path

import pytest
from PIL import Image

from tests.prediction.test_category_predictor import save_tiny
from tests.prompted import save_prompted
from tests.serving.web_server import CONFIG, MODELS, serving, serving_both

pytest.importorskip("gradio", reason="the web page needs gradio, which is not installed")
httpx = pytest.importorskip("httpx", reason="httpx is not installed")

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)
DRIVER = shutil.which("chromedriver")


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
    assert not page.field("#right").is_displayed()  # no empty column before the first result
    page.field("#upload input[type=file]").send_keys(str(picture))
    page.field("#drawn img")
    page.wait_for("#summary", r"boxes? of score 0\.30 or more, among 8 selected of 40 categories")
    page.wait.until(lambda _: page.field("#right").is_displayed())
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
def test_the_page_beside_the_api_in_a_browser(weights, browser, picture, tmp_path):
    """The token is its password, both use the same models, and an open page holds no server."""
    token = {"CQDINO_API_TOKEN": "choose-a-long-one"}
    with serving_both(tmp_path, {"first": weights, "second": weights}, **token) as place:
        here = place.removesuffix("/page/")
        browser.get(here)
        assert not browser.find_elements("css selector", "#upload")
        typed = base64.b64encode(b"anybody:choose-a-long-one").decode()  # when the browser asks
        browser.execute_cdp_cmd("Network.enable", {})
        headers = {"headers": {"Authorization": f"Basic {typed}"}}
        browser.execute_cdp_cmd("Network.setExtraHTTPHeaders", headers)
        page = Page(browser, place)
        page.field("#upload input[type=file]").send_keys(str(picture))
        page.field("#drawn img")
        page.wait_for("#summary", r"of score 0\.30 or more, among 8 selected of 40 categories")
        page.type("#words textarea", "category 2")
        page.field("#look").click()
        page.wait_for("#summary", "among 8 selected of 8 categories")
        headers = {"Authorization": "Bearer choose-a-long-one"}

        def runs(name):
            counted = httpx.get(f"{here}/metrics", headers=headers).text
            found = re.search(rf'batch_size_count{{model="{name}"}} (.*)', counted)
            return float(found[1]) if found else 0

        assert runs("first") == 2
        sent = {"image": picture.read_bytes()}
        answer = httpx.post(f"{here}/v1/detect", files=sent, headers=headers, timeout=60)
        assert answer.status_code == 200 and answer.json()["model"] == "first"
        assert (runs("first"), runs("second")) == (3, 0)
        page.field("#model input").click()
        page.field("#model li:nth-child(2), ul[role=listbox] li:nth-child(2)").click()
        page.wait.until(lambda _: runs("second") == 1)
        assert page.foreign_requests() == []
        artifacts = Path(os.environ.get("CQDINO_ARTIFACTS") or tmp_path)
        assert browser.save_screenshot(str(artifacts / "page_beside_api.png"))


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
        assert not page.field("#right").is_displayed() and not page.text("#count")
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


@in_a_browser
def test_refusals_are_one_line_in_a_browser(weights, browser, picture, tmp_path):
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    options = ["--config-file", CONFIG, "--max-upload", "200kb"]
    limits = {"runs_per_minute": 6, "uploads_per_minute": 1}
    with serving(scratch, (weights,), *options, **limits) as url:
        page = Page(browser, url)

        def send(path):
            page.field("#upload input[type=file]").send_keys(str(path))

        def told(text):
            page.wait_for(".toast-body", rf"Error\n([^\n]*\n)*{text}$")
            browser.execute_script("document.querySelector('.toast-close').click()")
            page.wait.until(lambda _: not page.text(".toast-body"))

        (tmp_path / "large.png").write_bytes(bytes(300_000))
        send(tmp_path / "large.png")
        told(r"File\(s\) exceed the maximum allowed size of 200.0 Kb: \"large.png\"")
        send(picture)
        page.wait_for("#summary", "among 8 selected")
        page.type("#words textarea", "x")
        browser.execute_script(
            "const e = document.querySelector('#words textarea'); e.value = 'x'.repeat(70000);"
            "e.dispatchEvent(new Event('input', {bubbles: true}))"
        )
        page.field("#look").click()
        told("At most 65,536 bytes can be sent at once.")
        page.type("#words textarea", "category 2")
        page.field("#look").click()
        page.wait_for("#summary", "among 8 selected")
        page.field("#look").click()
        told("Too many requests: try again in a minute.")
        page.field("#upload button[aria-label='Remove Image']").click()
        page.wait_for("#upload", "Drop Image Here")
        send(picture)
        told("HTTP 429: Too many uploads: try again in a minute.")


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
