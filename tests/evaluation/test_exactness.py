"""Bit for bit what the originals compute, on sets full of ties and oddities, by both backends."""

import itertools
from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cqdino_d2.evaluation import (
    CocoProtocol,
    LvisFixedProtocol,
    LvisProtocol,
    V3DetProtocol,
    accumulate,
    compiled,
    match,
    protocols,
)
from cqdino_d2.structures import CategoryHierarchy
from tests.evaluation import sets, v3det_oracle

BACKENDS = [
    "reference",
    pytest.param(
        "compiled", marks=pytest.mark.skipif(not compiled.is_available(), reason="not built")
    ),
]
every_backend = pytest.mark.parametrize("backend", BACKENDS)
thorough = settings(max_examples=120, deadline=None, derandomize=True)


def measure(problem, backend, **kept):
    outcomes = match(problem, backend=backend)
    return accumulate(outcomes, problem.rules, backend=backend, **kept)


def assert_same_bits(ours, theirs):
    assert ours.shape == theirs.shape
    np.testing.assert_array_equal(ours.view(np.uint64), theirs.view(np.uint64))


def assert_equals_pycocotools(content, results, max_dets, backend):
    official = sets.by_pycocotools(content, results, max_dets)
    problem = CocoProtocol(max_dets=max_dets).problem(*sets.columns_of(content, results))
    curves = measure(problem, backend, keep_all=True).in_coco_layout()
    for name in ("precision", "recall", "scores"):
        theirs = official.eval[name] + 0.0  # -0.0 is 0.0
        assert_same_bits(np.ascontiguousarray(curves[name]) + 0.0, theirs)
    return official


def assert_equals_lvis(content, results, backend, *, max_dets=300, per_category=None):
    official = sets.by_lvis_api(content, results, max_dets=max_dets, per_category=per_category)
    protocol = (
        LvisProtocol(max_dets=max_dets)
        if per_category is None
        else LvisFixedProtocol(max_dets=per_category)
    )
    report = protocol.evaluate(*sets.columns_of(content, results), backend=backend)
    layout = report.curves.in_coco_layout()
    for name in ("precision", "recall"):
        assert_same_bits(np.ascontiguousarray(layout[name][..., 0]), official.eval[name])
    for name, value in official.results.items():
        key = name.split("@")[0] if per_category is not None else name
        assert report.figures[key] == (100 * value if value > -1 else -1), name


@every_backend
@thorough
@given(
    content=sets.annotation_sets(),
    results=sets.result_lists(),
    max_dets=st.sampled_from([(1, 10, 100), (1, 2, 3), (1,), (2, 300)]),
)
def test_coco_tensors(content, results, max_dets, backend):
    assert_equals_pycocotools(content, results, max_dets, backend)


@every_backend
@pytest.mark.parametrize("max_dets", [(1, 10, 100), (300,)])
def test_coco_on_a_crowded_set(max_dets, backend):
    content, results = sets.large_set()
    assert_equals_pycocotools(content, results, max_dets, backend)


@every_backend
def test_coco_figures(backend):
    content, results = sets.large_set(seed=5)
    official = sets.by_pycocotools(content, results, (1, 10, 100))
    report = CocoProtocol().evaluate(*sets.columns_of(content, results), backend=backend)
    names = ["AP", "AP50", "AP75", "APs", "APm", "APl"]
    names += ["AR@1", "AR@10", "AR@100", "ARs", "ARm", "ARl"]
    assert [report.figures[name] for name in names] == (100 * official.stats).tolist()


@every_backend
def test_coco_at_another_limit_gives_the_real_figure(backend):
    content, results = sets.large_set(seed=6)
    report = CocoProtocol(max_dets=(1, 10, 300)).evaluate(*sets.columns_of(content, results))
    official = sets.by_pycocotools(content, results, (1, 10, 300))
    assert official.stats[0] == -1
    whole = official.eval["precision"][:, :, :, 0, -1]
    assert report.figures["AP"] == 100 * np.mean(whole[whole > -1])
    assert report.figures["AR@300"] == 100 * official.stats[8]


@every_backend
@thorough
@given(
    content=sets.annotation_sets(),
    results=sets.result_lists(),
    max_dets=st.sampled_from([1, 3, 300]),
)
def test_lvis_tensors(content, results, max_dets, backend):
    assert_equals_lvis(content, results, backend, max_dets=max_dets)


@every_backend
@settings(thorough, max_examples=40)
@given(content=sets.annotation_sets(), results=sets.result_lists(), limit=st.integers(1, 8))
def test_lvis_fixed_tensors(content, results, limit, backend):
    assert_equals_lvis(content, results, backend, per_category=limit)


@every_backend
def test_lvis_on_a_crowded_set(backend):
    content, results = sets.large_set(seed=2)
    assert_equals_lvis(content, results, backend)
    assert_equals_lvis(content, results, backend, per_category=700)


@pytest.mark.parametrize("name", ["_LARGEST_TABLE", "_ROWS_AT_ONCE"])
@settings(thorough, max_examples=40)
@given(content=sets.annotation_sets(), results=sets.result_lists())
def test_lvis_by_a_search_and_in_many_blocks(name, content, results):
    """Sets too large for a table of all pairs, and larger than a block."""
    with mock.patch.object(protocols, name, {"_LARGEST_TABLE": 0, "_ROWS_AT_ONCE": 2}[name]):
        assert_equals_lvis(content, results, "reference")


def below(hierarchy: CategoryHierarchy):
    """Category id -> ids of its descendants, from the children alone."""

    def nodes_below(node):
        found = set()
        for child in hierarchy.children[node].tolist():
            found |= {child} | nodes_below(child)
        return found

    ids = sorted(sets.CATEGORY_IDS)
    return {
        one: {ids[node] for node in nodes_below(rank) if node < len(ids)}
        for rank, one in enumerate(ids)
    }


@every_backend
@settings(thorough, max_examples=60)
@given(
    content=sets.annotation_sets(),
    results=sets.result_lists(max_size=16),
    hierarchy=sets.hierarchies(),
    max_dets=st.sampled_from([1, 300]),
)
def test_v3det_against_a_slow_transcription(content, results, hierarchy, max_dets, backend):
    known = [row for row in results if row["category_id"] != sets.UNKNOWN_CATEGORY]
    wanted = v3det_oracle.evaluate(content, known, below(hierarchy), max_dets)
    protocol = V3DetProtocol(hierarchy=hierarchy, max_dets=max_dets)
    report = protocol.evaluate(*sets.columns_of(content, results), backend=backend)
    curves = report.curves
    for rank, category in enumerate(sorted(sets.CATEGORY_IDS)):
        for area, name in enumerate(v3det_oracle.AREAS):
            if (category, name) not in wanted:
                assert (curves.precision[rank, area] == -1).all()
                assert (curves.recall[rank, area] == -1).all()
                continue
            precision, recall = wanted[category, name]
            np.testing.assert_array_equal(curves.precision[rank, area, 0], precision)
            np.testing.assert_array_equal(curves.recall[rank, area, 0], recall)
    ap = v3det_oracle.mean_ap(wanted)
    assert report.figures["AP"] == pytest.approx(100 * ap if ap > -1 else -1, abs=1e-11)


@pytest.mark.skipif(not compiled.is_available(), reason="not built")
@settings(thorough, max_examples=60)
@given(
    content=sets.annotation_sets(),
    results=sets.result_lists(),
    hierarchy=sets.hierarchies(),
    single=st.booleans(),
)
def test_both_backends_agree_on_matches_and_single_precision(content, results, hierarchy, single):
    truth, detections = sets.columns_of(content, results)
    if single:
        detections = type(detections)(
            detections.images,
            detections.categories,
            detections.boxes_xywh_abs.astype(np.float32),
            detections.scores.astype(np.float32),
        )
    protocols = [V3DetProtocol(hierarchy=hierarchy), LvisProtocol(), CocoProtocol()]
    for protocol in protocols:
        problem = protocol.problem(truth, detections)
        one, other = (
            match(problem, keep_matches=True, backend=backend)
            for backend in ("reference", "compiled")
        )
        for name in ("starts", "ends", "num_boxes", "matches"):
            np.testing.assert_array_equal(getattr(one, name), getattr(other, name), name)
        for start, end in zip(one.starts, one.ends, strict=True):
            for name in ("scores", "ranks"):
                ours, theirs = (getattr(o, name)[start:end] for o in (one, other))
                np.testing.assert_array_equal(ours, theirs)
            masks = [o.masks[o.codes[start:end]] for o in (one, other)]
            np.testing.assert_array_equal(*masks)
        curves = [
            accumulate(o, problem.rules, keep_all=True, backend=backend)
            for o, backend in itertools.product((one, other), ("reference", "compiled"))
        ]
        for name, other in itertools.product(("precision", "recall", "scores"), curves[1:]):
            np.testing.assert_array_equal(getattr(curves[0], name), getattr(other, name), name)
        for backend in ("reference", "compiled"):
            brief = accumulate(one, problem.rules, backend=backend)
            np.testing.assert_array_equal(brief.precision, curves[0].precision[:, :, -1:])
            np.testing.assert_array_equal(brief.recall, curves[0].recall)
            assert brief.scores is None


@pytest.mark.skipif(not compiled.is_available(), reason="not built")
def test_the_number_of_threads_changes_nothing(monkeypatch):
    content, results = sets.large_set(seed=9)
    problem = CocoProtocol().problem(*sets.columns_of(content, results))
    found = []
    for threads in (1, 3):
        monkeypatch.setenv("OMP_NUM_THREADS", str(threads))
        assert compiled.num_threads() == threads
        found.append(measure(problem, "compiled").precision)
    assert_same_bits(*found)
