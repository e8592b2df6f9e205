"""The server: what it lets out and in, and its totals under load."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.serving.web_server import (
    CONFIG,
    ROOT,
    call,
    fetch,
    run_look,
    run_show,
    serving,
    upload,
)

pytest.importorskip("gradio", reason="the web page needs gradio, which is not installed")


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
