"""RichSem's recipes for LVIS, small by overrides alone: trained, resumed, evaluated, exported."""

import json
import shutil
from itertools import islice
from types import SimpleNamespace

import pytest
import torch
from detectron2.config import instantiate

import train_net
from cqdino_d2.data import CategoryDatasetMapper, register_all
from cqdino_d2.engine import load_config
from cqdino_d2.engine.config import settle_training
from cqdino_d2.export import ExportOptions, export_detector, exportable
from tests.lvis_layout import TEXT_DIM, make_lvis_layout
from tests.runs import ROOT, losses, run

TABLE = "model.criterion.losses.semantic.table.path"
MADE_UP_CLIP = "{_target_: pydoc.locate, path: cqdino_d2.backbone.random_clip_resnet}"
SMALL = [
    "train.max_iter=8",
    "train.device=cpu",
    "train.eval_period=0",
    "train.checkpointer={period: 3, max_to_keep: 9}",
    *("train.log_period=1", "train.log_window=1"),
    *("dataloader.train.total_batch_size=2", "dataloader.train.num_workers=0"),
    "dataloader.train.mapper.augmentations={short_sides: [48, 64], max_size: 90}",
    "dataloader.train.image_level.mapper.mosaic.side=96",
    "dataloader.test.mapper.augmentations.0={short_edge_length: 64, max_size: 90}",
    *("dataloader.test.num_workers=0", "dataloader.evaluator.max_dets=12"),
    *("model.neck.dim=32", "model.neck.num_groups=8"),
    *("model.encoder.num_layers=1", "model.encoder.image_layer.hidden_dim=48"),
    *("model.decoder.num_layers=2", "model.decoder.hidden_dim=48"),
    *("model.query_selection.num_queries=20", "model.post_processor.num_detections=12"),
    "model.denoising.num_queries=4",
    "model.criterion.losses.focal.num_sampled=5",
    f"model.criterion.losses.semantic.text_dim={TEXT_DIM}",
    f"model.teacher.tower.module={MADE_UP_CLIP}",
    *("~model.teacher.tower.model", "~model.teacher.tower.pretrained"),
    "model.teacher.tower={layers: [1, 1, 1, 1], width: 4, heads: 2}",
    f"model.teacher.tower.dim={TEXT_DIM}",
]
RICHSEM = [
    *("model.backbone.name=test_resnet", "model.neck.in_channels=[48, 192, 96]"),
    f"model.categories.dim={TEXT_DIM}",
    "dataloader.train.mapper.augmentations.crop=true",
]
CQDINO = [
    "model.backbone.name=swin_tiny_patch4_window7_224",
    "model.backbone.model_args={embed_dim: 8, depths: [1, 1, 1, 1], num_heads: [1, 1, 1, 1]}",
    *("model.neck.in_channels=[16, 32, 64]", "model.categories.dim=32"),
    *("model.encoder.exchange.attention_dim=32", "model.selection.map_channels=64"),
    *("model.selection.image_dim=32", "model.selection.hidden_dim=48"),
    "model.selection.num_selected=5",
]
RECIPES = {
    "richsem_r50": ("configs/lvis/richsem_r50.py", RICHSEM),
    "cqdino_richsem_swinb": ("configs/lvis/cqdino_richsem_swinb.py", CQDINO),
}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return make_lvis_layout(tmp_path_factory.mktemp("datasets"))


@pytest.fixture(params=RECIPES)
def recipe(request, root, monkeypatch):
    """A recipe's file, and the overrides that make it small."""
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr("detectron2.utils.logger.setup_logger", lambda *args, **kwargs: None)
    file, overrides = RECIPES[request.param]
    places = [f"train.datasets_root={root}", f"{TABLE}={root}/table.pth"]
    if request.param == "richsem_r50":
        places.append(f"train.category_embeddings={root}/table.pth")
    return SimpleNamespace(name=request.param, file=file, overrides=[*SMALL, *overrides, *places])


def train(recipe, folder, *arguments):
    """train_net.py in this process, to save the imports; returns the training."""
    given = ["--config-file", recipe.file, *arguments, *recipe.overrides]
    job = train_net.prepare(
        train_net.build_parser().parse_intermixed_args([*given, f"train.output_dir={folder}"])
    )
    job.run()
    return job


def test_it_trains_resumes_evaluates_and_keeps_nothing_of_the_teacher(
    recipe, tmp_path, monkeypatch
):
    seen = []
    real = CategoryDatasetMapper.__call__

    def mapped(self, record, *args):
        result = real(self, record, *args)
        if self.is_train:
            seen.append(bool(result.get("image_level")))
            assert seen[-1] == (not isinstance(record, dict)), "mosaics of these alone"
        return result

    monkeypatch.setattr(CategoryDatasetMapper, "__call__", mapped)
    whole = tmp_path / "whole"
    job = train(recipe, whole)
    assert seen == [False, False, True, True] * 4
    assert len(losses(whole)) == 8

    resumed = tmp_path / "resumed"  # after step 2, the next is of image-level images
    resumed.mkdir()
    for name in ("model_0000002.pth", "vocabulary.json", "config.yaml"):
        shutil.copy(whole / name, resumed)
    (resumed / "last_checkpoint").write_text("model_0000002.pth")
    seen.clear()
    train(recipe, resumed, "--resume")
    assert seen == [True, True, False, False] * 2 + [True, True]
    expected = {i: row for i, row in losses(whole).items() if i > 2}
    assert losses(resumed) == expected and len(expected) == 5
    ends = [torch.load(f / "model_final.pth", weights_only=True) for f in (whole, resumed)]
    assert all(torch.equal(v, ends[1]["model"][k]) for k, v in ends[0]["model"].items())

    results = json.loads((whole / "results.json").read_text())
    assert {"AP", "APr", "APc", "APf"} <= results["bbox"].keys()
    assert json.loads((resumed / "results.json").read_text()) == results

    student = "criterion.losses.semantic.projection.weight"
    assert student in ends[0]["model"]
    assert not [n for n in ends[0]["model"] if "teacher" in n or "tower" in n]
    kept = torch.load(whole / "model_inference.pth", weights_only=True)["model"]
    assert not [n for n in kept if n.startswith(("criterion", "teacher"))]
    assert_exported_without_the_teacher(job.trainer.model, recipe, whole)


def assert_exported_without_the_teacher(model, recipe, folder):
    """What is exported holds no weight of teacher or student, under whatever name."""
    training = [model.criterion.losses.semantic.projection.weight]
    training += model.teacher.tower(torch.device("cpu")).state_dict().values()
    held = [*exportable(model.eval()).state_dict().values()]
    if recipe.name == "richsem_r50":  # a file of one of them is enough
        exported = export_detector(
            recipe.file,
            folder / "model_inference.pth",
            folder / "detector.pt2",
            ExportOptions("torch.export", height=320, width=384, static=True),
            overrides=recipe.overrides,
        )
        program = torch.export.load(exported.path)
        held = [*program.state_dict.values(), *program.constants.values()]
    held = [x for x in held if isinstance(x, torch.Tensor)]
    assert any(torch.equal(x, model.tokenizer.level_embedding) for x in held)
    drawn = [x for x in training if x.ndim > 1]  # others may all be 0 or 1
    assert len(drawn) > 5 and not any(torch.equal(x, y) for x in held for y in drawn)


def test_two_processes_train_as_one(recipe, tmp_path):
    """All but what every process draws for its own images, and the padding of different sizes."""
    recipe.overrides += [
        *("train.max_iter=4", "dataloader.train.aspect_ratio_grouping=true"),
        "dataloader.train.mapper.augmentations={short_sides: [64], crop: false}",
        "model.denoising=null",
        "model.criterion.losses.focal.num_sampled=100",
    ]
    if recipe.name == "cqdino_richsem_swinb":
        recipe.overrides += [
            *("model.encoder.exchange.dropout=0", "model.selection.dropout=0"),
            "model.backbone.model_args.drop_path_rate=0",
            "model.criterion.box_images_only=[l1,giou,class]",
        ]
    train(recipe, tmp_path / "one")
    run(tmp_path / "two", "--num-cpu-processes", "2", *recipe.overrides, config=recipe.file)
    one, two = losses(tmp_path / "one"), losses(tmp_path / "two")
    assert len(one) == 4
    for iteration, row in one.items():
        assert two[iteration] == pytest.approx(row, rel=1e-3)
        masked = recipe.name == "cqdino_richsem_swinb" and iteration % 2 == 1
        assert (row["loss_l1"] == row["loss_class_0"] == 0) == masked
        assert min(row["loss_l1_enc"], row["loss_class_enc"], row["loss_semantic"]) > 0


def test_epochs_are_those_of_the_boxes(recipe, tmp_path):
    """Nine images, or the eight that have a box, by two; image-level batches come on top."""
    batches = {"richsem_r50": (108, 5), "cqdino_richsem_swinb": (96, 4)}[recipe.name]
    settings = ["train.max_iter=24ep", "train.eval_period=1ep"]

    def settled(*overrides):
        overrides = [*recipe.overrides, *settings, *overrides]
        cfg = load_config(recipe.file, [*overrides, f"train.output_dir={tmp_path}"])
        register_all(cfg.train.datasets_root)
        return settle_training(cfg, start_iter=None)

    both, alone = settled(), settled("dataloader.train.image_level=null")
    assert (both.cfg.train.max_iter, both.cfg.train.eval_period) == tuple(2 * n for n in batches)
    assert (alone.cfg.train.max_iter, alone.cfg.train.eval_period) == batches
    for loader, expected in ((both.loader, [False, True] * 3), (alone.loader, [False] * 6)):
        kinds = [{"image_level" in sample for sample in batch} for batch in islice(loader, 6)]
        assert kinds == [{one} for one in expected]
    rates = [instantiate(one.cfg.lr_multiplier) for one in (both, alone)]
    shares = [0.0, 0.3, 0.49, 0.51, 0.76, 0.82, 0.84]
    assert [rates[0](share) for share in shares] == [rates[1](share) for share in shares]
