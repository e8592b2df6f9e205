"""The tables of docs/serving.md and docs/web_page.md say what the code holds to."""

import re
from pathlib import Path

import pytest

pytest.importorskip("fastapi", reason="the server needs fastapi, which is not installed")
pytest.importorskip("prometheus_client", reason="the server needs it, and it is not installed")

from cqdino_d2.serving.api.detection import LARGEST_JPEG_SIDE
from cqdino_d2.serving.api.metrics import Metrics
from cqdino_d2.serving.api.schema import MOST_NAMES, DetectRequest
from cqdino_d2.serving.limits import ApiLimits, PageLimits
from cqdino_d2.serving.runner import Batching

DOCS = Path(__file__).resolve().parents[2] / "docs"
MB = 2**20


def rows(page, title):
    """Columns of the first table below a title; the head and the rule are left out."""
    text = (DOCS / page).read_text(encoding="utf-8").partition(f"\n## {title}\n")[2]
    lines = text[text.index("\n|") :].strip().partition("\n\n")[0].splitlines()
    cells = [re.split(r"(?<!\\)\|", line)[1:-1] for line in lines[2:]]
    return [[cell.strip() for cell in row] for row in cells]


def test_the_fields_of_a_request():
    table = rows("serving.md", "Ask")
    named = [name for row in table for name in re.findall(r"`(\w+)`", row[0])]
    assert sorted(named) == sorted(DetectRequest.model_fields)
    (threshold,) = (row[1] for row in table if "`threshold`" in row[0])
    assert f"({DetectRequest.model_fields['threshold'].default})" in threshold
    kinds = DetectRequest.model_fields["answer"].annotation.__args__
    (answer,) = (row[1] for row in table if row[0] == "`answer`")
    assert all(f"`{kind}`" in answer for kind in kinds)


def limits_of_the_api():
    limits, batching = ApiLimits(), Batching()
    return {
        "an image file": f"({limits.upload_bytes // MB} MB)",
        "an image": f"({limits.pixels // 10**6} million)",
        "bodies under way": f"{limits.bytes_at_once // MB} MB; {limits.pixels_at_once // 10**6} ",
        "requests that wait": f"({batching.queue})",
        "the wait for an answer": f"({limits.answer_seconds:.0f} s)",
        "the time of an upload": f"{limits.upload_seconds:.0f} s",
        "requests of one address": f"({limits.requests_per_minute} a minute)",
        "names with synonyms": f"{limits.names}; {limits.characters}; {limits.num_selected}",
        "`only`, `branches`": f"{MOST_NAMES} categories each",
        "a side of an image": f"{LARGEST_JPEG_SIDE:,} pixels",
        "a body of `/healthz`": "none",
        "connections": f"{limits.connections}",
    }


def limits_of_the_page():
    limits = PageLimits()
    minute = "a minute"
    return {
        "one upload": f"({limits.upload_bytes // MB} MB)",
        "one image": f"({limits.pixels // 10**6} million)",
        "all uploads and drawn": f"({limits.disk_bytes // MB} MB)",
        "their age": {3600: "one hour"}[limits.keep_seconds],
        "uploads of one address": f"{limits.uploads_per_minute} {minute}, "
        f"{limits.client_bytes // MB} MB an hour, {limits.uploads_at_once} at the same time",
        "the time of an upload": f"{limits.upload_seconds / 60:.0f} minutes",
        "uploads of all": f"{limits.uploads_per_minute_in_all} {minute}",
        "runs of one address": f"{limits.runs_per_minute} {minute}",
        "runs that wait": "32",
        "decoded images": f"{limits.pixels_at_once // 10**6} million",
        "the wait for a model": f"{limits.answer_seconds:.0f} s",
        "results in memory": f"{limits.result_bytes // MB} MB, of {limits.sessions} sessions",
        "answers that a session": f"{limits.unread_answers}",
        "any other request": "64 kB; 2 kB",
    }


@pytest.mark.parametrize(
    ("page", "title", "expected"),
    [
        ("serving.md", "Limits", limits_of_the_api()),
        ("web_page.md", "Totals", limits_of_the_page()),
    ],
)
def test_the_limits(page, title, expected):
    table = rows(page, title)
    assert len(table) == len(expected)
    for (what, limit, _), (begin, told) in zip(table, expected.items(), strict=True):
        assert what.startswith(begin) and told in limit, (what, limit, told)


def test_the_counters():
    metrics = Metrics()
    metrics.count_request("/v1/detect", "POST", 200, 0.1, 10)
    metrics.count_batch("words", 2, 0.1)
    counted = metrics.text().decode()
    named = [name for row in rows("serving.md", "Watch") for name in re.findall(r"`(\w+)`", row[0])]
    assert len(named) == 6
    assert all(re.search(rf"^{name}(_bucket)?[{{ ]", counted, re.MULTILINE) for name in named)
