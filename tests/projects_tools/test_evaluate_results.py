"""The command line, on a small made-up set and as a program of its own."""

import csv
import json
import subprocess
import sys
from pathlib import Path

import evaluate_results
import pytest
from benchmarks import make_synthetic_results

from cqdino_d2.annotations.v3det_tree import hierarchy_from_v3det_tree
from cqdino_d2.evaluation import (
    CocoProtocol,
    LvisFixedProtocol,
    LvisProtocol,
    V3DetProtocol,
    load_ground_truth,
    load_results,
    save_results_npz,
)
from tests.runs import run_python

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make_synthetic_results.make_set(tmp_path_factory.mktemp("sets"), "small", seed=1)


def arguments(folder, protocol, *more):
    start = ["--protocol", protocol, "--annotations", str(folder / "annotations.json")]
    return [*start, "--results", str(folder / "results.json"), *more]


def run(folder, output, protocol, *more):
    assert evaluate_results.main(arguments(folder, protocol, "--output", str(output), *more)) == 0
    return json.loads(output.read_text())


def in_python(folder):
    truth = load_ground_truth(folder / "annotations.json")
    tree = hierarchy_from_v3det_tree(folder / "category_tree.json", truth.category_ids.tolist())
    return truth, load_results(folder / "results.json", truth), tree


def test_metrics_are_flat_and_full_precision(folder, tmp_path):
    truth, detections, tree = in_python(folder)
    tree_file = str(folder / "category_tree.json")
    cases = {
        "coco": CocoProtocol(),
        "lvis": LvisProtocol(),
        "lvis-fixed": LvisFixedProtocol(),
        "v3det": V3DetProtocol(hierarchy=tree),
    }
    for name, protocol in cases.items():
        more = ["--category-tree", tree_file] if name == "v3det" else []
        metrics = run(folder, tmp_path / "metrics.json", name, *more)
        assert metrics == protocol.evaluate(truth, detections).figures
        assert 0 < metrics["AP"] < 100
    assert {"AP", "AP50", "AP75", "APs", "AR@300", "AP_base", "AP_novel", "AP_ovd"} <= set(metrics)
    assert {"APr", "APc", "APf", "AP_depth_1", "ARs", "ARs@300"} <= set(metrics)


def test_limits(folder, tmp_path):
    metrics = run(folder, tmp_path / "m.json", "coco", "--max-dets", "5")
    assert {"AR@1", "AR@5"} <= set(metrics) and "AR@10" not in metrics
    few = run(folder, tmp_path / "m.json", "lvis-fixed", "--max-dets", "3")
    assert few["AP"] < run(folder, tmp_path / "m.json", "lvis-fixed")["AP"]


def test_results_as_columns_give_the_same(folder, tmp_path):
    truth, detections, _ = in_python(folder)
    path = tmp_path / "results.npz"
    save_results_npz(path, detections, truth)
    given = arguments(folder, "coco", "--output", str(tmp_path / "metrics.json"))
    given[given.index("--results") + 1] = str(path)
    assert evaluate_results.main(given) == 0
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert metrics == run(folder, tmp_path / "other.json", "coco")


def test_per_category_table(folder, tmp_path):
    path = tmp_path / "new" / "categories.csv"
    tree = ["--category-tree", str(folder / "category_tree.json")]
    metrics = run(folder, tmp_path / "m.json", "v3det", *tree, "--per-category", str(path))
    with open(path, newline="") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["category_id"]) for row in rows] == list(range(1, 61))
    measured = [float(row["AP"]) for row in rows if float(row["AP"]) > -1]
    assert sum(measured) / len(measured) == pytest.approx(metrics["AP"], rel=1e-12)
    assert sum(int(row["boxes"]) for row in rows) > 1400
    assert {"frequency", "novel", "depth", "name", "APs"} <= set(rows[0])


def test_plots_and_breakdown(folder, tmp_path):
    tree = ["--category-tree", str(folder / "category_tree.json")]
    metrics = run(folder, tmp_path / "m.json", "v3det", *tree, "--plots", str(tmp_path / "plots"))
    drawn = {path.stem: path.stat().st_size for path in (tmp_path / "plots").iterdir()}
    assert set(drawn) == {"ap_over_frequency", "precision_recall", "errors", "tree_branches"}
    assert min(drawn.values()) > 10_000
    assert metrics["errors_background"] > 0 and metrics["AP50_gain_localisation"] > 0


def test_a_set_that_is_there_is_not_made_again(folder):
    before = (folder / "results.json").stat().st_mtime_ns
    assert make_synthetic_results.make_set(folder.parent, "small", seed=1) == folder
    assert (folder / "results.json").stat().st_mtime_ns == before
    with pytest.raises(FileExistsError, match="something else"):
        make_synthetic_results.make_set(folder.parent, "small", seed=2)


def test_bad_input_is_one_line_and_code_2(folder, tmp_path, capsys):
    path = tmp_path / "results.json"
    path.write_text('[{"image_id": 1,')
    given = arguments(folder, "coco")
    given[given.index("--results") + 1] = str(path)
    assert evaluate_results.main(given) == 2
    assert "cut short" in capsys.readouterr().err
    tree = tmp_path / "tree.json"
    tree.write_text(json.dumps({"categoryid2treeid": {}, "father2child": {}, "child2father": {}}))
    assert evaluate_results.main(arguments(folder, "v3det", "--category-tree", str(tree))) == 2
    assert "does not know 60 of the 60 category ids" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        evaluate_results.main(arguments(folder, "v3det"))
    assert "needs --category-tree" in capsys.readouterr().err


def test_plots_say_what_they_need(folder, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert evaluate_results.main(arguments(folder, "coco", "--plots", str(tmp_path))) == 2
    assert "pip install matplotlib" in capsys.readouterr().err


def test_as_a_program(folder, tmp_path):
    output = tmp_path / "metrics.json"
    tool = ROOT / "projects_tools" / "evaluate_results.py"
    command = [sys.executable, str(tool), *arguments(folder, "lvis", "--output", str(output))]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=True)
    assert "APr" in done.stdout and json.loads(output.read_text())["AP"] > 0


def test_scoring_a_file_does_without_torch_and_detectron2():
    code = """
import sys
from cqdino_d2 import annotations, evaluation, extension
from cqdino_d2.evaluation import scoring
evaluation.choose_backend()
print({"torch", "detectron2", "torchvision"} & set(sys.modules))
"""
    assert run_python(code) == "set()"
