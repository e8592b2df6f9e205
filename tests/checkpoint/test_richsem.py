"""Names of RichSem's official checkpoints."""

import pytest
import torch
from convert_checkpoint import main
from detectron2.config import LazyCall, LazyConfig, instantiate

from cqdino_d2.checkpoint import convert_richsem_weights
from cqdino_d2.data import random_category_embeddings
from cqdino_d2.structures import flat_vocabulary
from tests.tiny import ROOT

CONFIG = "configs/lvis/richsem_r50.py"
NAMES = ["apple", "bus", "cup"]
# a small model of the recipe's form
SMALL = [
    "vocabulary._target_=cqdino_d2.structures.flat_vocabulary",
    "~vocabulary.name",
    f"vocabulary.names=[{','.join(NAMES)}]",
]
BACK = [  # our name -> the official one, by hand
    ("decoder.class_heads.0.", "class_embed.dino_visual_proj."),
    ("criterion.losses.semantic.projection.", "class_embed.clip_visual_proj."),
    ("denoising.content.projection.", "class_embed.label_proj."),
    ("query_selection.class_head.", "transformer.enc_out_class_embed.dino_visual_proj."),
    ("query_selection.box_head.0.", "transformer.enc_out_bbox_embed.layers.0."),
    ("query_selection.box_head.2.", "transformer.enc_out_bbox_embed.layers.1."),
    ("query_selection.box_head.4.", "transformer.enc_out_bbox_embed.layers.2."),
    ("decoder.box_heads.0.0.", "transformer.decoder.bbox_embed.0.layers.0."),
    ("decoder.box_heads.0.2.", "transformer.decoder.bbox_embed.0.layers.1."),
    ("decoder.box_heads.0.4.", "transformer.decoder.bbox_embed.0.layers.2."),
    ("backbone.body.", "backbone.0.body."),
    ("neck.lateral.", "input_proj."),
    ("neck.extra.0.", "input_proj.3."),
    ("query_selection.content.", "transformer.tgt_embed."),
    ("query_selection.projection.", "transformer.enc_output."),
    ("query_selection.norm.", "transformer.enc_output_norm."),
]


def official(name):
    for ours, theirs in BACK:
        if name.startswith(ours):
            return theirs + name.removeprefix(ours)
    return name


def small_checkpoint():
    """A state dict with official names where ours are not the official ones by the same rules."""
    cfg = LazyConfig.load(str(ROOT / CONFIG))
    cfg.vocabulary = LazyCall(flat_vocabulary)(names=NAMES)
    with torch.device("meta"):
        model = instantiate(cfg.model)
    state = {n: t for n, t in model.state_dict().items() if n != "categories.embeddings"}
    clip = ["clip.visual.conv1.weight", "clip.transformer.x", "logit_scale"]
    copies = {f"class_embed.{n}": torch.zeros(2) for n in clip}
    copies |= {f"transformer.enc_out_class_embed.{n}": torch.zeros(2) for n in clip}
    aliases = {f"bbox_embed.{i}.layers.0.bias": torch.zeros(2) for i in range(6)}
    aliases |= {f"transformer.decoder.bbox_embed.{i}.layers.0.bias": torch.zeros(2) for i in (1, 5)}
    whole = {official(n): torch.zeros(t.shape) for n, t in state.items()} | copies | aliases
    return whole, set(state), {*copies, *aliases}


def test_every_name_is_converted_or_left_out_for_a_reason():
    whole, ours, left_out = small_checkpoint()
    converted = convert_richsem_weights({f"module.{n}": t for n, t in whole.items()})
    assert set(converted.weights) == ours
    assert set(converted.left_out) == {f"module.{name}" for name in left_out}
    clip = converted.left_out["module.class_embed.clip.visual.conv1.weight"]
    assert "copy of CLIP" in clip


def test_the_command_writes_the_model_and_says_what_became_of_the_filler(tmp_path, capsys):
    whole, ours, _ = small_checkpoint()
    vocabulary = flat_vocabulary(NAMES)
    table = random_category_embeddings(vocabulary, 1024)
    torch.save({"model": whole}, tmp_path / "richsem.pth")
    torch.save({"embeddings": table, "ids": [1, 2, 3], "categories": NAMES}, tmp_path / "table.pth")
    given = [str(tmp_path / "richsem.pth"), "--config-file", str(ROOT / CONFIG)]
    given += ["--output", str(tmp_path / "out/model.pth"), *SMALL]
    assert main(given) == 2
    assert "name its file with --category-embeddings" in capsys.readouterr().err
    assert main([*given, "--category-embeddings", str(tmp_path / "table.pth")]) == 0
    out = capsys.readouterr().out
    assert "family: RichSem, official" in out
    assert "filler class 'none' (released id 0) is dropped: released id c is vocab_id c - 1" in out
    written = torch.load(tmp_path / "out/model.pth", weights_only=True)["model"]
    assert set(written) == ours | {"categories.embeddings"}
    assert torch.equal(written["categories.embeddings"], table)


@pytest.mark.parametrize("name", ["class_embed.label_proj.weight", "input_proj.3.0.weight"])
def test_single_names(name):
    (ours,) = convert_richsem_weights({name: torch.zeros(1)}).weights
    assert official(ours) == name
