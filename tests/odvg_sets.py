"""Small files in ODVG, with images."""

import json

from .annotation_sets import write_json, write_picture

SIZE = (60, 80)  # height and width of every image
NAMES = ["cat", "dog", "traffic light", "Hair_drier", "wine glass/bottle"]


def detection_line(name, boxes, **fields):
    """``boxes``: (label, left, top, right, bottom)."""
    instances = [
        {"bbox": box, "label": label, "category": NAMES[label].lower()} for label, *box in boxes
    ]
    line = {"filename": name, "height": SIZE[0], "width": SIZE[1]}
    return line | {"detection": {"instances": instances}} | fields


def detection_lines():
    """Seven boxes: one wholly outside, one partly, one without width; and no box in two lines."""
    return [
        detection_line("a.png", [(2, 1, 2, 30, 40), (1, 10, 10, 10, 40), (0, 90, 0, 120, 20)]),
        detection_line("b.png", []),
        {"filename": "c.png", "height": SIZE[0], "width": SIZE[1]},
        detection_line("d.png", [(3, 5, 5, 20, 20), (4, 70, 50, 200, 200), (3, 0, 0, 9, 9)]),
        detection_line("e.png", [(0, 2, 2, 9, 9)], neg_category_ids=[1, 3]),
    ]


def region(box, phrase, *spans):
    found = {"bbox": box, "phrase": phrase}
    return found | ({"tokens_positive": [list(span) for span in spans]} if spans else {})


def grounding_line(name, caption, *regions):
    line = {"filename": name, "height": SIZE[0], "width": SIZE[1]}
    return line | {"grounding": {"caption": caption, "regions": list(regions)}}


def grounding_lines():
    return [
        grounding_line(
            "a.png",
            "a man on the bench",
            region([[1, 2, 30, 40], [5, 5, 20, 20]], "a man", (0, 5)),
            region([90, 3, 99, 9], "the bench", (9, 18)),
        ),
        grounding_line("b.png", " Caterpillar and Cat", region([0, 0, 90, 9], "cat")),
        grounding_line("c.png", "nobody is here."),
        grounding_line(
            "d.png",
            "two big, old dogs",
            region([1, 1, 5, 6], ["two", "dogs"], (13, 17), (0, 3)),
            region([[2, 3, 4, 5]], None, (4, 7)),
        ),
    ]


def write_lines(path, lines):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return path


def write_odvg(folder):
    """detection.jsonl with label_map.json, grounding.jsonl, and the images of both."""
    write_lines(folder / "detection.jsonl", detection_lines())
    write_lines(folder / "grounding.jsonl", grounding_lines())
    write_json(folder / "label_map.json", {str(i): name for i, name in enumerate(NAMES)})
    for name in "abcde":
        write_picture(folder / f"images/{name}.png", *SIZE, seed=ord(name))
    return folder
