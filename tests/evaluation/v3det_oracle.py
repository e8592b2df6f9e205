"""V3Det's rules once more: one loop per sentence of them, on plain dicts, none of our code."""

import numpy as np

IOUS = list(np.linspace(0.5, 0.95, 10))
AREAS = {"all": (0, 1e10), "s": (0, 1024), "m": (1024, 9216), "l": (9216, 1e10)}


def overlap(d, g, crowd):
    w = min(d[0] + d[2], g[0] + g[2]) - max(d[0], g[0])
    h = min(d[1] + d[3], g[1] + g[3]) - max(d[1], g[1])
    if w <= 0 or h <= 0:
        return 0.0
    return w * h / (d[2] * d[3] if crowd else d[2] * d[3] + g[2] * g[3] - w * h)


def descendants(node, father2child):
    found = set()
    for child in father2child.get(node, []):
        found |= {child} | descendants(child, father2child)
    return found


def grouped(rows):
    groups = {}
    for row in rows:
        groups.setdefault((row["image_id"], row["category_id"]), []).append(row)
    return groups


def boxes_with_copies(content, results, below):
    """(image, category) -> boxes; ``below``: category id -> ids of its descendants."""
    detected = set(grouped(results))
    rows = [dict(row, ignore=bool(row["iscrowd"])) for row in content["annotations"]]
    copies = [
        dict(row, category_id=category, ignore=True)
        for row in rows
        for category in sorted(below.get(row["category_id"], ()))
        if (row["image_id"], category) in detected
    ]
    return grouped(rows + copies)


def match(dets, boxes, iou_threshold, area):
    """'hit', 'miss' or 'ignored' for each detection."""
    low, high = area
    boxes = [(g, g["ignore"] or not low <= g["area"] <= high) for g in boxes]
    boxes = [b for b in boxes if not b[1]] + [b for b in boxes if b[1]]
    used = set()
    verdicts = []
    for d in dets:
        best, best_iou = None, min(iou_threshold, 1 - 1e-10)
        for index, (g, ignored) in enumerate(boxes):
            if index in used and not g["iscrowd"]:
                continue
            if best is not None and not boxes[best][1] and ignored:
                break
            iou = overlap(d["bbox"], g["bbox"], g["iscrowd"])
            if iou >= best_iou:
                best, best_iou = index, iou
        if best is not None:
            used.add(best)
        if best is not None and boxes[best][1]:
            verdicts.append("ignored")
        elif best is not None and boxes[best][0]["id"] != 0:
            verdicts.append("hit")
        else:
            inside = low <= d["bbox"][2] * d["bbox"][3] <= high
            verdicts.append("miss" if inside else "ignored")
    return verdicts


def curve(judged, wanted):
    """Precision at the 101 recalls and the final recall, from (score, verdict) by image."""
    order = sorted(range(len(judged)), key=lambda i: -judged[i][0])
    hits = misses = 0
    points = []
    for i in order:
        hits += judged[i][1] == "hit"
        misses += judged[i][1] == "miss"
        points.append((hits / wanted, hits / (misses + hits + np.spacing(1))))
    sampled = []
    for recall in np.linspace(0, 1, 101):
        reached = [i for i, point in enumerate(points) if point[0] >= recall]
        sampled.append(max(p for _, p in points[reached[0] :]) if reached else 0.0)
    return sampled, points[-1][0] if points else 0.0


def evaluate(content, results, below, max_dets=300):
    """(category id, area name) -> (10 x 101 precisions, 10 recalls); only where boxes are."""
    boxes, dets = boxes_with_copies(content, results, below), grouped(results)
    images = sorted(row["id"] for row in content["images"])
    found = {}
    for category in sorted(row["id"] for row in content["categories"]):
        for name, area in AREAS.items():
            wanted = sum(
                not g["ignore"] and area[0] <= g["area"] <= area[1]
                for image in images
                for g in boxes.get((image, category), [])
            )
            if not wanted:
                continue
            curves = []
            for threshold in IOUS:
                judged = []
                for image in images:
                    key = (image, category)
                    best = sorted(dets.get(key, []), key=lambda d: -d["score"])[:max_dets]
                    verdicts = match(best, boxes.get(key, []), threshold, area)
                    judged += zip([d["score"] for d in best], verdicts, strict=True)
                curves.append(curve(judged, wanted))
            found[category, name] = ([c[0] for c in curves], [c[1] for c in curves])
    return found


def mean_ap(found, area="all", categories=None):
    """0..1 or -1."""
    chosen = [v for (c, a), v in found.items() if a == area and (not categories or c in categories)]
    return float(np.mean([v[0] for v in chosen])) if chosen else -1.0
