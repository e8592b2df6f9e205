"""What cannot be exported is named, and what differs from the model is found."""

import numpy as np
import pytest
from torch import nn

from cqdino_d2.export import ExportableDetector, ExportError, ExportOptions
from cqdino_d2.export import check as export_check
from cqdino_d2.export.onnx import to_onnx
from cqdino_d2.export.tracing import trace
from tests.projects_tools.test_export import SMALL
from tests.tiny import tiny_model


@pytest.fixture(scope="module")
def model():
    return tiny_model(overrides=SMALL).eval()


class Stubborn(nn.Module):
    """Looks at values to decide what to do."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, maps):
        if maps[-1].abs().max().item() > 1e9:
            maps = [x / 2 for x in maps]
        return self.inner(maps)


def test_what_cannot_be_traced_is_named(model):
    detector = ExportableDetector(model)
    detector.model.neck = Stubborn(detector.model.neck)
    sizes = export_check.Sizes(((96, 128), (130, 100)), 33, 500)
    sample = export_check.make_sample(model, sizes.traced, 0)
    with pytest.raises(ExportError, match=r"its part neck \(Stubborn\) cannot be"):
        trace(detector, sample, sizes, static=False, reference_ops=True)


def test_differences_are_found(model):
    sample = export_check.make_sample(model, (96, 128), 0)
    boxes, scores, ids = export_check.reference_detections(model, sample.item)
    order = np.arange(len(scores))[::-1]
    assert export_check.compare((boxes, scores, ids), (boxes, scores, ids)) == (0, 1)
    shuffled = boxes[order], np.full_like(scores, scores[0]), ids[order]
    same = boxes, np.full_like(scores, scores[0]), ids
    assert export_check.compare(same, shuffled) == (0, 1)  # equal scores in any order
    assert export_check.compare((boxes, scores, ids), (boxes + 1, scores, ids)) == (0, 0)
    sizes = export_check.Sizes(((96, 128),), 33, 500)
    with pytest.raises(ExportError, match="does not compute what the model does .* in nothing"):
        export_check.check(model, lambda _: (boxes, scores * 0.9, ids), sizes, "nothing")


def test_a_comparison_compares_something(model, monkeypatch):
    nothing = np.zeros((0, 4)), np.zeros(0), np.zeros(0, int)
    one = np.zeros((1, 4)), np.zeros(1), np.zeros(1, int)
    two = np.zeros((2, 4)), np.zeros(2), np.zeros(2, int)
    with pytest.raises(ExportError, match="the model detects nothing"):
        export_check.compare(nothing, one)
    with pytest.raises(ExportError, match="1 detections in place of 2"):
        export_check.compare(two, one)


def test_missing_packages_are_named(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "onnxscript", None)
    with pytest.raises(ExportError, match="pip install onnx onnxruntime onnxscript"):
        to_onnx(None, ["image"])


def test_options_are_checked():
    with pytest.raises(ValueError, match=r"format must be one of .*, got 'onix'"):
        ExportOptions(format="onix")
    with pytest.raises(ValueError, match=r"runtimes must be some of .*, got \('tensorrt',\)"):
        ExportOptions(format="onnx", runtimes=("tensorrt",))
    with pytest.raises(ValueError, match="width must be positive, got 0"):
        ExportOptions(format="onnx", width=0)
