"""What check_dataset.py says of image-level sets."""

import pytest

from cqdino_d2.data import register_all
from cqdino_d2.data.checks import Findings, ImageChoice
from cqdino_d2.data.image_level.checks import check_image_level_sets
from cqdino_d2.engine import load_config
from tests.lvis_layout import make_lvis_layout

CONFIG = "configs/lvis/richsem_r50.py"


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return make_lvis_layout(tmp_path_factory.mktemp("datasets"))


def check(root, *overrides):
    lines = []
    findings = Findings(lines.append)
    register_all(root)
    check_image_level_sets(load_config(CONFIG, overrides), ImageChoice(None, 1, 0), findings)
    return lines, findings.problems


def test_labels_categories_and_images_are_counted(root):
    lines, problems = check(root)
    assert lines[0] == "imagenet_lvis_v1 (image-level)"
    assert "NOTE: 1 of 11 images have none of the vocabulary's 8 labels" in lines[1]
    assert "'777'" in lines[1] and "10 images of 8 of 8 categories" in lines[2]
    assert "10 of 10 images opened" in lines[3]
    assert "NOTE: 1 of these cannot be used: image 11: " in lines[4]
    assert len(lines) == 5 and problems == []


def test_an_image_that_would_end_the_training_is_a_problem(root):
    lines, problems = check(root, "+dataloader.train.image_level.replace_unreadable=false")
    assert len(problems) == 1 and "cannot be used: image 11: " in problems[0]


def test_boxes_alone_have_nothing_to_check(root):
    assert check(root, "dataloader.train.image_level=null") == ([], [])
