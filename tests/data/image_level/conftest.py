"""A small LVIS-like set and images with labels; Detectron2's catalogs left as they were."""

import pytest

from cqdino_d2.data import register_coco_like

from ...annotation_sets import (  # noqa: F401
    box_row,
    clean_catalogs,
    image_row,
    write_json,
    write_picture,
)

CATEGORIES = [  # ids with gaps, not in order; two are called 'crow'
    {"id": 9, "name": "aerosol_can", "synset": "aerosol.n.02"},
    {"id": 2, "name": "crow", "synset": "crow.n.01"},
    {"id": 5, "name": "Band_Aid", "synset": "band_aid.n.01"},
    {"id": 7, "name": "crow", "synset": "crow.n.02"},
]
CROW, BAND_AID, OTHER_CROW, CAN = range(4)  # by ascending id


@pytest.fixture
def boxes(tmp_path):
    """A registered set with boxes, whose categories the vocabulary is."""
    write_picture(tmp_path / "boxes/a.png")
    content = {
        "images": [image_row(1, "a.png")],
        "categories": CATEGORIES,
        "annotations": [box_row(1, 1, 9, [2, 3, 10, 5])],
    }
    register_coco_like("boxes", write_json(tmp_path / "a.json", content), tmp_path / "boxes")
    return "boxes"
