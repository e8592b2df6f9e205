import pickle

import numpy as np
import pytest
import torch
from detectron2.data import DatasetMapper
from detectron2.data import transforms as T
from detectron2.structures import BoxMode
from PIL import Image, ImageFile

from cqdino_d2.data.augmentation import training_augmentations
from cqdino_d2.data.mapper import CategoryDatasetMapper
from cqdino_d2.data.mosaic import CutMosaic, QuadrantMosaic
from cqdino_d2.data.seeding import seeded_generators

from ..annotation_sets import write_picture


def record(path, *boxes, **fields):
    annotations = [
        {"bbox": list(box), "bbox_mode": BoxMode.XYWH_ABS, "category_id": index, "iscrowd": 0}
        for index, box in enumerate(boxes)
    ]
    return {
        "file_name": str(path),
        "image_id": 17,
        "height": 20,
        "width": 30,
        "annotations": annotations,
        **fields,
    }


def test_plain_image_and_boxes(tmp_path):
    given = record(write_picture(tmp_path / "a.png"), [2, 3, 10, 5], [2, 3, 10, 5])
    before = pickle.dumps(given)
    mapped = CategoryDatasetMapper(augmentations=[])(given)
    assert pickle.dumps(given) == before
    pixels = np.asarray(Image.open(tmp_path / "a.png"))
    assert mapped["image"].dtype == torch.uint8
    assert np.array_equal(mapped["image"].numpy(), pixels.transpose(2, 0, 1))
    assert (mapped["height"], mapped["width"], mapped["image_id"]) == (20, 30, 17)
    assert mapped["instances"].gt_boxes.tensor.tolist() == [[2, 3, 12, 8]] * 2
    assert mapped["instances"].gt_classes.tolist() == [0, 1]
    assert mapped["instances"].gt_classes.dtype == torch.int64
    assert "annotations" not in mapped


def test_boxes_of_different_modes(tmp_path):
    given = record(write_picture(tmp_path / "a.png"), [2, 3, 10, 5], [2, 3, 10, 5], [1, 1, 2, 2])
    given["annotations"][1]["bbox_mode"] = BoxMode.XYXY_ABS
    boxes = CategoryDatasetMapper(augmentations=[])(given)["instances"].gt_boxes.tensor
    assert boxes.tolist() == [[2, 3, 12, 8], [2, 3, 10, 5], [1, 1, 3, 3]]


def test_boxes_follow_the_augmentation(tmp_path):
    given = record(write_picture(tmp_path / "a.png"), [2, 3, 10, 5])
    mapper = CategoryDatasetMapper(augmentations=[T.RandomFlip(1.0), T.Resize((40, 60))])
    mapped = mapper(given)
    assert mapped["image"].shape == (3, 40, 60)
    assert mapped["instances"].image_size == (40, 60)
    assert mapped["instances"].gt_boxes.tensor.tolist() == [[36, 6, 56, 16]]


def test_boxes_are_clipped_and_empty_ones_dropped(tmp_path):
    class LeftHalf(T.Augmentation):
        def get_transform(self, image):
            return T.CropTransform(0, 0, 15, 20)

    given = record(write_picture(tmp_path / "a.png"), [10, 0, 10, 5], [20, 0, 5, 5])
    mapped = CategoryDatasetMapper(augmentations=[LeftHalf()])(given)
    assert mapped["instances"].gt_boxes.tensor.tolist() == [[10, 0, 15, 5]]
    assert mapped["instances"].gt_classes.tolist() == [0]
    mapper = CategoryDatasetMapper(augmentations=[LeftHalf()], min_box_size=6)
    assert len(mapper(given)["instances"]) == 0


def test_an_image_without_boxes_has_empty_instances(tmp_path):
    given = record(write_picture(tmp_path / "a.png"))
    mapper = CategoryDatasetMapper(
        augmentations=training_augmentations(short_sides=[32], crop=True)
    )
    for seed in range(4):
        instances = mapper(given, rng_seed=seed)["instances"]
        assert instances.gt_boxes.tensor.shape == (0, 4)
        assert instances.gt_classes.shape == (0,)


def test_crowd_is_no_target_and_inference_has_none(tmp_path):
    given = record(write_picture(tmp_path / "a.png"), [2, 3, 10, 5], [1, 1, 2, 2])
    given["annotations"][0]["iscrowd"] = 1
    assert CategoryDatasetMapper(augmentations=[])(given)["instances"].gt_classes.tolist() == [1]
    mapped = CategoryDatasetMapper(augmentations=[], is_train=False)(given)
    assert "instances" not in mapped
    assert "annotations" not in mapped


def test_seed_decides_and_leaves_the_generators_alone(tmp_path):
    given = record(write_picture(tmp_path / "a.png"), [2, 3, 10, 5])
    mapper = CategoryDatasetMapper(
        augmentations=training_augmentations(short_sides=range(20, 60), crop=False)
    )
    np.random.seed(1)  # noqa: NPY002
    torch.manual_seed(1)
    expected = np.random.random(), torch.rand(1)  # noqa: NPY002
    np.random.seed(1)  # noqa: NPY002
    torch.manual_seed(1)
    sizes = [tuple(mapper(given, rng_seed=[0, n])["image"].shape) for n in range(8)]
    assert (np.random.random(), torch.rand(1)) == expected  # noqa: NPY002
    np.random.seed(2)  # noqa: NPY002
    assert sizes == [tuple(mapper(given, rng_seed=[0, n])["image"].shape) for n in range(8)]
    assert len(set(sizes)) > 1


def test_the_mapper_is_picklable(tmp_path):
    given = record(write_picture(tmp_path / "a.png"), [2, 3, 10, 5])
    mapper = CategoryDatasetMapper(augmentations=training_augmentations(crop=True))
    copied = pickle.loads(pickle.dumps(mapper))
    assert torch.equal(copied(given, rng_seed=3)["image"], mapper(given, rng_seed=3)["image"])


@pytest.mark.parametrize("mode", ["L", "LA", "P", "RGBA", "1", "CMYK"])
def test_image_modes(tmp_path, mode):
    path = tmp_path / ("a.jpg" if mode == "CMYK" else "a.png")
    Image.open(write_picture(tmp_path / "source.png")).convert(mode).save(path)
    image = CategoryDatasetMapper(augmentations=[])(record(path))["image"]
    assert image.shape == (3, 20, 30)
    assert image.dtype == torch.uint8


def test_16_bit_images_keep_their_shades(tmp_path):
    shades = np.linspace(0, 65535, 600).reshape(20, 30).astype(np.uint16)
    Image.fromarray(shades).save(tmp_path / "a.png")
    image = CategoryDatasetMapper(augmentations=[])(record(tmp_path / "a.png"))["image"]
    assert np.array_equal(image[0].numpy(), shades >> 8)
    assert torch.equal(image[0], image[2])


def test_exif_orientation(tmp_path):
    pixels = np.zeros((30, 20, 3), dtype=np.uint8)
    pixels[0] = 255  # a white row at the top of the stored image
    exif = Image.Exif()
    exif[0x0112] = 6  # to be shown turned by 90 degrees clockwise
    Image.fromarray(pixels).save(tmp_path / "a.png", exif=exif)
    image = CategoryDatasetMapper(augmentations=[])(record(tmp_path / "a.png"))["image"]
    assert image.shape == (3, 20, 30)
    assert (image[:, :, -1] == 255).all()


def test_bgr(tmp_path):
    given = record(write_picture(tmp_path / "a.png"))
    rgb = CategoryDatasetMapper(augmentations=[])(given)["image"]
    bgr = CategoryDatasetMapper(augmentations=[], image_format="BGR")(given)["image"]
    assert torch.equal(rgb, bgr.flip(0))
    with pytest.raises(ValueError, match="'RGB' or 'BGR', got 'L'"):
        CategoryDatasetMapper(augmentations=[], image_format="L")


def test_unreadable_images_are_named(tmp_path):
    mapper = CategoryDatasetMapper(augmentations=[], allow_truncated=False)
    with pytest.raises(FileNotFoundError, match=r"image 17: .*gone\.png"):
        mapper(record(tmp_path / "gone.png"))
    content = write_picture(tmp_path / "a.jpg").read_bytes()
    (tmp_path / "cut.jpg").write_bytes(content[: len(content) // 2])
    with pytest.raises(OSError, match=r"image 17: cannot read .*cut\.jpg: .*[Tt]runcated"):
        mapper(record(tmp_path / "cut.jpg"))
    for text in ("no image", ""):
        (tmp_path / "text.png").write_text(text)
        with pytest.raises(OSError, match=r"image 17: cannot read .*text\.png"):
            CategoryDatasetMapper(augmentations=[])(record(tmp_path / "text.png"))


@pytest.mark.parametrize("kind", ["jpg", "png"])
def test_truncated_images_are_read_as_far_as_they_go(tmp_path, caplog, kind):
    path = write_picture(tmp_path / f"a.{kind}", height=200, width=300)
    mapper = CategoryDatasetMapper(augmentations=[])
    given = record(path, [2, 3, 10, 5], height=200, width=300)
    whole = mapper(given)["image"]
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    found = mapper(given)
    assert torch.equal(found["image"][:, :50], whole[:, :50])
    assert (found["image"][:, 190:] == found["image"][:, 190:, :1]).all(), "filled with one colour"
    assert len(found["instances"]) == 1
    assert f"a.{kind} is damaged" in caplog.text
    assert not ImageFile.LOAD_TRUNCATED_IMAGES


def test_annotations_made_for_the_stored_pixels(tmp_path):
    """With an EXIF orientation, the record's size tells which pixels its boxes belong to."""
    pixels = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(pixels).save(tmp_path / "a.png", exif=exif)
    mapper = CategoryDatasetMapper(augmentations=[])
    stored = mapper(record(tmp_path / "a.png", height=20, width=30))["image"]
    assert np.array_equal(stored.numpy(), pixels.transpose(2, 0, 1))
    upright = mapper(record(tmp_path / "a.png", height=30, width=20))["image"]
    assert np.array_equal(upright.numpy(), np.rot90(pixels, -1).transpose(2, 0, 1))


def test_dropped_boxes_are_counted(tmp_path):
    class LeftHalf(T.Augmentation):
        def get_transform(self, image):
            return T.CropTransform(0, 0, 15, 20)

    given = record(write_picture(tmp_path / "a.png"), [10, 0, 10, 5], [20, 0, 5, 5], [1, 1, 1, 1])
    given["annotations"][2]["iscrowd"] = 1
    assert CategoryDatasetMapper(augmentations=[LeftHalf()])(given)["dropped_boxes"] == 1
    assert CategoryDatasetMapper(augmentations=[])(given)["dropped_boxes"] == 0


def test_agrees_with_detectron2(tmp_path):
    """Image and boxes are those of its own mapper, from the same draws."""
    given = record(
        write_picture(tmp_path / "a.png", height=80, width=120),
        [2.5, 3, 10, 5],
        [60.0, 10.0, 50.0, 60.0],  # of whole numbers Detectron2 truncates the result
        height=80,
        width=120,
    )
    augmentations = training_augmentations(short_sides=range(60, 120), crop=True)
    theirs = DatasetMapper(is_train=True, augmentations=augmentations, image_format="RGB")
    ours = CategoryDatasetMapper(augmentations=augmentations)
    for seed in range(8):
        with seeded_generators(seed):
            expected = theirs(given)
        found = ours(given, rng_seed=seed)
        assert torch.equal(found["image"], expected["image"])
        assert torch.equal(found["instances"].gt_classes, expected["instances"].gt_classes)
        boxes = [item["instances"].gt_boxes.tensor for item in (found, expected)]
        torch.testing.assert_close(*boxes)


def test_a_mosaic(tmp_path):
    colours = [(200, 0, 0), (0, 200, 0), (0, 0, 200), (200, 200, 0)]
    records = []
    for index, colour in enumerate(colours):
        path = tmp_path / f"{index}.png"
        Image.new("RGB", (30, 20), colour).save(path)
        records.append(record(path, [0, 0, 30, 20], image_id=index))
        records[-1]["annotations"][0]["category_id"] = index
    mapper = CategoryDatasetMapper(augmentations=[], mosaic=QuadrantMosaic(side=100))
    corners = set()
    for seed in range(5):
        found = mapper(records, rng_seed=seed)
        assert found["image"].shape == (3, 100, 100)
        assert (found["height"], found["width"]) == (100, 100)
        assert found["image_id"] == 0 and found["mosaic_image_ids"] == [0, 1, 2, 3]
        assert found["instances"].gt_classes.tolist() == [0, 1, 2, 3]
        for colour, box in zip(colours, found["instances"].gt_boxes.tensor, strict=True):
            x0, y0, x1, y1 = box.round().int().tolist()
            inside = found["image"][:, y0:y1, x0:x1].permute(1, 2, 0)
            assert (inside == torch.tensor(colour)).all()
            assert (x1 - x0) / (y1 - y0) == pytest.approx(1.5, abs=0.15)
        covered = sum((found["image"].permute(1, 2, 0) == torch.tensor(c)).all(-1) for c in colours)
        boxes = found["instances"].gt_boxes
        assert int(covered.sum()) == int(boxes.area().sum()), "a box per image, none overlaps"
        corners.add(tuple(boxes.tensor[0, 2:].tolist()))
    assert len(corners) > 1
    with pytest.raises(ValueError, match="got 2 images"):
        mapper(records[:2])


def test_parts_of_a_cut_mosaic_are_augmented_one_by_one(tmp_path):
    """Each is cropped to its left half before it is placed, its boxes with it."""

    class LeftHalf(T.Augmentation):
        def get_transform(self, image):
            height, width = image.shape[:2]
            return T.CropTransform(0, 0, width // 2, height)

    records = []
    for index in range(4):
        pixels = np.full((20, 30, 3), 250, dtype=np.uint8)
        pixels[:, :15] = 10 * (index + 1)
        Image.fromarray(pixels).save(tmp_path / f"{index}.png")
        boxes = [0, 0, 30, 20], [20, 0, 5, 20]
        records.append(record(tmp_path / f"{index}.png", *boxes, image_id=index))
        records[-1]["annotations"][0]["category_id"] = index
    mapper = CategoryDatasetMapper(augmentations=[LeftHalf()], mosaic=CutMosaic(side=80))
    for seed in range(4):
        found = mapper(records, rng_seed=seed)
        assert found["image"].shape == (3, 80, 80) and (found["height"], found["width"]) == (80, 80)
        assert not (found["image"] == 250).any()
        instances = found["instances"]
        assert instances.gt_classes.tolist() == [0, 1, 2, 3], "what is outside a part is no box"
        assert found["dropped_boxes"] == 4
        for index, box in enumerate(instances.gt_boxes.tensor):
            x0, y0, x1, y1 = box.round().int().tolist()
            assert (found["image"][:, y0:y1, x0:x1] == 10 * (index + 1)).all()
            area = (found["image"][0] == 10 * (index + 1)).sum()
            assert (x1 - x0) * (y1 - y0) == area and 0 < x1 - x0 <= 30 and 0 < y1 - y0 <= 40


def test_a_wrong_size_in_the_record(tmp_path, caplog):
    given = record(write_picture(tmp_path / "a.png", height=20, width=30), height=21)
    mapped = CategoryDatasetMapper(augmentations=[])(given)
    assert (mapped["height"], mapped["width"]) == (20, 30)
    assert mapped["image"].shape == (3, 20, 30)
    assert "a.png is 30 x 20, its annotations say 30 x 21: the image is right" in caplog.text
