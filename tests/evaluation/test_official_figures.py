"""The official V3Det script's figures on the synthetic sets in ../shared (where they are there)."""

import json
from pathlib import Path

import pytest

from cqdino_d2.annotations.v3det_tree import hierarchy_from_v3det_tree
from cqdino_d2.evaluation import CocoProtocol, V3DetProtocol, load_ground_truth, load_results
from tests.evaluation import v3det_oracle

FIXTURES = Path(__file__).parents[3] / "shared" / "v3det_eval"
pytestmark = pytest.mark.skipif(not FIXTURES.is_dir(), reason="no ../shared/v3det_eval")
NAMES = ["AP", "AP50", "AP75", "APs", "APm", "APl", "AR@300", "ARs", "ARm", "ARl"]


def read(name):
    return json.loads((FIXTURES / name).read_text())


@pytest.mark.parametrize("fixture", ["f1", "f2"])
@pytest.mark.parametrize("backend", [None, "reference"])
def test_our_figures_are_the_official_ones(fixture, backend):
    truth = load_ground_truth(FIXTURES / f"{fixture}_gt.json")
    detections = load_results(FIXTURES / f"{fixture}_dt.json", truth)
    tree = FIXTURES / f"{fixture}_tree.json"
    hierarchy = hierarchy_from_v3det_tree(tree, truth.category_ids.tolist())
    report = V3DetProtocol(hierarchy=hierarchy).evaluate(truth, detections, backend=backend)
    official = read(f"{fixture}_official.json")

    def check(names, wanted):
        ours = [report.figures[name] / 100 for name in names]
        assert ours == pytest.approx(wanted, abs=1e-12, rel=0)

    check(NAMES, official["all"])
    check([f"{n}_base" for n in NAMES] + [f"{n}_novel" for n in NAMES], official["ovd"])
    base, novel = official["ovd"][0], official["ovd"][10]
    check(["AP_ovd"], [(base + 3 * novel) / 4])
    per_category = [v if v == -1 else v / 100 for v in report.per_category.figures["AP"]]
    assert per_category == pytest.approx(official["per_category_ap"], abs=1e-12, rel=0)
    plain = CocoProtocol(max_dets=(300,)).evaluate(truth, detections, backend=backend)
    assert plain.figures["AP"] / 100 == pytest.approx(official["plain_coco_ap300"], abs=1e-12)
    assert plain.figures["AP"] != report.figures["AP"]


def test_the_slow_transcription_gives_them_too():
    """So that it may judge ours on other sets."""
    content, results, tree = (read(f"f1_{part}.json") for part in ("gt", "dt", "tree"))
    node_of = {int(k): v for k, v in tree["categoryid2treeid"].items()}
    below = {
        one: {
            other
            for other, node in node_of.items()
            if node in v3det_oracle.descendants(node_of[one], tree["father2child"])
        }
        for one in node_of
    }
    found = v3det_oracle.evaluate(content, results, below)
    official = read("f1_official.json")["all"]
    ours = [v3det_oracle.mean_ap(found, area) for area in v3det_oracle.AREAS]
    assert ours == pytest.approx([official[i] for i in (0, 3, 4, 5)], abs=1e-12, rel=0)
