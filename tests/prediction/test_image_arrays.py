"""Which arrays a predictor takes, and that it sees what an evaluation sees."""

import numpy as np
import pytest
import torch
from detectron2.config import instantiate
from detectron2.data import transforms as T
from detectron2.engine import DefaultPredictor
from PIL import Image

from cqdino_d2.engine import load_config
from cqdino_d2.prediction import CategoryPredictor, get_predictor_cfg
from cqdino_d2.prediction.image_arrays import checked_image

from .test_category_predictor import CONFIG, assert_same, load, picture, save_tiny

SHORT = "dataloader.test.mapper.augmentations.0.short_edge_length={}"
LONG = "dataloader.test.mapper.augmentations.0.max_size={}"
SIZES = [(480, 640), (427, 640), (333, 500), (500, 375), (61, 97), (3, 2000), (20000, 1), (2, 2)]


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    return save_tiny(tmp_path_factory.mktemp("trained"))


@pytest.fixture(scope="module")
def predictor(weights):
    return load(weights)


class Recorder:
    """A model that finds nothing and keeps what it was given."""

    def __call__(self, inputs):
        self.inputs = inputs
        return [{}] * len(inputs)


def seen_by(predictor, image):
    predictor.model = Recorder()
    predictor(image)
    return predictor.model.inputs[0]


@pytest.mark.parametrize(("short", "longest"), [(800, 1333), (97, 160)])
@pytest.mark.parametrize("size", SIZES)
def test_it_sees_the_pixels_that_an_evaluation_sees(weights, tmp_path, size, short, longest):
    overrides = [SHORT.format(short), LONG.format(longest)]
    predictor = load(weights, overrides=overrides)
    image = picture(3, size)
    Image.fromarray(image[:, :, ::-1]).save(tmp_path / "a.png")
    mapper = instantiate(load_config(CONFIG.format("tree"), overrides).dataloader.test.mapper)
    record = {"file_name": str(tmp_path / "a.png"), "height": size[0], "width": size[1]}
    wanted = mapper(record)
    found = seen_by(predictor, image)
    assert torch.equal(found["image"], wanted["image"])
    assert (found["height"], found["width"]) == (wanted["height"], wanted["width"]) == size
    scale = min(longest / max(size), short / min(size))
    assert found["image"].shape[1:] == tuple(max(1, int(scale * side)) for side in size)


def test_detectron2s_own_differs_by_a_pixel_where_the_docs_say(weights):
    cfg = load(weights, overrides=[SHORT.format(800), LONG.format(1333)]).cfg
    own, theirs = CategoryPredictor(cfg), DefaultPredictor(cfg)
    image = picture(0, (480, 640))
    assert seen_by(own, image)["image"].shape == (3, 800, 1066)
    assert seen_by(theirs, image)["image"].shape == (3, 800, 1067)


def test_a_config_that_rounds_predicts_as_it_evaluates(weights):
    node = "{_target_:detectron2.data.transforms.ResizeShortestEdge,short_edge_length:800}"
    overrides = [f"dataloader.test.mapper.augmentations=[{node}]"]
    cfg = load(weights, overrides=overrides).cfg
    assert cfg.INPUT.MAX_SIZE_TEST == 2**31 - 1
    assert seen_by(CategoryPredictor(cfg), picture(0, (480, 640)))["image"].shape[2] == 1067


def test_sizes_changed_in_the_cfg_count(weights):
    cfg = get_predictor_cfg(CONFIG.format("tree"), weights=weights, device="cpu")
    cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.MAX_SIZE_TEST = 75, 90
    assert seen_by(CategoryPredictor(cfg), picture(0, (50, 80)))["image"].shape == (3, 56, 90)
    cfg.INPUT.MIN_SIZE_TEST = 0
    image = picture(0, (50, 81))
    found = seen_by(CategoryPredictor(cfg), image)["image"]
    assert np.array_equal(found.permute(1, 2, 0), image[:, :, ::-1])


def test_a_config_without_augmentations_keeps_images_until_a_size_is_set(weights):
    cfg = load(weights, overrides=["dataloader.test.mapper.augmentations=[]"]).cfg
    assert seen_by(CategoryPredictor(cfg), picture(0, (50, 81)))["image"].shape == (3, 50, 81)
    cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.MAX_SIZE_TEST = 100, 1000
    assert seen_by(CategoryPredictor(cfg), picture(0, (50, 81)))["image"].shape == (3, 100, 162)


@pytest.mark.parametrize("size", [(3, 2000), (20000, 1), (1, 1)])
def test_thin_images_are_predicted(predictor, size):
    result = predictor(picture(0, size))["instances"]
    assert result.image_size == size and len(result)
    assert result.pred_boxes.tensor.isfinite().all() and result.scores.isfinite().all()


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_floats_in_0_to_255_give_what_their_bytes_give(predictor, dtype):
    image = picture(1)
    assert_same(predictor(image.astype(dtype)), predictor(image), rtol=0, atol=0)
    black = np.zeros((8, 9, 3), dtype)
    assert np.array_equal(checked_image(black), black.astype(np.uint8))


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (picture().astype(np.uint16) * 256, r"got uint16 pixels 0 to 65\d\d\d; .*>> 8"),
        (picture().astype(np.int64), "uint8, or of floats in 0..255, got int64 pixels 0 to 255"),
        (picture().astype(np.int8), "got int8 pixels -128 to 127"),
        (picture() > 9, "got bool pixels False to True; 255 "),
        (picture().astype(np.complex64), "got complex64"),
        (picture() / 255, r"its float64 pixels are 0 to 1, expected 0..255; .* multiply by 255"),
        ((picture() / 255).astype(np.float32) * 0.5, "its float32 pixels are 0 to 0.5"),
        (picture() / 127.5 - 1, "are -1 to 1, expected 0..255"),
        (picture() + 0.5, "are 0.5 to 255.5, expected 0..255"),
        (picture() * np.float32("nan"), "NaN or infinite"),
        (picture() + np.float32("inf"), "NaN or infinite"),
        (np.zeros((9, 9), np.uint8), r"an array \(9, 9\): of a grey image"),
        (np.zeros((9, 8, 1), np.uint8), r"an array \(9, 8, 1\): of a grey image"),
        (np.zeros((9, 8, 4), np.uint8), r"an array \(9, 8, 4\): .* without the alpha channel"),
        (np.zeros((3, 9, 8), np.uint8), r"an array \(3, 9, 8\): .* channels last"),
        (np.zeros((2, 9, 8, 3), np.uint8), r"an array \(2, 9, 8, 3\): predictor.batch"),
        (np.zeros((0, 9, 3), np.uint8), r"an array \(0, 9, 3\)"),
        (np.zeros((9, 0, 3), np.uint8), r"an array \(9, 0, 3\)"),
        (np.zeros(0), r"an array \(0,\)"),
        (np.array("a.png"), r"an array \(\)"),
    ],
)
def test_arrays_that_are_no_images_are_refused_in_one_line(predictor, image, message):
    with pytest.raises(ValueError, match=message) as caught:
        predictor(image)
    assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match=f"image 1 of 3: .*{message}"):
        predictor.batch([picture(), image, picture()])


@pytest.mark.parametrize("image", [None, "a.png", torch.zeros(9, 9, 3), Image.new("RGB", (9, 9))])
def test_other_things_are_refused_by_their_type(predictor, image):
    with pytest.raises(TypeError, match=f"numpy array .H, W, 3., got {type(image).__name__}"):
        predictor(image)


def test_a_file_that_opencv_cannot_read_is_guessed(predictor):
    with pytest.raises(TypeError, match=r"cv2\.imread gives None"):
        predictor(None)


def test_sequences_with_other_strides_are_taken(predictor):
    image = picture(5)
    mirrored = np.asfortranarray(image[:, ::-1])
    assert_same(predictor(mirrored), predictor(np.ascontiguousarray(mirrored)), rtol=0, atol=0)
    assert isinstance(predictor.aug, T.AugmentationList)
