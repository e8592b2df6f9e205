"""RichSem through train_net.py: trained, resumed, in two processes, evaluated, predicted with."""

import json

import pytest
import torch
from detectron2.config import LazyCall

from cqdino_d2.data import CategoryDatasetMapper, load_category_embeddings, register_all
from cqdino_d2.data.emojidet.build import EmojiDetSettings, build_emojidet
from cqdino_d2.engine import Training, load_config
from cqdino_d2.layers import factory
from cqdino_d2.prediction import CategoryPredictor, get_predictor_cfg
from tests.runs import ROOT, kill_after_checkpoint, losses, run

CONFIG = "configs/emojidet/tiny_richsem.py"
SAME = {"config": CONFIG}
SETTINGS = [
    "train.max_iter=12",
    "train.checkpointer.period=3",
    "train.log_period=1",
    "train.log_window=1",
]


@pytest.fixture(scope="module")
def datasets(tmp_path_factory):
    root = tmp_path_factory.mktemp("datasets")
    settings = EmojiDetSettings(categories=12, train_images=16, val_images=6)
    build_emojidet(root / "emojidet", settings, workers=1, progress=False)
    return root


@pytest.fixture(autouse=True)
def use_datasets(datasets, monkeypatch):
    monkeypatch.setenv("DETECTRON2_DATASETS", str(datasets))


def train(folder, *arguments):
    return run(folder, *SETTINGS, *arguments, **SAME)


def test_it_trains_resumes_and_predicts_without_what_only_training_needs(tmp_path):
    train(tmp_path / "whole", "train.ema.enabled=true")
    half = tmp_path / "half"
    kill_after_checkpoint(half, "model_0000002.pth", *SETTINGS, "train.ema.enabled=true", **SAME)
    train(half, "train.ema.enabled=true", "--resume")
    whole = losses(tmp_path / "whole")
    assert len(whole) == 12 and losses(half) == whole
    assert {"loss_semantic", "loss_semantic_dn", "loss_class_dn"} <= set(whole[11])
    results = json.loads((tmp_path / "whole" / "results.json").read_text())
    assert {"APr", "APc", "APf"} <= results["lvis"].keys()

    saved = torch.load(tmp_path / "whole" / "model_0000011.pth", weights_only=True)
    names = [*saved["model"], *saved["ema"]["weights"]]
    assert not [name for name in names if "teacher" in name or "visual" in name]
    assert "criterion.losses.semantic.projection.weight" in names

    path = tmp_path / "whole" / "model_inference.pth"
    kept = torch.load(path, weights_only=True)["model"]
    assert not [n for n in kept if n.startswith(("criterion", "teacher")) or "semantic" in n]
    cfg = get_predictor_cfg(ROOT / CONFIG, weights=path, device="cpu")
    found = CategoryPredictor(cfg)(torch.zeros(64, 64, 3, dtype=torch.uint8).numpy())
    assert len(found["instances"]) > 0


def test_it_trains_with_the_lists_of_the_data(tmp_path):
    lists = "{_target_: cqdino_d2.data.CategoryLists, vocabulary: '${vocabulary}'}"
    few = ["model.criterion.losses.focal.num_sampled=3", "train.max_iter=1"]
    heeding = [*few, "model.criterion.losses.focal.listed=true"]
    train(tmp_path / "with", *heeding, f"dataloader.train.mapper.category_lists={lists}")
    train(tmp_path / "without", *few)
    first = [losses(tmp_path / name)[0] for name in ("with", "without")]
    assert first[0]["loss_l1"] == first[1]["loss_l1"]
    assert first[0]["loss_class"] > first[1]["loss_class"], "ten more categories of each image"


def other_tables(folder):
    """Files for other categories and of another width."""
    rows = {"other": (range(90, 102), 24), "narrow": (range(1, 13), 16)}
    for name, (ids, dim) in rows.items():
        names = [f"thing {i}" for i in ids]
        content = {"embeddings": torch.ones(12, dim), "ids": [*ids], "categories": names}
        torch.save(content, folder / f"{name}.pth")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("table=other.pth", r"other\.pth lacks the embeddings of 12 of 12 categories: ids \[1, 2"),
        ("table=narrow.pth", r"narrow\.pth: .*\(12, 16\) found, \(V, 24\) expected"),
        ("table=gone.pth", r"gone\.pth"),
        ("train.category_embeddings=other.pth", r"other\.pth lacks the embeddings of 12 of 12"),
        ("model.teacher.tower.dim=16", r"rows of 24 numbers, the teacher's embeddings have 16"),
        ("model.teacher=null", r"needs a teacher \(model\.teacher\)"),
    ],
)
def test_tables_and_teachers_that_do_not_fit_end_it_before_any_image_is_read(
    tmp_path, monkeypatch, override, message
):
    def no_images(*_):
        raise AssertionError("an image was read")

    other_tables(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(CategoryDatasetMapper, "__call__", no_images)
    register_all()
    folder, is_table = f"train.output_dir={tmp_path / 'run'}", override.startswith("table=")
    cfg = load_config(str(ROOT / CONFIG), [folder] if is_table else [folder, override])
    if is_table:
        cfg.model.criterion.losses.semantic.table = LazyCall(factory)(
            module=load_category_embeddings,
            path=override.removeprefix("table="),
            vocabulary="${vocabulary}",
            dim=24,
        )
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        Training.prepare(cfg, resume=False, load_embeddings=load_category_embeddings)


def test_two_processes_train_as_one(tmp_path):
    """All but the federated sets, which every process draws for its own images."""
    plain = [
        "train.max_iter=4",
        "model.denoising=null",
        "model.criterion.losses.focal.num_sampled=100",
    ]
    train(tmp_path / "one", *plain)
    train(tmp_path / "two", *plain, "--num-cpu-processes", "2")
    one, two = losses(tmp_path / "one"), losses(tmp_path / "two")
    assert len(one) == 4
    for iteration, row in one.items():
        assert two[iteration] == pytest.approx(row, rel=1e-3)
