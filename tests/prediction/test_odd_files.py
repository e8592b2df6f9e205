"""Of files of odd kinds a predictor sees the pixels that an evaluation sees."""

import numpy as np
import pytest
import torch
from detectron2.config import instantiate
from PIL import Image

from cqdino_d2.engine import load_config
from cqdino_d2.files import read_image
from tests.prediction.test_category_predictor import CONFIG, load, picture, save_tiny
from tests.prediction.test_image_arrays import seen_by

HEIGHT, WIDTH = 37, 53
COLOURS = Image.fromarray(picture(3, (HEIGHT, WIDTH)))
SHADES = np.arange(HEIGHT * WIDTH, dtype=np.uint16).reshape(HEIGHT, WIDTH) * 33
FILES = {
    "on_its_side.jpg": (COLOURS, {"exif": None}),
    "cmyk.jpg": (COLOURS.convert("CMYK"), {}),
    "grey.png": (COLOURS.convert("L"), {}),
    "grey_alpha.png": (COLOURS.convert("LA"), {}),
    "palette.gif": (COLOURS.convert("P"), {"transparency": 0}),
    "bits.png": (COLOURS.convert("1"), {}),
    "shades.png": (Image.fromarray(SHADES), {}),
    "floats.tiff": (COLOURS.convert("F"), {}),
    "frames.gif": (COLOURS, {"save_all": True, "append_images": [COLOURS.rotate(90)]}),
    "png_in_truth.jpg": (COLOURS, {"format": "PNG"}),
}


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    return save_tiny(tmp_path_factory.mktemp("trained"))


@pytest.mark.parametrize("name", FILES)
def test_it_sees_what_an_evaluation_sees(weights, tmp_path, name):
    image, options = FILES[name]
    size = (HEIGHT, WIDTH)
    if "exif" in options:
        options = {"exif": Image.Exif()}
        options["exif"][0x0112] = 6  # turned by a quarter
        size = (WIDTH, HEIGHT)
    image.save(tmp_path / name, **options)
    mapper = instantiate(load_config(CONFIG.format("tree")).dataloader.test.mapper)
    record = {"file_name": str(tmp_path / name), "height": size[0], "width": size[1]}
    wanted = mapper(record)
    found = seen_by(load(weights), read_image(tmp_path / name, "BGR"))
    assert torch.equal(found["image"], wanted["image"])
    assert (found["height"], found["width"]) == (wanted["height"], wanted["width"]) == size
    assert wanted["image"].float().std() > 1
