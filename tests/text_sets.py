"""Small files in the layouts of RefCOCO, gRefCOCO, Flickr30k Entities and ODinW, with images."""

from .annotation_sets import box_row, write_json, write_picture

SIZE = (60, 80)  # height and width of every image


def text_row(image_id, name, caption, **fields):
    height, width = SIZE
    return {
        "id": image_id,
        "file_name": name,
        "height": height,
        "width": width,
        "caption": caption,
        **fields,
    }


def target(annotation_id, image_id, bbox, category_id=1, **fields):
    return box_row(annotation_id, image_id, category_id, bbox) | fields


def expressions():
    """Five expressions about three images, of two of the three datasets."""
    captions = ["the left dog", "A dog, sleeping. ", "red ball", "who is that?", "the ball"]
    names = ["refcoco", "refcoco", "refcocog", "refcocog", "refcocog"]
    rows = [
        text_row(10 + i, f"COCO_train2014_{i % 3}.png", caption, dataset_name=name)
        for i, (caption, name) in enumerate(zip(captions, names, strict=True))
    ]
    boxes = [target(1 + i, 10 + i, [10 * i, 5, 20, 20]) for i in range(5)]
    return {"images": rows, "annotations": boxes, "categories": [{"id": 1, "name": "object"}]}


def generalised():
    """An expression with two targets, one with one, two without."""
    rows = [
        text_row(3, "COCO_train2014_0.png", "both dogs", dataset_name="grefcoco"),
        text_row(1, "COCO_train2014_1.png", "the ball", dataset_name="grefcoco"),
        text_row(2, "COCO_train2014_1.png", "the horse", dataset_name="grefcoco"),
        text_row(5, "COCO_train2014_2.png", "a cow", dataset_name="grefcoco"),
    ]
    boxes = [
        target(1, 3, [0, 0, 10, 10]),
        target(2, 1, [30, 30, 20, 20]),
        target(3, 3, [40, 0, 10, 10]),
        target(4, 2, [0, 0, 0, 0], category_id=-1),
        target(5, 5, [0, 0, 0, 0], category_id="-1"),
    ]
    return {"images": rows, "annotations": boxes}


def sentences():
    """Two sentences with phrases and one without; phrases by their spans, then by their ids."""
    first = "A man with a red hat ."
    second = "Two dogs and a ball"
    rows = [
        text_row(0, "0.png", first, tokens_positive_eval=[[[0, 5]], [[11, 20]]]),
        text_row(1, "1.png", "Nothing to see .", tokens_positive_eval=[]),
        text_row(2, "1.png", second, tokens_positive_eval=[[[0, 3], [4, 8]], [[13, 19]]]),
    ]
    boxes = [
        target(1, 0, [0, 0, 30, 50], tokens_positive=[[0, 5]]),
        target(2, 0, [5, 0, 10, 10], tokens_positive=[[11, 20]]),
        target(3, 2, [40, 40, 10, 10], phrase_ids=77),
        target(4, 2, [0, 0, 20, 20], phrase_ids=9),
        target(5, 2, [30, 0, 20, 20], phrase_ids=9),
    ]
    return {"images": rows, "annotations": boxes}


def write_text_sets(root):
    """A root folder with the three kinds of texts and their images."""
    files = {
        "coco/mdetr_annotations/finetune_refcoco_val.json": expressions(),
        "coco/mdetr_annotations/finetune_grefcoco_val.json": generalised(),
        "flickr30k_entities/final_flickr_separateGT_val.json": sentences(),
    }
    for name, content in files.items():
        write_json(root / name, content)
        split = "flickr" in name
        folder = "flickr30k_entities/flickr30k_images" if split else "coco/train2014"
        for image in content["images"]:
            write_picture(root / folder / image["file_name"], *SIZE)
    return root


def odinw_set(names, image_ids):
    """One box of each category in every image, category ids from 1 on."""
    rows = [
        {"id": i, "file_name": f"{i}.png", "height": SIZE[0], "width": SIZE[1]} for i in image_ids
    ]
    boxes = [
        target(1 + i * len(names) + c, one, [20 * c, 10, 16, 20 + 10 * i], category_id=c + 1)
        for i, one in enumerate(image_ids)
        for c in range(len(names))
    ]
    categories = [{"id": c + 1, "name": name} for c, name in enumerate(names)]
    return {"images": rows, "annotations": boxes, "categories": categories}


def write_odinw_set(root, folder, content, json_file="annotations_without_background.json"):
    """The set with its images beside the annotation file."""
    for image in content["images"]:
        write_picture(root / "odinw" / folder / image["file_name"], *SIZE)
    return write_json(root / "odinw" / folder / json_file, content)
