"""Exported files compute what the model does, on sizes they were not traced at."""

import hashlib
import json

import export
import numpy as np
import pytest
import torch

from cqdino_d2 import ops
from cqdino_d2.export import ExportedDetector, TextInputs, detector_file
from cqdino_d2.export import check as export_check
from cqdino_d2.export.exported import description_of
from cqdino_d2.export.runtimes import onnxruntime_runner, torch_runner
from cqdino_d2.structures import random_vocabulary
from tests.projects_tools.test_full_disk import full_disk
from tests.tiny import tiny_model

CONFIG = "configs/emojidet/tiny_tree.py"
SMALL = [
    *("model.backbone.channels=[8,16]", "model.backbone.strides=[4,2]", "model.neck.num_levels=2"),
    *("model.neck.in_channels=[8,16]", "model.selection.map_channels=16"),
    *("model.selection.num_layers=1", "model.encoder.num_layers=1", "model.decoder.num_layers=1"),
]
SIZES = ["--height", "96", "--width", "128"]


@pytest.fixture(scope="module")
def model():
    return tiny_model(overrides=SMALL).eval()


@pytest.fixture(scope="module")
def weights(model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("weights")
    torch.save({"model": model.state_dict()}, folder / "model.pth")
    random_vocabulary(40).save(folder / "vocabulary.json")
    return folder / "model.pth"


def arguments(weights, output, kind, *more):
    start = ["--config-file", CONFIG, "--weights", str(weights), "--format", kind]
    return [*start, "--output", str(output), *SIZES, *more, *SMALL]


def agrees(model, run, size, seed=5):
    sample = export_check.make_sample(model, size, seed)
    expected = export_check.reference_detections(model, sample.item)
    difference, share = export_check.compare(expected, run(sample.inputs))
    return difference < 1e-5 and share == 1


@pytest.mark.slow
def test_torch_export(model, weights, tmp_path, capsys):
    output = tmp_path / "new" / "detector.pt2"
    assert export.main(arguments(weights, output, "torch.export")) == 0
    assert capsys.readouterr().out.count("100.0% of the detections agree") == 3
    run = torch_runner(output.read_bytes())
    for size in ((70, 75), (150, 99)):
        assert agrees(model, run, size)
    facts = json.loads(description_of(output).read_text())
    assert facts["names"][3] == "category 3" and facts["dataset_ids"][3] == 4
    assert facts["outputs"]["boxes"][0] == len(run({"image": np.zeros((3, 80, 80), np.float32)})[1])
    assert facts["needs"] == ("import cqdino_d2.ops" if ops.backend() == "compiled" else None)


@pytest.mark.slow
def test_onnx(model, weights, tmp_path):
    for package in ("onnx", "onnxruntime", "onnxscript"):
        pytest.importorskip(package, reason=f"{package} is not installed")
    import onnx

    output = tmp_path / "detector.onnx"
    assert export.main(arguments(weights, output, "onnx")) == 0
    run = onnxruntime_runner(output.read_bytes())
    for size in ((70, 75), (150, 99)):
        assert agrees(model, run, size)
    made = onnx.load(output)
    operators = {node.op_type for node in made.graph.node}
    assert "GridSample" in operators and {node.domain for node in made.graph.node} == {""}
    assert not any("Sequence" in name for name in operators)  # TensorRT has none
    assert [opset.version for opset in made.opset_import] == [18]
    (image,) = made.graph.input
    sides = image.type.tensor_type.shape.dim
    assert sides[0].dim_value == 3 and sides[1].dim_param and sides[2].dim_param
    shapes = [list(tensor.dims) for tensor in made.graph.initializer]
    assert [40, 32] in shapes  # the category queries
    check_file_at_work(output)


def check_file_at_work(path):
    image = export_check.make_image((70, 75), seed=1).numpy()
    found = ExportedDetector(path, threads=1)(image)
    assert len(found.boxes) == len(found.scores) == len(found.names) > 0
    assert (np.diff(found.scores) <= 0).all()
    facts = json.loads(description_of(path).read_text())
    assert set(found.names) <= set(facts["names"])
    words = TextInputs(("cat",), {}, facts["checkpoint"])
    with pytest.raises(ValueError, match=r"detector\.onnx reads no words"):
        ExportedDetector(path)(image, [words])
    facts["input"] |= {"side_pixels": None, "shape": [3, 96, 128]}  # as --static writes it
    description_of(path).write_text(json.dumps(facts))
    with pytest.raises(ValueError, match="of exactly 96 x 128 pixels, got 70 x 75"):
        ExportedDetector(path)(image)


@pytest.mark.slow
def test_a_fixed_size(model, weights, tmp_path):
    output = tmp_path / "detector.pt2"
    assert (
        export.main(arguments(weights, output, "torch.export", "--static", "--reference-ops")) == 0
    )
    run = torch_runner(output.read_bytes())
    assert agrees(model, run, (96, 128))
    nodes = torch.export.load(output).graph.nodes
    assert not any("cqdino_d2" in str(node.target) for node in nodes)
    facts = json.loads(description_of(output).read_text())
    assert facts["needs"] is None and facts["input"]["shape"] == [3, 96, 128]
    with pytest.raises((RuntimeError, AssertionError)):
        run({"image": np.zeros((3, 90, 128), np.float32)})


def test_bad_input(weights, tmp_path, capsys):
    given = arguments(weights, tmp_path / "x.pt2", "torch.export", "--height", "20")
    assert export.main(given) == 2
    assert "20 x 128 pixels are too small" in capsys.readouterr().err
    given = arguments(tmp_path / "none.pth", tmp_path / "x.pt2", "torch.export")
    assert export.main(given) == 2
    assert "there is no checkpoint" in capsys.readouterr().err
    random = [*arguments(weights, tmp_path / "x.pt2", "onnx"), "model.selection.ranking=random"]
    assert export.main(random) == 2
    assert "cannot be exported" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
    (tmp_path / "folder.onnx").mkdir()
    for name, message in [("x.json", "description"), ("folder.onnx", "is a folder")]:
        assert export.main(arguments(weights, tmp_path / name, "onnx")) == 2
        assert message in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["folder.onnx"]


@pytest.fixture()
def quick_export(weights, tmp_path, monkeypatch):
    """Writes a given content in place of a traced model."""

    def made(name, content):
        monkeypatch.setattr(detector_file, "to_onnx", lambda *_: content)
        return export.main(arguments(weights, tmp_path / name, "onnx"))

    monkeypatch.setattr(detector_file, "trace", lambda *_, **__: None)
    monkeypatch.setitem(detector_file.RUNTIMES, "onnxruntime", lambda _: None)
    monkeypatch.setattr(detector_file, "check", lambda *_: [])
    return made


def test_each_file_has_its_own_description(quick_export, tmp_path):
    assert quick_export("a.onnx", b"first") == quick_export("a.second.onnx", b"second") == 0
    names = {"a.onnx", "a.onnx.json", "a.second.onnx", "a.second.onnx.json"}
    assert {path.name for path in tmp_path.iterdir()} == names
    assert quick_export("a.pt2", b"third") == 0
    for name, content in [("a.onnx", b"first"), ("a.pt2", b"third")]:
        facts = json.loads((tmp_path / f"{name}.json").read_text())
        assert (tmp_path / name).read_bytes() == content
        assert facts["sha256"] == hashlib.sha256(content).hexdigest()


@pytest.mark.parametrize("content, most", [(9000, 5000), (9, 100)], ids=["file", "description"])
def test_a_full_disk_leaves_both(quick_export, tmp_path, capsys, content, most):
    assert quick_export("a.onnx", b"first") == 0
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    assert 100 < len(before[tmp_path / "a.onnx.json"]) < 5000
    with full_disk(most):
        assert quick_export("a.onnx", bytes(content)) == 2
    assert "File too large" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_description_of_another_file_is_refused(quick_export, tmp_path):
    assert quick_export("a.onnx", b"first") == 0
    (tmp_path / "a.onnx").write_bytes(b"second")
    with pytest.raises(ValueError, match=r"a\.onnx is another file than .*a\.onnx\.json describes"):
        ExportedDetector(tmp_path / "a.onnx")
