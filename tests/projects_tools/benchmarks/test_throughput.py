"""The benchmark over folders of photographs, with a detector that looks at nothing."""

import numpy as np
import pytest
import torch
from benchmarks import throughput
from PIL import Image


@pytest.mark.parametrize("overlap", [False, True])
def test_every_photograph_is_looked_at_once_and_written_with_its_boxes(tmp_path, overlap):
    (tmp_path / "in").mkdir()
    throughput.make_photographs(tmp_path / "in", 5)
    paths = sorted((tmp_path / "in").glob("*.jpg"))
    sizes, batches = [], []

    def find(inputs):
        batches.append(len(inputs))
        sizes.extend(shape for shape in inputs)
        return [[(100, 100, 300, 300)]] * len(inputs)

    detector = throughput.Detector(torch.nn.Identity(), "any", lambda image: image.shape, find)
    throughput.run(detector, paths, tmp_path / "out", 2, overlap)
    assert batches == [2, 2, 1]
    assert sizes == [(640, 480, 3), *[(480, 640, 3)] * 3, (640, 480, 3)]
    for path in paths:
        drawn = np.asarray(Image.open(tmp_path / "out" / path.name), int)
        given = np.asarray(Image.open(path), int)
        assert drawn.shape == given.shape
        assert np.abs(drawn - given)[100, 150:250].max() > 50  # the box's upper side


def test_the_best_boxes_are_corners_in_pixels():
    logits = torch.tensor([[0.0, 1.0], [5.0, 0.0], [-9.0, -9.0]])
    boxes = torch.tensor([[0.5, 0.5, 1.0, 1.0], [0.25, 0.5, 0.5, 0.2], [0.1, 0.1, 0.1, 0.1]])
    first, second, _ = throughput.best_boxes(logits, boxes, (100, 200))
    assert first == pytest.approx([0, 40, 100, 60]) and second == pytest.approx([0, 0, 200, 100])


def test_what_is_not_installed_says_how_to_install_it(monkeypatch):
    said = "ModuleNotFoundError: No module named 'rfdetr'"
    monkeypatch.setattr(throughput, "figures_of_process", lambda _: {"failure": said})
    given = throughput.parse_arguments(["--images", "2"])
    figures = throughput.in_a_process("rfdetr base", given)
    assert figures == {"failure": "not installed: pip install rfdetr"}
    assert throughput.cells(figures)[:3] == ["–"] * 3
