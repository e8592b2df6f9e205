"""Whose names a file has."""

import pytest

from cqdino_d2.checkpoint import family_of


@pytest.mark.parametrize(
    ("name", "family"),
    [
        ("language_model.label_embed", "CQ-DINO"),
        ("language_model.language_backbone.body.model.x", "mmdetection"),
        ("bert.embeddings.word_embeddings.weight", "official"),
        ("module.feat_map.bias", "official"),
        ("model.text_projection.bias", "Hugging Face"),
        ("module.class_embed.dino_visual_proj.weight", "RichSem"),
    ],
)
def test_one_name_that_no_other_has_tells(name, family):
    assert family in family_of(["level_embed", name], "x.pth").name


def test_others_are_named():
    with pytest.raises(
        ValueError, match=r"x\.pth is of no known family: found 2 names like a, b; "
    ):
        family_of(["a", "b"], "x.pth")
    with pytest.raises(ValueError, match=r"x\.pth has this project's names"):
        family_of(["backbone.body.x", "query_selection.norm.bias"], "x.pth")
