"""The recorded numbers of the released implementation.

One fixture, without its backbone, lies in tests/golden. The whole ones (several MB of random
weights each) are not in the repository; name their folder in CQDINO_PARITY_FIXTURES, or put it at
../shared/parity beside the checkout.
"""

import os
from pathlib import Path

import check_parity
import pytest

from tests.golden_files import GOLDEN
from tests.tiny import ROOT

FOLDER = Path(os.environ.get("CQDINO_PARITY_FIXTURES", ROOT.parent / "shared" / "parity"))
FIXTURES = sorted(path for path in FOLDER.glob("*.json") if path.with_suffix(".npz").is_file())
GROUNDING = FOLDER.parent / "gdino"
GROUNDING_FIXTURES = sorted(GROUNDING.glob("gdino_seed*.json"))


@pytest.mark.skipif(not FIXTURES, reason=f"no parity fixtures in {FOLDER}")
def test_every_stage_agrees_with_the_released_implementation():
    assert check_parity.main([str(path) for path in FIXTURES]) == 0


@pytest.mark.skipif(not GROUNDING_FIXTURES, reason=f"no fixtures in {GROUNDING}")
def test_every_stage_agrees_with_the_official_grounding_dino(capsys):
    assert check_parity.main([str(path) for path in GROUNDING_FIXTURES]) == 0
    out = capsys.readouterr().out
    for stage in ("enc1_text", "two_stage/topk_proposals", "coco/result.1.boxes", "long/pred"):
        assert f"  {stage}" in out


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
