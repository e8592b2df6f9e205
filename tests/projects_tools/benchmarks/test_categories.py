"""The benchmark of the category part, with few categories."""

import json
import sys

import pytest
from benchmarks import categories as benchmark_categories


@pytest.fixture
def small(monkeypatch):
    """Narrow layers and a small map."""
    for name, value in {"DIM": 32, "IMAGE_DIM": 16, "HIDDEN": 64, "MAP": (24, 3, 4)}.items():
        monkeypatch.setattr(benchmark_categories, name, value)


def test_a_cascade_saves_operations(small):
    part = benchmark_categories.CategoryPart(2000, recompute=None, cascade=100)
    part.run("ours", training=False)
    full, cascade = (benchmark_categories.operations(part, side) for side in ("ours", "cascade"))
    assert 0.2 * full < cascade < 0.3 * full
    assert all(p.requires_grad for p in part.selection.parameters())
    shared = dict(part.cascade.named_parameters())
    assert all(shared[name] is p for name, p in part.selection.named_parameters())


def test_the_sides_are_measured(small, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(benchmark_categories, "memory_in_a_process", lambda *_: 1.0)
    out = tmp_path / "out.json"
    arguments = f"x --vocabulary 300 --repeats 1 --cascade 120 --bfloat16 --json {out}"
    arguments += " --recompute selective"
    monkeypatch.setattr(sys, "argv", arguments.split())
    benchmark_categories.main()
    inference, training = json.loads(out.read_text())["results"]
    for result in (inference, training):
        assert set(result["seconds"]) == {"plain", "ours", "bfloat16", "cascade"}
        assert set(result["ratio"]) == {"ours", "bfloat16", "cascade"}
    assert inference["selected_again"]["ours"] == 1
    assert inference["share_of_matrix_product"] > 0 and "flops" not in training
    assert "cascade is" in capsys.readouterr().out
