"""Images by category, as the federated loss draws."""

import json

import numpy as np
from PIL import Image

from cqdino_d2.data import category_image_counts, register_coco_like
from cqdino_d2.data.registration import dataset_vocabulary


def test_an_image_counts_once_for_a_category_and_crowds_do_not(tmp_path):
    shown = {1: [7, 7, 9], 2: [7], 3: [9], 4: []}  # image -> dataset ids of its boxes
    images, annotations = [], []
    for image_id, categories in shown.items():
        Image.fromarray(np.zeros((30, 40, 3), np.uint8)).save(tmp_path / f"{image_id}.png")
        name = f"{image_id}.png"
        images.append({"id": image_id, "file_name": name, "height": 30, "width": 40})
        annotations += [
            {"image_id": image_id, "category_id": one, "bbox": [1, 2, 10, 10], "iscrowd": 0}
            for one in categories
        ]
    crowd = {"image_id": 4, "category_id": 8, "bbox": [1, 2, 10, 10], "iscrowd": 1}
    rows = [a | {"id": i + 1, "area": 100} for i, a in enumerate([*annotations, crowd])]
    categories = [{"id": one, "name": f"c{one}"} for one in (7, 8, 9)]
    path = tmp_path / "a.json"
    path.write_text(json.dumps({"images": images, "annotations": rows, "categories": categories}))
    register_coco_like("counted", path, tmp_path)
    counts = category_image_counts("counted", dataset_vocabulary("counted"))
    assert counts.tolist() == [2, 0, 2]
