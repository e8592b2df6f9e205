"""The command of the web page; what it serves is tested in tests/serving."""

import sys

import pytest
import web_demo

from tests.prediction.test_category_predictor import save_tiny

CONFIG = "configs/emojidet/tiny_tree.py"


def test_what_cannot_be_served_is_said(monkeypatch, capsys):
    start = ["--config-file", CONFIG, "--port", "0", "--weights"]
    assert web_demo.main([*start, "gone.pth"]) == 2
    assert "gone.pth" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        web_demo.main(["--config-file", "a", "b", "--weights", "c"])
    for size, problem in (("15 parsecs", "expected a size"), ("200mb", "at least two must fit")):
        assert web_demo.main([*start, "gone.pth", "--max-upload", size]) == 2
        assert problem in capsys.readouterr().err
    for module in ("page", "web_app"):
        monkeypatch.delitem(sys.modules, f"cqdino_d2.serving.{module}", raising=False)
    monkeypatch.setitem(sys.modules, "gradio", None)
    assert web_demo.main([*start, "gone.pth"]) == 2
    assert "pip install gradio" in capsys.readouterr().err


def test_a_tagger_of_stage_1(tmp_path, capsys):
    tagger = str(save_tiny(tmp_path, "stage1"))
    start = ["--config-file", CONFIG.replace("tree", "stage1"), "--port", "0", "--weights", tagger]
    assert web_demo.main(start) == 2
    assert "is a tagger of stage 1, which finds no boxes" in capsys.readouterr().err
