import torch

from cqdino_d2.checkpoint import ConversionReport, convert_released_weights, describe_shapes

INDEX = "backbone.stages.0.blocks.0.attn.w_msa.relative_position_index"
STATE = {
    "level_embed": torch.zeros(4, 8),
    "language_model.label_embed": torch.zeros(40, 6),
    INDEX: torch.zeros(16, 16),
    "dn_query_generator.label_embedding.weight": torch.zeros(8, 8),
}
EXPECTED = {"tokenizer.level_embedding": (4, 8), "categories.embeddings": (40, 6)}


def compare(changes=None, expected=None):
    return ConversionReport.compare(
        convert_released_weights(STATE | (changes or {})), EXPECTED | (expected or {})
    )


def test_what_is_explained_may_be_left_over():
    report = compare(expected={"denoising.content.not_selected": (8,)})
    assert report.complete
    assert report.converted == {
        "level_embed": "tokenizer.level_embedding",
        "language_model.label_embed": "categories.embeddings",
    }
    assert set(report.unused) == {INDEX, "dn_query_generator.label_embedding.weight"}
    text = "\n".join(report.lines())
    assert "UNEXPLAINED" not in text
    for name in [*STATE, "denoising.content.not_selected"]:
        assert name in text


def test_the_rest_is_named():
    report = compare(
        {"surprise": torch.zeros(1), "language_model.label_embed": torch.zeros(13, 6)},
        {"decoder.gap": (3,)},
    )
    assert not report.complete
    text = "\n".join(report.lines())
    assert "surprise  (UNEXPLAINED)" in text and "decoder.gap  (UNEXPLAINED)" in text
    assert "categories.embeddings: (13, 6) found, (40, 6) expected" in text
    assert "categories: the checkpoint has 13, the config expects 40" in text


def test_each_kind_of_misfit_alone_is_enough():
    assert not compare({"surprise": torch.zeros(1)}).complete
    assert not compare(expected={"decoder.gap": (3,)}).complete
    assert not compare(expected={"categories.embeddings": (41, 6)}).complete
    assert compare().complete


def test_models_are_described():
    shapes = {
        "categories.embeddings": (80, 768),
        "categories.relation.attention.in_proj_weight": (1, 1),
        "backbone.body.patch_embed.proj.weight": (192, 3, 4, 4),
        "backbone.body.layers_0.blocks.0.attn.relative_position_bias_table": (529, 6),
        "backbone.body.layers_0.blocks.0.norm1.weight": (192,),
        "backbone.body.layers_1.blocks.0.norm1.weight": (384,),
        "backbone.body.layers_1.blocks.1.norm1.weight": (384,),
        "tokenizer.level_embedding": (5, 256),
    }
    assert describe_shapes(shapes) == {
        "relation": "self-attention",
        "categories": "80",
        "backbone": "Swin of width 192, depths 1-2, windows of 12",
        "feature levels": "5",
        "object queries": "None",
    }


def test_many_names_for_one_reason_are_one_line():
    blocks = {f"backbone.stages.0.blocks.{i}.attn.w_msa" for i in range(30)}
    tables = {f"{block}.relative_position_index": torch.zeros(1) for block in blocks}
    strange = {f"backbone.stages.0.new.{i}": torch.zeros(1) for i in range(30)}
    lines = list(compare(tables | strange).lines())
    reason = "an index table that the model computes itself"
    assert f"  backbone.stages.0.blocks.*: 30 names  ({reason})" in lines
    assert sum("UNEXPLAINED" in line for line in lines) == 30
