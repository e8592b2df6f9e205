"""What the page keeps of its visitors."""

import shutil
import time
import types

import numpy as np
import pytest

from cqdino_d2.serving.limits import PageLimits, SharedLimits
from cqdino_d2.serving.models import Models
from cqdino_d2.serving.upload_folder import UploadFolder
from cqdino_d2.visualization.media import write_image
from tests.prediction.test_category_predictor import load, save_tiny

pytest.importorskip("gradio", reason="the web page needs gradio, which is not installed")
pytest.importorskip("httpx", reason="starlette's test client needs httpx")

import gradio as gr
from starlette.testclient import TestClient

from cqdino_d2.serving import web_app
from cqdino_d2.serving.page import PageFunctions, build_page

JOIN, ANSWERS = "/gradio_api/queue/join", "/gradio_api/queue/data?session_hash="


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    return Models(
        {"tiny": load(save_tiny(tmp_path_factory.mktemp("trained")))},
        limits=SharedLimits(pixels=10**6),
    )


def test_what_is_kept_of_sessions_is_bounded(models, tmp_path, monkeypatch):
    pages = []
    monkeypatch.setattr(
        web_app, "build_page", lambda *given: pages.append(build_page(*given)) or pages[-1]
    )
    limits = PageLimits(sessions=4)
    app = web_app.make_page_app(models, folder=tmp_path, limits=limits, is_local=True).app
    (page,) = pages
    queue, place = page._queue, next(f._id for f in page.fns.values() if len(f.inputs) == 1)
    with TestClient(app, "http://127.0.0.1") as client:
        for number in range(12):
            session = f"session-{number}"
            call = {"data": ["tiny"], "fn_index": place, "session_hash": session}
            assert client.post(JOIN, json=call).status_code == 200
            if number % 2:  # the others do not fetch their answers
                told = client.get(ANSWERS + session).text
                assert '"success":true' in told.replace(" ", "")
        until = time.monotonic() + 30
        while queue.event_ids_to_events and time.monotonic() < until:
            time.sleep(0.01)  # an answer is there a little before its event is forgotten
        kept = [queue.pending_messages_per_session, queue.pending_event_ids_session]
        assert [len(one) for one in [*kept, queue.event_ids_to_events]] == [4, 4, 0]


def test_an_image_that_the_disk_has_no_room_for(models, tmp_path, monkeypatch):
    image = np.random.default_rng(0).integers(0, 256, (64, 80, 3), dtype=np.uint8)
    write_image(tmp_path / "picture.png", image)
    uploads = UploadFolder(tmp_path / "up", most_bytes=10**6, keep_seconds=100)
    page, visitor = (
        PageFunctions(models, PageLimits(), uploads),
        types.SimpleNamespace(session_hash="s"),
    )
    page.look(str(tmp_path / "picture.png"), "tiny", 8, "", True, visitor)
    assert page.show(str(tmp_path / "picture.png"), 0.3, 4, visitor)[0] is not None
    full = shutil.disk_usage("/")._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: full)
    with pytest.raises(gr.Error, match="disk is full"):
        page.show(str(tmp_path / "picture.png"), 0.3, 4, visitor)
