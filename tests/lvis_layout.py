"""A small dataset that lies as LVIS and Detic's ImageNet of LVIS' categories lie."""

import numpy as np
import torch

from tests.annotation_sets import box_row, image_row, write_json, write_picture

IDS = (2, 3, 5, 8, 9, 11, 14, 20)  # with gaps
FREQUENCIES = "rrcccfff"
TEXT_DIM = 24


def categories():
    """LVIS' fields, and the image count by which the federated loss may not be misled."""
    return [
        {
            "id": one,
            "name": f"thing_{one}",
            "synset": f"thing.n.{one:02}",
            "frequency": frequency,
            "image_count": 100,
        }
        for one, frequency in zip(IDS, FREQUENCIES, strict=True)
    ]


def _split(root, split, count, seed):
    """Images in coco/SPLIT2017, which LVIS names by a URL alone."""
    rng = np.random.default_rng(seed)
    images, boxes = [], []
    for number in range(1, count + 1):
        height, width = (60, 84) if number % 2 else (72, 56)
        name = f"{split}2017/{number:012}.jpg"
        write_picture(root / "coco" / name, height, width, seed=seed + number)
        row = image_row(number, name, height=height, width=width)
        del row["file_name"]
        shown = rng.choice(IDS, 1 + number % 3, replace=False).tolist()
        row["coco_url"] = f"http://images.cocodataset.org/{name}"
        row["neg_category_ids"] = [one for one in IDS if one not in shown][:3]
        row["not_exhaustive_category_ids"] = shown[:1]
        images.append(row)
        for one in shown if number > 1 else ():  # the first has no box
            x, y = rng.integers(0, 30, 2).tolist()
            boxes.append(box_row(len(boxes) + 1, number, one, [x, y, 20 + number, 25]))
    content = {"images": images, "annotations": boxes, "categories": categories()}
    write_json(root / f"lvis/lvis_v1_{split}.json", content)


def _labelled(root):
    """Nine images with a label; one whose label is no category, and one that is damaged."""
    folder, images = root / "imagenet/ImageNet-LVIS", []
    for number in range(1, 12):
        name = f"n{number % 3:08}/{number}.jpg"
        height, width = (50, 70) if number % 2 else (64, 40)
        write_picture(folder / name, height, width, seed=100 + number)
        label = 777 if number == 10 else IDS[number % len(IDS)]
        images.append(
            image_row(number, name, height=height, width=width) | {"pos_category_ids": [label]}
        )
    (folder / "n00000002/11.jpg").write_bytes(b"no image")
    content = {"images": images, "categories": categories(), "annotations": []}
    write_json(root / "imagenet/annotations/imagenet_lvis_image_info.json", content)


def make_lvis_layout(root):
    """Writes the sets below a root folder, and a made-up text table: ``table.pth``."""
    _split(root, "train", count=9, seed=0)
    _split(root, "val", count=4, seed=50)
    _labelled(root)
    table = torch.randn(len(IDS), TEXT_DIM, generator=torch.Generator().manual_seed(0))
    names = [row["name"] for row in categories()]
    content = {"embeddings": table, "ids": list(IDS), "categories": names}
    torch.save(content, root / "table.pth")
    return root
