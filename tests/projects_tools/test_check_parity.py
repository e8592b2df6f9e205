"""The recorded numbers of the released implementation.

One fixture, without its backbone, lies in tests/golden. The whole ones (several MB of random
weights each) are not in the repository; name their folder in CQDINO_PARITY_FIXTURES, or put it at
../shared/parity beside the checkout.
"""

import os
from pathlib import Path

import check_parity
import pytest

from cqdino_d2.criterion import FederatedFocalLoss, HungarianMatcher, SemanticLoss
from cqdino_d2.data import CutMosaic
from tests.golden_files import GOLDEN
from tests.tiny import ROOT

FOLDER = Path(os.environ.get("CQDINO_PARITY_FIXTURES", ROOT.parent / "shared" / "parity"))
FIXTURES = sorted(path for path in FOLDER.glob("*.json") if path.with_suffix(".npz").is_file())
GROUNDING = FOLDER.parent / "gdino"
GROUNDING_FIXTURES = sorted(GROUNDING.glob("gdino_seed*.json"))
TEXT_FIXTURES = sorted(
    path
    for pattern in ("gdino_text_cases", "train_*", "hf_loss_*")
    for path in GROUNDING.glob(f"{pattern}.json")
)
RICHSEM = FOLDER.parent / "richsem"
RICHSEM_FIXTURES = sorted(
    path
    for part in "abcdefg"
    for path in RICHSEM.glob(f"seed*_{part}_*.json")
    if not path.stem.endswith("_weights")
)


@pytest.mark.skipif(not FIXTURES, reason=f"no parity fixtures in {FOLDER}")
def test_every_stage_agrees_with_the_released_implementation():
    assert check_parity.main([str(path) for path in FIXTURES]) == 0


@pytest.mark.skipif(not GROUNDING_FIXTURES, reason=f"no fixtures in {GROUNDING}")
def test_every_stage_agrees_with_the_official_grounding_dino(capsys):
    assert check_parity.main([str(path) for path in GROUNDING_FIXTURES]) == 0
    out = capsys.readouterr().out
    for stage in ("enc1_text", "two_stage/topk_proposals", "coco/result.1.boxes", "long/pred"):
        assert f"  {stage}" in out


@pytest.mark.skipif(not TEXT_FIXTURES, reason=f"no fixtures in {GROUNDING}")
def test_texts_and_training_agree_with_the_official_code_mmdet_and_transformers(capsys):
    assert check_parity.main([str(path) for path in TEXT_FIXTURES]) == 0
    out = capsys.readouterr().out
    stages = ("masks.batch_padded.visible", "phrases", "resized_96_120", "od_sampling.0")
    stages += ("topk_indices", "loss_giou_dn_0", "gradient norms", "flickr30k@all")
    for stage in (*stages, "pred.2.scores", "assignment 1", "1.loss_ce_enc"):
        assert f"  {stage} " in out


@pytest.mark.skipif(not RICHSEM_FIXTURES, reason=f"no fixtures in {RICHSEM}")
def test_every_recorded_part_and_step_agrees_with_the_official_richsem(capsys):
    assert check_parity.main([str(path) for path in RICHSEM_FIXTURES]) == 0
    out = capsys.readouterr().out
    stages = ("roi_features", "probabilities", "kl_per_query_denoising", "grad_projection_matching")
    stages += ("denoising_label_embeddings", "text_path_mean_embedding", "loss_ce_federated")
    stages += ("grad_logits", "match_interm_1_target", "loss_distill_dn", "total", "gradient_norm")
    stages += ("grad_hidden_last", "eval1_labels", "one_empty total", "both_empty zero gradient")
    stages += ("case3 crop", "case5 covered", "pixels")
    for stage in stages:
        assert f"  {stage} " in out


@pytest.mark.skipif(not RICHSEM_FIXTURES, reason=f"no fixtures in {RICHSEM}")
@pytest.mark.parametrize(
    ("part", "owner", "change", "stage"),
    [
        ("b_student_kl", SemanticLoss, dict(weight=0.6), "loss_distill matching"),
        ("d_federated", FederatedFocalLoss, dict(gamma=1.5), "loss_ce_federated"),
        ("e_mosaic", CutMosaic, dict(side=1296), "case2 paste"),
        ("f_whole", HungarianMatcher, dict(eps=1e-3), "match_interm"),
    ],
)
def test_a_wrong_part_of_richsem_is_found(monkeypatch, capsys, part, owner, change, stage):
    plain = owner.__init__
    monkeypatch.setattr(owner, "__init__", lambda self, **given: plain(self, **given | change))
    assert check_parity.main([str(RICHSEM / f"seed0_{part}.json")]) == 1
    assert stage in capsys.readouterr().out.partition("DISAGREES in ")[2]


@pytest.mark.skipif(not TEXT_FIXTURES, reason=f"no fixtures in {GROUNDING}")
def test_fixtures_without_the_file_beside_them_are_named(tmp_path, capsys):
    for name in ("train_text_cases_seed0.json", "hf_loss_seed0.json", "train_head_seed0.json"):
        (tmp_path / name).write_text((GROUNDING / name).read_text())
    names = ("train_text_cases_seed0", "hf_loss_seed0")
    assert check_parity.main([str(tmp_path / f"{name}.json") for name in names]) == 1
    out = capsys.readouterr().out
    assert "gdino_text_cases.json: a fixture is" in out and "no " in out
    assert "train_head_seed0.npz: a fixture is NAME.json and NAME.npz" in out


def test_every_stage_after_the_backbone_agrees_with_the_golden_numbers(capsys):
    assert check_parity.main([str(GOLDEN / "tree_no_backbone.json")]) == 0
    out = capsys.readouterr().out
    for stage in ("after_tree", "topk_categories", "dec_boxes", "loss_class_dn_0", "grad"):
        assert f"  {stage}" in out


def test_a_wrong_stage_is_found(monkeypatch, capsys):
    monkeypatch.setattr(check_parity, "TOLERANCE", 1e-12)
    assert check_parity.main([str(GOLDEN / "tree_no_backbone.json")]) == 1
    assert "DISAGREES in" in capsys.readouterr().out


def test_what_is_no_fixture_is_named(tmp_path, capsys):
    path = tmp_path / "x.json"
    assert check_parity.main([str(path)]) == 1
    path.write_text('{"variant": "other"}')
    path.with_suffix(".npz").write_bytes(b"")
    assert check_parity.main([str(path)]) == 1
    out = capsys.readouterr().out
    path.write_text((GOLDEN / "tree_no_backbone.json").read_text())
    assert check_parity.main([str(path)]) == 1
    assert "x.npz is no npz file" in capsys.readouterr().out
    assert "no " in out and "'variant' must be in" in out
