"""The documentation as a site: built with warnings as errors, from the sources alone."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
# The reference is read from the sources: neither of these may be imported for it.
WITHOUT = "import sys; sys.modules |= dict.fromkeys(['torch', 'detectron2', 'cqdino_d2'])\n"
BUILD = WITHOUT + "from mkdocs.__main__ import cli; cli()"
LOADED = re.compile(r'<(?:script|img|link|iframe)\b[^>]*?(?:src|href)="((?:https?:)?//[^"]+)"')


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    pytest.importorskip("mkdocs", reason="mkdocs is not installed")
    pytest.importorskip("mkdocstrings", reason="mkdocstrings is not installed")
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-c", BUILD, "build", "--strict", "--site-dir", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def test_every_page_is_in_the_site(site):
    pages = {path.relative_to(ROOT / "docs") for path in (ROOT / "docs").rglob("*.md")}
    assert len(pages) > 25
    assert [str(page) for page in pages if not (site / page.with_suffix(".html")).is_file()] == []


def test_every_notebook_is_a_page_and_a_file(site):
    notebooks = sorted((ROOT / "docs/notebooks").glob("*.ipynb"))
    assert notebooks
    for notebook in notebooks:
        page = (site / "notebooks" / f"{notebook.stem}.html").read_text("utf-8")
        assert f'href="{notebook.name}"' in page
        assert page.count('<div class="highlight"') == notebook.read_text("utf-8").count('"code"')
        assert (site / "notebooks" / notebook.name).read_bytes() == notebook.read_bytes()
    assert not list(site.rglob("*.py"))


def test_nothing_is_loaded_from_other_hosts(site):
    pages = list(site.rglob("*.html"))
    found = {(page.name, url) for page in pages for url in LOADED.findall(page.read_text("utf-8"))}
    assert found == set()
    assert LOADED.findall(
        '<link rel="x" href="https://a.b/c.css"><script src="//d.e"></script>'
    ) == [
        "https://a.b/c.css",
        "//d.e",
    ]


@pytest.mark.parametrize(
    ("page", "names"),
    [
        (
            "prediction",
            ["cqdino_d2.prediction.CategoryPredictor.batch", "prediction.TextPredictor"],
        ),
        ("evaluation", ["cqdino_d2.evaluation.score", "cqdino_d2.reports.write_report"]),
        ("structures", ["cqdino_d2.structures.ClassSlots", "structures.stages.BoxDecoder"]),
        ("model", ["cqdino_d2.detector.CQDINO", "cqdino_d2.ops.multi_scale_deformable_attention"]),
    ],
)
def test_the_reference_has_what_is_public(site, page, names):
    text = (site / f"reference/{page}.html").read_text("utf-8")
    assert [name for name in names if f'{name}"' not in text] == []


def test_the_search_finds_words_of_pages_and_docstrings(site):
    index = json.loads((site / "search/search_index.json").read_text("utf-8"))
    text = " ".join(entry["title"] + " " + entry["text"] for entry in index["docs"])
    for word in ("quickstart", "ClassSlots", "CategoryPredictor", "lvis-fixed"):
        assert word in text, word
