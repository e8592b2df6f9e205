import json

import pytest
from benchmarks import profile_model
from PIL import Image


@pytest.fixture(scope="module")
def profiled(tmp_path_factory):
    folder = tmp_path_factory.mktemp("profile")
    arguments = "--config-file configs/emojidet/tiny_tree.py --vocabulary 40,400 --size 64 96"
    arguments += " --modes inference,compact,training --repeats 1 --output"
    profile_model.main([*arguments.split(), str(folder)])
    return folder, json.loads((folder / "profile.json").read_text())["results"]


def stage(results, vocabulary, mode, name):
    rows = next(r for r in results if (r["vocabulary"], r["mode"]) == (vocabulary, mode))["stages"]
    return next(row for row in rows if row["stage"] == name)


def test_every_stage_is_there(profiled):
    folder, results = profiled
    assert [(r["vocabulary"], r["mode"]) for r in results] == [
        (v, m) for v in (40, 400) for m in ("inference", "compact", "training")
    ]
    for result in results:
        stages = {row["stage"]: row for row in result["stages"]}
        named = {"backbone", "neck", "categories", "selection", "encoder", "decoder", "total"}
        assert named <= set(stages)
        assert stages["total"]["seconds"] >= stages["encoder"]["seconds"] > 0
        assert ("backward" in stages) == (result["mode"] == "training")
    assert Image.open(folder / "profile.png").size[0] > 500


def test_the_counts_are_those_of_the_model(profiled):
    _, results = profiled
    assert stage(results, 400, "inference", "categories")["flops"] == 0  # kept since the first pass
    hidden, dim, layers, tokens = 48, 32, 2, 1 + 4 * 6
    small, large = (stage(results, v, "inference", "selection")["flops"] for v in (40, 400))
    ffn, attention = 2 * dim * hidden, 2 * tokens * dim
    projections = 2 * dim * dim - dim * dim / 2  # the first query projection is kept
    per_category = 2 * (layers * (ffn + attention + projections) + dim)
    assert large - small == pytest.approx(360 * per_category, rel=0.02)
    parameters = [stage(results, v, "training", "categories")["parameters"] for v in (40, 400)]
    assert parameters[1] - parameters[0] == 360 * dim


def test_the_memory_of_a_category_is_counted(profiled):
    _, results = profiled

    def per_category(mode, name):
        small, large = (stage(results, v, mode, name)["held_bytes"] for v in (40, 400))
        return (large - small) / 360

    vector = 32 * 4  # float32
    tree = per_category("training", "categories") - vector  # index and weight tensors
    assert 0 < tree < 64
    # the embedding, and kept from image to image the query and its first projection
    assert per_category("inference", "categories") == pytest.approx(tree + 3 * vector)
    assert per_category("inference", "selection") == 0
    assert per_category("compact", "categories") == per_category("compact", "total") == vector / 2
    assert per_category("compact", "selection") == per_category("training", "selection") == 0


def test_the_cost_of_a_category_is_printed(profiled, capsys):
    profile_model.print_cost_of_a_category(profiled[1], "compact")
    assert "0 parameters, 64 bytes held" in capsys.readouterr().out
