"""Small datasets with everything that evaluations trip over, and the originals to compare with."""

import contextlib
import copy
import io
import logging

import numpy as np
from hypothesis import strategies as st
from lvis import LVIS, LVISEval, LVISResults
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from cqdino_d2.evaluation import ground_truth_from, to_detections
from cqdino_d2.evaluation.result_json import RawResults
from cqdino_d2.structures import CategoryHierarchy

if not hasattr(np, "float"):
    vars(np)["float"] = float  # lvis 0.5.3 asks for it

CATEGORY_IDS = [4, 1, 9, 2]
IMAGE_IDS = [7, 3, 12]
UNKNOWN_CATEGORY = 77

_side = st.sampled_from([0, 10, 16, 32, 40, 96, 100])
_box = st.tuples(st.integers(0, 4), st.integers(0, 4), _side, _side)
_odd_box = st.tuples(st.integers(0, 4), st.integers(0, 4), st.sampled_from([-5, 0, 10, 33]), _side)
_score = st.sampled_from([0.0, 0.1, 0.5, 0.5, 0.9, 1.0, -0.5])


def _pick(ids):
    return st.sampled_from(ids)


@st.composite
def annotation_sets(draw, max_boxes=14):
    """The content of an annotation file in LVIS' form."""
    rows = draw(
        st.lists(
            st.tuples(_pick(IMAGE_IDS), _pick(CATEGORY_IDS), _box, *[st.booleans()] * 2, _side),
            max_size=max_boxes,
        )
    )
    first_id = draw(st.sampled_from([0, 1]))
    annotations = []
    for index, (image, category, box, crowd, ignore, side) in enumerate(rows):
        area = box[2] * box[3] if side != 16 else side**2
        annotations.append(
            {
                "id": index + first_id,
                "image_id": image,
                "category_id": category,
                "bbox": list(box),
                "area": area,
                "iscrowd": int(crowd and ignore),
                "ignore": int(ignore),
            }
        )
    subset = st.lists(_pick(CATEGORY_IDS), unique=True, max_size=3)
    return {
        "images": [
            {
                "id": image,
                "neg_category_ids": draw(subset),
                "not_exhaustive_category_ids": draw(subset),
            }
            for image in IMAGE_IDS
        ],
        "categories": [
            {"id": one, "name": str(one), "frequency": "rcf"[index % 3], "novel": index % 2 == 0}
            for index, one in enumerate(CATEGORY_IDS)
        ],
        "annotations": annotations,
    }


@st.composite
def result_lists(draw, max_size=24):
    """Detections; most of them on the grid of the boxes, so that IoUs and scores tie.

    The category of the first one is known: results without any are those of another set.
    """
    ids = [*CATEGORY_IDS, UNKNOWN_CATEGORY]
    rows = draw(
        st.lists(
            st.tuples(_pick(IMAGE_IDS), _pick(ids), st.one_of(_box, _odd_box), _score),
            min_size=1,
            max_size=max_size,
        )
    )
    rows[0] = (rows[0][0], draw(_pick(CATEGORY_IDS)), *rows[0][2:])
    return [
        {"image_id": image, "category_id": category, "bbox": list(box), "score": score}
        for image, category, box, score in rows
    ]


@st.composite
def hierarchies(draw):
    """A directed acyclic graph over the four categories and three virtual nodes."""
    parents = [
        draw(st.lists(st.integers(0, 6), unique=True, max_size=3)) if node else []
        for node in range(7)
    ]
    order = draw(st.permutations(range(7)))
    place = {node: rank for rank, node in enumerate(order)}
    kept = [[p for p in row if place[p] < place[node]] for node, row in enumerate(parents)]
    return CategoryHierarchy(len(CATEGORY_IDS), kept)


def large_set(seed=0, images=12, categories=6, boxes=150, detections=9000):
    """Many more than 300 detections of some (image, category)."""
    rng = np.random.default_rng(seed)
    corner = rng.integers(0, 300, (boxes, 2))
    size = rng.integers(2, 150, (boxes, 2))
    truth = np.concatenate([corner, size], 1).astype(float) + rng.random((boxes, 4)).round(2)
    of_image = rng.integers(1, images + 1, boxes)
    of_category = rng.integers(1, categories + 1, boxes)
    annotations = [
        {
            "id": index + 1,
            "image_id": int(of_image[index]),
            "category_id": int(of_category[index]),
            "bbox": truth[index].tolist(),
            "area": float(truth[index, 2] * truth[index, 3] * rng.choice([1, 0.7])),
            "iscrowd": int(rng.random() < 0.1),
            "ignore": int(rng.random() < 0.1),
        }
        for index in range(boxes)
    ]
    near = rng.integers(0, boxes, detections)
    found = truth[near] + rng.normal(0, 6, (detections, 4)) * (rng.random((detections, 1)) < 0.9)
    same = rng.random(detections) < 0.7
    results = [
        {
            "image_id": int(of_image[near[i]]) if i % 3 else 1,
            "category_id": int(of_category[near[i]]) if same[i] else int(i % categories + 1),
            "bbox": found[i].tolist(),
            "score": float(rng.random().__round__(2)),
        }
        for i in range(detections)
    ]
    choose = lambda: rng.choice(categories, 2, replace=False) + 1  # noqa: E731
    content = {
        "images": [
            {
                "id": image + 1,
                "neg_category_ids": choose().tolist(),
                "not_exhaustive_category_ids": choose().tolist(),
            }
            for image in range(images)
        ],
        "categories": [
            {"id": k + 1, "name": f"c{k}", "frequency": "rcf"[k % 3], "novel": k % 3 == 0}
            for k in range(categories)
        ],
        "annotations": annotations,
    }
    return content, results


def columns_of(content, results):
    """Our form of a set."""
    truth = ground_truth_from(copy.deepcopy(content), "annotations")
    raw = RawResults(
        np.array([r["image_id"] for r in results], np.int64),
        np.array([r["category_id"] for r in results], np.int64),
        np.array([r["bbox"] for r in results], np.float64).reshape(-1, 4),
        np.array([r["score"] for r in results], np.float64),
    )
    return truth, to_detections([raw], truth, "results")


def by_pycocotools(content, results, max_dets):
    """pycocotools' own tensors."""
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO()
        coco.dataset = copy.deepcopy(content)
        coco.createIndex()
        official = COCOeval(coco, coco.loadRes(copy.deepcopy(results)), "bbox")
        official.params.maxDets = list(max_dets)
        official.evaluate()
        official.accumulate()
        if len(max_dets) == 3:
            official.summarize()
    return official


def by_lvis_api(content, results, *, max_dets=300, per_category=None):
    """lvis-api's own tensors and figures; ``per_category`` cuts as AP-fixed does."""
    logging.getLogger("lvis").setLevel(logging.ERROR)
    truth = LVIS.__new__(LVIS)
    truth.logger = logging.getLogger("lvis")
    truth.dataset = copy.deepcopy(content)
    truth._create_index()
    results = copy.deepcopy(results)
    if per_category is not None:
        groups = {}
        for row in results:
            groups.setdefault(row["category_id"], []).append(row)
        best = [sorted(g, key=lambda r: r["score"], reverse=True) for g in groups.values()]
        results = [row for group in best for row in group[:per_category]]
        max_dets = -1
    official = LVISEval(truth, LVISResults(truth, results, max_dets=max_dets), "bbox")
    official.params.max_dets = max_dets
    official.run()
    return official
