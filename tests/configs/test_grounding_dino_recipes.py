"""The recipes of text-prompted detectors."""

import pytest
import torch
from detectron2.config import instantiate

from cqdino_d2.checkpoint import convert_transformers_grounding_weights
from cqdino_d2.engine import load_config
from cqdino_d2.engine.activation_checkpointing import checkpoint_blocks
from cqdino_d2.engine.config import plain_container
from tests.tiny import ROOT

FOLDER = ROOT / "configs/grounding_dino"
RELEASED = ("swint_ogc", "swinb_cogcoor", "mm_swint", "mm_swinb", "mm_swinl")
FINE_TUNED = ("finetune_coco", "finetune_lvis", "finetune_few_shot")
TRAINED = ("pretrain_swint", *FINE_TUNED, "edge_640", "edge_800", "pro_vitl")
TINY = ("tiny", "edge_tiny")
RECIPES = (*RELEASED, *TRAINED, *TINY)
WINDOW_12 = dict(window_size=12, image_size=384)
SWINS = {
    "swint": dict(embed_dim=96, depths=[2, 2, 6, 2], num_heads=[3, 6, 12, 24], window_size=7),
    "swinb": dict(embed_dim=128, depths=[2, 2, 18, 2], num_heads=[4, 8, 16, 32], **WINDOW_12),
    "swinl": dict(embed_dim=192, depths=[2, 2, 18, 2], num_heads=[6, 12, 24, 48], **WINDOW_12),
}


def build(name):
    cfg = load_config(FOLDER / f"{name}.py")
    with torch.device("meta"):
        return cfg, instantiate(cfg.model)


def test_all_are_tried_and_short():
    assert {path.stem for path in FOLDER.glob("*.py")} == {*RECIPES, "optim"}
    for path in FOLDER.glob("*.py"):
        assert len(path.read_text().splitlines()) <= 35, path


@pytest.mark.parametrize("name", RECIPES)
def test_makes_a_model_and_its_optimizer(name):
    cfg, model = build(name)
    plain_container(cfg.model)  # no lambdas
    cfg.optimizer.params.model = model
    groups = instantiate(cfg.optimizer).param_groups
    optimized = {id(p) for group in groups for p in group["params"]}
    assert optimized == {id(p) for p in model.parameters()}
    slow = {id(p) for g in groups if g["lr"] < 5e-5 for p in g["params"]}
    parts = () if name in TINY else (model.backbone, model.categories.language_model)
    assert slow == {id(p) for part in parts for p in part.parameters()}


@pytest.mark.parametrize("name", RELEASED)
def test_has_the_weights_of_hugging_faces_model_of_that_size(name):
    transformers = pytest.importorskip("transformers")
    large = name == "mm_swinl"
    sizes = dict(
        backbone_config=transformers.SwinConfig(
            **SWINS[name.split("_")[name.startswith("mm")]],
            out_indices=[1, 2, 3, 4] if large else [2, 3, 4],
        ),
        text_config=transformers.BertConfig(),
        num_feature_levels=5 if large else 4,
    )
    with torch.device("meta"):
        if name.startswith("mm"):
            own_heads = dict(decoder_bbox_embed_share=False, decoder_cls_embed_share=False)
            config = transformers.MMGroundingDinoConfig(**sizes, **own_heads)
            theirs = transformers.MMGroundingDinoForObjectDetection(config)
        else:
            config = transformers.GroundingDinoConfig(**sizes)
            theirs = transformers.GroundingDinoForObjectDetection(config)
    converted = convert_transformers_grounding_weights(theirs.state_dict()).weights
    expected = {
        key: tensor.shape
        for key, tensor in build(name)[1].state_dict().items()
        if not key.startswith("denoising.")
    }
    assert {key: tensor.shape for key, tensor in converted.items()} == expected


def test_the_two_forms():
    _, official = build("swint_ogc")
    _, mm = build("mm_swint")
    assert len(official.decoder.box_heads) == 1 and len(mm.decoder.box_heads) == 6
    assert official.decoder.class_heads[0].bias is None
    assert mm.decoder.class_heads[0].bias is not None and mm.decoder.class_heads[0].scaled
    fusions = [model.encoder.fusion_layers[0] for model in (official, mm)]
    assert [(layer.dropout, layer.drop_path.p) for layer in fusions] == [(0.0, 0.1), (0.1, 0.0)]
    assert [m.decoder.prediction_eps for m in (official, mm)] == [1e-3, 1e-5]


def test_the_light_form():
    """Fusion and plain attention see the coarsest of three levels; the rest is Swin-T's form."""
    small, swin = (build(name)[1] for name in ("edge_640", "pretrain_swint"))
    assert list(small.backbone.output_shape()) == ["p1", "p2", "p3"]
    assert [shape.stride for shape in small.backbone.output_shape().values()] == [8, 16, 32]
    encoder = small.encoder
    assert encoder.first_level == 2 and small.tokenizer.level_embedding.shape == (3, 256)
    assert {type(layer).__name__ for layer in encoder.image_layers} == {"AttentionEncoderLayer"}
    assert small.query_selection.num_queries == 300
    ours, theirs = (model.categories.state_dict() for model in (small, swin))
    assert {key: x.shape for key, x in ours.items()} == {key: x.shape for key, x in theirs.items()}
    assert len(small.decoder.layers) == len(swin.decoder.layers) == 6
    sizes = {name: build(name)[0].dataloader.test.mapper for name in ("edge_640", "edge_800")}
    shortest = {name: mapper.augmentations[0] for name, mapper in sizes.items()}
    assert shortest["edge_640"].short_edge_length == shortest["edge_640"].max_size == 640
    assert (shortest["edge_800"].short_edge_length, shortest["edge_800"].max_size) == (800, 1333)


def test_pro_has_four_levels_of_one_map_and_asks_for_more_that_is_not_there():
    (cfg, model), (other, _) = build("pro_vitl"), build("pretrain_swint")
    assert [(s.channels, s.stride) for s in model.backbone.output_shape().values()] == [(1024, 16)]
    assert len(model.neck.levels) == len(model.tokenizer.level_embedding) == 4
    assert len(model.encoder.fusion_layers) == 6
    assert len(checkpoint_blocks(model, cfg.train.activation_checkpointing)) == 24
    prompts, fewer = (c.dataloader.train.mapper.prompts for c in (cfg, other))
    assert prompts.num_negatives > fewer.num_negatives and prompts.full_share > fewer.full_share
