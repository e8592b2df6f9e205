"""Figures of texts, by hand and against a plain formulation."""

import subprocess
import sys

import numpy as np
import pytest

from cqdino_d2.annotations.grounded_texts import GroundedTexts
from cqdino_d2.evaluation import (
    Detections,
    ExpressionProtocol,
    GeneralizedProtocol,
    PhraseProtocol,
)
from cqdino_d2.evaluation.texts import text_protocol
from cqdino_d2.evaluation.texts.protocols import greedy_pairs


def make_texts(boxes, phrases=None, names=None, kind="refexp"):
    """One text for each list of (phrase, box)."""
    count = len(boxes)
    flat = [box for row in boxes for _, box in row]
    return GroundedTexts(
        kind=kind,
        image_ids=tuple(range(count)),
        file_names=("a.png",) * count,
        sizes=np.full((count, 2), 100, np.int32),
        captions=("x",) * count,
        dataset_names=tuple(names or ("refcoco",) * count),
        phrases=tuple(phrases or ((),) * count),
        box_offsets=np.cumsum([0, *map(len, boxes)]),
        boxes_xywh=np.asarray(flat, float).reshape(-1, 4),
        box_phrases=np.asarray([phrase for row in boxes for phrase, _ in row], np.int32),
    )


def make_detections(rows):
    """Rows of (text, thing, box, score)."""
    texts, things, boxes, scores = zip(*rows, strict=True) if rows else ([], [], [], [])
    return Detections(
        np.asarray(texts, np.int32),
        np.asarray(things, np.int32),
        np.asarray(boxes, np.float32).reshape(-1, 4),
        np.asarray(scores, np.float32),
    )


def evaluate(protocol, texts, rows, predicted=None):
    predicted = np.ones(len(texts), bool) if predicted is None else np.asarray(predicted)
    return protocol.evaluate(texts, make_detections(rows), predicted)


BOX, HALF, LESS, FAR = [0, 0, 20, 20], [0, 0, 10, 20], [0, 0, 9, 20], [60, 60, 20, 20]


def test_an_expression_is_found_at_the_place_of_its_first_hit():
    """Hits at the places 0, 5 and never for refcoco, at 9 and 10 for refcocog."""
    names = ["refcoco", "refcocog", "refcoco", "refcoco", "refcocog"]
    texts = make_texts([[(0, BOX)]] * 5, names=names)
    rows = [(0, 0, FAR, 0.3), (0, 0, HALF, 0.9)]  # the better score comes second; IoU is 0.5
    for text, place in ((1, 9), (2, 5), (4, 10)):
        rows += [(text, 0, FAR, 0.9 - 0.01 * i) for i in range(place)] + [(text, 0, BOX, 0.2)]
    rows.append((3, 0, LESS, 1.0))  # IoU 0.45
    tasks = evaluate(ExpressionProtocol(), texts, rows)
    assert tasks.keys() == {"refcoco", "refcocog", "refexp"}  # refcoco+ is absent, not 0
    assert tasks["refcoco"] == pytest.approx(
        {"recall@1": 100 / 3, "recall@5": 100 / 3, "recall@10": 200 / 3}
    )
    assert tasks["refcocog"] == {"recall@1": 0, "recall@5": 0, "recall@10": 50}
    assert tasks["refexp"] == pytest.approx(
        {"recall@1": 50 / 3, "recall@5": 50 / 3, "recall@10": (200 / 3 + 50) / 2, "sets": 2}
    )


def test_an_expression_for_which_nothing_was_found_is_missed():
    texts = make_texts([[(0, BOX)], [(0, FAR)]])
    tasks = evaluate(ExpressionProtocol(), texts, [(1, 0, FAR, 0.1)])
    assert tasks["refcoco"]["recall@10"] == 50
    assert evaluate(ExpressionProtocol(), texts, [])["refexp"]["recall@10"] == 0


def test_boxes_without_area_hit_nothing():
    empty = [5, 5, 0, 10]
    texts = make_texts([[(0, empty)], [(0, [9, 9, -5, -5])]])
    rows = [(0, 0, empty, 0.9), (1, 0, [9, 9, -5, -5], 0.9)]
    assert evaluate(ExpressionProtocol(), texts, rows)["refcoco"]["recall@10"] == 0


SECOND = [40, 0, 20, 20]


@pytest.mark.parametrize(
    ("found", "exact"),
    [
        ([(BOX, 0.9), (SECOND, 0.7)], True),  # a score of exactly the threshold counts
        ([(BOX, 0.9), (SECOND, 0.69)], False),
        ([(BOX, 0.9), (BOX, 0.8)], False),  # one to one
        ([(BOX, 0.9), (SECOND, 0.8), (FAR, 0.75)], False),
        ([(BOX, 0.9), (SECOND, 0.8), (FAR, 0.5)], True),
        ([(BOX, 0.9), (LESS, 0.8)], False),
        ([(HALF, 0.9), (SECOND, 0.8)], True),
    ],
)
def test_all_targets_and_nothing_else(found, exact):
    texts = make_texts([[(0, BOX), (0, SECOND)]], kind="grefcoco")
    figures = evaluate(GeneralizedProtocol(), texts, [(0, 0, *one) for one in found])["grefcoco"]
    assert figures["Pr@F1"] == 100 * exact
    assert figures["T-acc"] == 100


def test_texts_without_a_target():
    """Right are 0 (no box), 1 (a box of low score) and 4; wrong 2, 3, 5 and 6, not predicted."""
    texts = make_texts([[], [], [], [(0, BOX)], [(0, BOX)], [], []], kind="grefcoco")
    rows = [(1, 0, BOX, 0.6), (2, 0, BOX, 0.8), (3, 0, BOX, 0.6), (4, 0, BOX, 0.8)]
    rows.append((5, 0, FAR, 0.9))
    predicted = [True] * 6 + [False]
    figures = evaluate(GeneralizedProtocol(), texts, rows, predicted)["grefcoco"]
    assert figures == pytest.approx({"Pr@F1": 300 / 7, "N-acc": 200 / 5, "T-acc": 50})


@pytest.mark.parametrize(
    ("boxes", "absent", "said"),
    [([[(0, BOX)]], "N-acc", "without a target"), ([[]], "T-acc", "with a target")],
)
def test_a_kind_that_the_file_lacks_has_no_figure(boxes, absent, said, caplog):
    texts = make_texts(boxes, kind="grefcoco")
    figures = evaluate(GeneralizedProtocol(), texts, [])["grefcoco"]
    assert [name for name, value in figures.items() if np.isnan(value)] == [absent]
    GeneralizedProtocol().check(texts, "val.json")
    assert f"val.json has no text {said}: there is no {absent}" in caplog.text


def test_pairs_are_made_best_first():
    overlaps = np.array([[0.9, 0.8], [0.7, 0.1]])
    assert greedy_pairs(overlaps, 0.5) == 1  # 0.9 takes what 0.8 and 0.7 would have shared
    assert greedy_pairs(np.array([[0.6, 0.8], [0.7, 0.1]]), 0.5) == 2
    assert greedy_pairs(np.zeros((3, 0)), 0.5) == 0


PHRASE = ((0, 1),)


def test_a_phrase_is_found_by_any_of_its_boxes():
    texts = make_texts(
        [[(0, BOX), (0, SECOND), (1, FAR)], [(2, BOX)]],
        phrases=[(PHRASE,) * 3, (PHRASE,) * 3],  # the first text's third phrase has no box
        kind="flickr30k",
    )
    rows = [
        (0, 0, FAR, 0.9),  # another phrase's box
        (0, 0, SECOND, 0.8),  # found at place 1
        (0, 1, FAR, 0.1),  # at 0, though others score better
        (0, 2, FAR, 0.9),  # not asked
        *((1, 2, FAR, 0.9) for _ in range(10)),
        (1, 2, BOX, 0.3),  # at 10
    ]
    figures = evaluate(PhraseProtocol(), texts, rows)["flickr30k"]
    assert figures == pytest.approx(
        {"recall@1": 100 / 3, "recall@5": 200 / 3, "recall@10": 200 / 3, "recall@all": 100}
    )


def test_phrases_without_boxes_have_no_recall(caplog):
    texts = make_texts([[]], phrases=[(PHRASE,)], kind="flickr30k")
    figures = evaluate(PhraseProtocol(), texts, [(0, 0, BOX, 0.9)])["flickr30k"]
    assert all(map(np.isnan, figures.values()))
    PhraseProtocol().check(texts, "val.json")
    assert "val.json has no box" in caplog.text


def plain_iou(one, other):
    left, top = max(one[0], other[0]), max(one[1], other[1])
    right = min(one[0] + one[2], other[0] + other[2])
    bottom = min(one[1] + one[3], other[1] + other[3])
    shared = max(right - left, 0) * max(bottom - top, 0)
    return shared / (one[2] * one[3] + other[2] * other[3] - shared)


def plain_recall(texts, rows, limit):
    """Phrase by phrase, with lists."""
    hits = []
    for text in range(len(texts)):
        start, end = texts.box_offsets[text : text + 2]
        for phrase in sorted(set(texts.box_phrases[start:end].tolist())):
            wanted = [
                texts.boxes_xywh[i] for i in range(start, end) if texts.box_phrases[i] == phrase
            ]
            found = [row for row in rows if row[0] == text and row[1] == phrase]
            found.sort(key=lambda row: -row[3])
            best = found if limit is None else found[:limit]
            hits.append(any(plain_iou(row[2], box) >= 0.5 for row in best for box in wanted))
    return 100 * sum(hits) / len(hits)


@pytest.mark.parametrize("seed", range(4))
def test_recall_equals_the_plain_formulation(seed):
    """Boxes on a grid, so that IoUs and scores tie; things of texts come in any order."""
    rng = np.random.default_rng(seed)

    def box():
        return [*rng.integers(0, 4, 2) * 5.0, *rng.integers(2, 6, 2) * 5.0]

    boxes = [[(int(rng.integers(3)), box()) for _ in range(rng.integers(0, 5))] for _ in range(30)]
    texts = make_texts(boxes, phrases=[(PHRASE,) * 3] * 30, kind="flickr30k")
    rows = [
        (int(rng.integers(30)), int(rng.integers(3)), box(), float(rng.integers(8) / 8))
        for _ in range(600)
    ]
    figures = evaluate(PhraseProtocol(), texts, rows)["flickr30k"]
    for limit in (1, 5, 10):
        assert figures[f"recall@{limit}"] == pytest.approx(plain_recall(texts, rows, limit))
    assert figures["recall@all"] == pytest.approx(plain_recall(texts, rows, None))


def test_a_kind_has_its_protocol():
    kinds = ("refexp", "grefcoco", "flickr30k")
    assert [text_protocol(kind).kind for kind in kinds] == list(kinds)
    with pytest.raises(ValueError, match="refexp, grefcoco, flickr30k, got 'coco'"):
        text_protocol("coco")


def test_scoring_arrays_needs_no_torch():
    code = (
        "import sys; from cqdino_d2.evaluation import PhraseProtocol, ExpressionProtocol;"
        "from cqdino_d2.evaluation.texts import text_protocol; text_protocol('grefcoco');"
        "print({'torch', 'detectron2'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
