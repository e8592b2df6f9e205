"""The command on a checkpoint of the released form: golden weights, and a random backbone."""

import json
import sys

import check_parity
import convert_checkpoint
import pytest
import torch
from detectron2.config import LazyCall, LazyConfig
from detectron2.engine import DefaultPredictor
from parity.fixture import ParityFixture

from cqdino_d2.categories import CategorySelfAttention
from cqdino_d2.checkpoint import ConversionReport, convert_released_weights
from cqdino_d2.conversion.model_file import build_on_meta
from cqdino_d2.engine import load_config
from cqdino_d2.prediction import get_predictor_cfg
from cqdino_d2.structures import load_vocabulary, random_vocabulary
from tests.golden_files import GOLDEN
from tests.projects_tools.test_check_parity import FIXTURES, FOLDER
from tests.tiny import ROOT


def released_state(fixture):
    """The fixture's weights; a backbone that it lacks is drawn at random."""
    generator = torch.Generator().manual_seed(0)
    state = {name: fixture.tensor(f"sd/{name}") for name in fixture.names("sd/")}
    for name, (shape, kind) in fixture.about.get("backbone_weights", {}).items():
        values = torch.randn(shape, generator=generator) * 0.1
        state[name] = values if kind == "float32" else torch.zeros(shape, dtype=torch.int64)
    return state


@pytest.fixture
def released(tmp_path):
    """A folder with a released-like checkpoint, its config and its annotation and tree files."""
    return write_released(tmp_path, ParityFixture.load(GOLDEN / "tree_no_backbone.json"))


def write_released(folder, fixture):
    torch.save({"meta": {"epoch": 24}, "state_dict": released_state(fixture)}, folder / "in.pth")
    fixture.vocabulary().save(folder / "given.json")
    cfg = fixture.config(LazyCall(load_vocabulary)(path=str(folder / "given.json")))
    cfg.dataloader.test.mapper.augmentations = []  # pictures stay as they are
    LazyConfig.save(cfg, str(folder / "config.yaml"))
    return folder


def convert(folder, *more, output="out/model.pth"):
    arguments = [folder / "in.pth", "--config-file", folder / "config.yaml"]
    return convert_checkpoint.main(
        [str(a) for a in [*arguments, "--output", folder / output, *more]]
    )


def test_a_checkpoint_is_converted_and_predicts(released, capsys):
    assert convert(released) == 0
    out = capsys.readouterr().out
    assert "level_embed -> tokenizer.level_embedding" in out and "UNEXPLAINED" not in out
    assert "patch merging's channels: microsoft" in out
    weights = torch.load(released / "out/model.pth", weights_only=True)["model"]
    recorded = ParityFixture.load(GOLDEN / "tree_no_backbone.json").tensor("sd/level_embed")
    assert torch.equal(weights["tokenizer.level_embedding"], recorded)
    cfg = get_predictor_cfg(released / "config.yaml", weights=released / "out/model.pth")
    picture = torch.randint(0, 256, (60, 90, 3), dtype=torch.uint8).numpy()
    found = DefaultPredictor(cfg)(picture)["instances"]
    assert len(found) == 50 and found.scores.isfinite().all()


def test_weights_of_the_denoising_that_the_release_lacks_are_made(released):
    content = "cqdino_d2.transformer.CategoryContent"
    cfg = LazyConfig.load(str(released / "config.yaml"))
    cfg.model.denoising.content = {"_target_": content, "dim": 32}
    LazyConfig.save(cfg, str(released / "config.yaml"))
    assert convert(released) == 0
    first = torch.load(released / "out/model.pth", weights_only=True)["model"]
    get_predictor_cfg(released / "config.yaml", weights=released / "out/model.pth")
    assert convert(released) == 0
    second = torch.load(released / "out/model.pth", weights_only=True)["model"]
    name = "denoising.content.not_selected"
    assert first[name].shape == (32,) and torch.equal(first[name], second[name])


def test_what_is_left_over_stops_the_conversion(released, capsys):
    content = torch.load(released / "in.pth", weights_only=True)
    content["state_dict"]["surprise"] = torch.zeros(1)
    del content["state_dict"]["text_feat_map.bias"]
    torch.save(content, released / "in.pth")
    assert convert(released) == 1
    captured = capsys.readouterr()
    assert "surprise  (UNEXPLAINED)" in captured.out
    assert "selection.output_projection.bias  (UNEXPLAINED)" in captured.out
    assert "in.pth does not fit" in captured.err
    assert not (released / "out").exists()


def test_another_variant_and_size_are_told(released, capsys):
    assert convert(released, "model.query_selection.num_queries=30") == 1
    assert "object queries: the checkpoint has 20, the config expects 30" in capsys.readouterr().out
    cfg = LazyConfig.load(str(released / "config.yaml"))
    cfg.model.categories.relation = LazyCall(CategorySelfAttention)(dim=64)
    LazyConfig.save(cfg, str(released / "config.yaml"))
    assert convert(released, "model.backbone.model_args.window_size=6") == 1
    captured = capsys.readouterr()
    assert "relation: the checkpoint has no self-attention (the tree variant)" in captured.out
    assert "windows of 4, the config expects Swin of width 16, depths 1-1-2-1, windows of 6" in (
        captured.out
    )
    assert "real attention over the categories" in captured.err


def test_categories_from_other_files(released, capsys):
    tree = {
        "categoryid2treeid": {str(i): f"n{i}" for i in range(40)},
        "id2name": {f"n{i}": f"name {i}" for i in range(40)},
        "father2child": {"n1": ["n2", "n3"]},
        "child2father": {},
    }
    (released / "tree.json").write_text(json.dumps(tree))
    assert convert(released, "--category-tree", released / "tree.json") == 0
    vocabulary = load_vocabulary(released / "out/vocabulary.json")
    assert vocabulary.names[:2] == ("name 0", "name 1")
    assert vocabulary.hierarchy.category_children[1].tolist() == [2, 3]

    categories = [{"id": i, "name": f"thing {i}"} for i in range(1, 41)]
    (released / "gt.json").write_text(json.dumps({"categories": categories}))
    flat = ["--annotations", released / "gt.json"]
    assert convert(released, *flat) == 1
    assert "40 categories has no tree" in capsys.readouterr().err
    known = {str(i): f"n{i}" for i in range(1, 41)}
    (released / "tree.json").write_text(json.dumps(tree | {"categoryid2treeid": known}))
    both = [*flat, "--category-tree", released / "tree.json"]
    assert convert(released, *both) == 2
    assert "has other categories" in capsys.readouterr().err  # in the folder of the first
    assert convert(released, *both, output="other/model.pth") == 0
    assert load_vocabulary(released / "other/vocabulary.json").names[0] == "thing 1"


def test_embedding_files(released, capsys):
    names = load_vocabulary(released / "given.json").names
    path = released / "emb.pth"
    torch.save({"embeddings": torch.rand(40, 64), "categories": list(names)}, path)
    assert convert(released, "--category-embeddings", path) == 0
    torch.save({"embeddings": torch.rand(40, 64), "categories": ["x"] * 40}, path)
    assert convert(released, "--category-embeddings", path) == 2
    assert "row 0: 'x' found, 'category 00' expected" in capsys.readouterr().err

    torch.save({"embeddings": torch.rand(40, 64), "categories": list(names)}, released / "in.pth")
    assert convert(released, output="embeddings.pth") == 0
    written = torch.load(released / "embeddings.pth", weights_only=True)
    assert written["ids"] == list(range(40)) and written["embeddings"].shape == (40, 64)
    torch.save({"embeddings": torch.rand(39, 64), "categories": names[1:]}, released / "in.pth")
    assert convert(released, output="embeddings.pth") == 2
    assert "holds 39 embeddings" in capsys.readouterr().err


def test_bad_input_is_named(released, capsys):
    (released / "in.pth").write_bytes((released / "in.pth").read_bytes()[:100_000])
    assert convert(released) == 2
    assert "in.pth cannot be read: it is cut short" in capsys.readouterr().err
    (released / "in.pth").unlink()
    assert convert(released) == 2
    assert "there is no" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        convert_checkpoint.main(["x.pth"])
    assert "--config-file" in capsys.readouterr().err


STRUCTURES = {
    "cqdino_tree_swinb1k_v3det": "v3det/cqdino_tree_swinb1k",
    "cqdino_tree_swinb22k_v3det": "v3det/cqdino_tree_swinb22k",
    "cqdino_tree_swinl_v3det": "v3det/cqdino_tree_swinl",
    "cqdino_sa_swinl_coco": "coco/cqdino_sa_swinl_released",
}


@pytest.mark.skipif(not FIXTURES, reason=f"no parity fixtures in {FOLDER}")
@pytest.mark.parametrize("name", STRUCTURES)
def test_every_name_of_the_released_checkpoints_is_explained(name):
    structure = json.loads((FOLDER / f"structure_{name}.json").read_text())
    state = {
        key: torch.empty(shape, device="meta") for key, shape in structure["state_dict"].items()
    }
    cfg = load_config(ROOT / f"configs/{STRUCTURES[name]}.py")
    model = build_on_meta(cfg, random_vocabulary(structure["num_categories"]))
    expected = {key: tuple(tensor.shape) for key, tensor in model.state_dict().items()}
    report = ConversionReport.compare(convert_released_weights(state), expected)
    assert report.complete and not report.differences
    assert len(report.converted) + len(report.unused) == len(state)


@pytest.mark.skipif(not FIXTURES, reason=f"no parity fixtures in {FOLDER}")
@pytest.mark.parametrize("path", FIXTURES, ids=[path.stem for path in FIXTURES])
def test_default_predictor_gives_the_recorded_predictions(path, tmp_path, monkeypatch):
    fixture = ParityFixture.load(path)
    write_released(tmp_path, fixture)
    assert convert(tmp_path) == 0
    cfg = get_predictor_cfg(tmp_path / "config.yaml", weights=tmp_path / "out/model.pth")
    predictor = DefaultPredictor(cfg)
    pictures = [fixture.arrays[f"in/image_bgr.{i}"] for i in range(len(fixture.image_sizes))]
    if len(pictures) == 1:
        found = [predictor(pictures[0])]
    else:  # the recorded batch was padded together, which the predictor does for one picture
        arrays = [torch.from_numpy(x[:, :, ::-1].copy()).permute(2, 0, 1) for x in pictures]
        with torch.no_grad():
            found = predictor.model([{"image": x} for x in arrays])
    compare = check_parity.Comparison()
    for image, output in enumerate(found):
        instances = output["instances"]
        scale = fixture.tensor("in/scale_factors")[image].repeat(2)
        boxes = instances.pred_boxes.tensor / scale
        compare.close(
            f"{image}.scores", instances.scores, fixture.tensor(f"eval/pred.{image}.scores")
        )
        compare.close(f"{image}.boxes", boxes, fixture.tensor(f"eval/pred.{image}.bboxes"))
        labels = fixture.tensor(f"eval/pred.{image}.class_labels")
        compare.same(f"{image}.labels", instances.pred_classes, labels)
    assert not compare.failed
    assert sys.modules.get("mmengine") is None


def test_names_of_weights_cannot_steer_a_terminal(released, capsys):
    content = torch.load(released / "in.pth", weights_only=True)
    content["state_dict"]["\x1b[2Jx"] = torch.zeros(1)
    torch.save(content, released / "in.pth")
    assert convert(released) == 1
    told = capsys.readouterr()
    assert "\ufffd[2Jx" in told.out and "\x1b" not in told.out + told.err
