import numpy as np
import pytest
import torch
from detectron2.config import instantiate
from detectron2.engine import DefaultPredictor

from cqdino_d2.engine import load_config
from cqdino_d2.prediction import get_predictor_cfg
from cqdino_d2.structures import Vocabulary, random_vocabulary

CONFIG = "tests/engine/toy_config.py"


@pytest.fixture
def trained(tmp_path):
    """A folder with weights and a vocabulary of other names, as a training leaves it."""
    model = instantiate(load_config(CONFIG).model)
    torch.save({"model": model.state_dict()}, tmp_path / "model_inference.pth")
    made_up = random_vocabulary(5)
    Vocabulary(("a", "b", "c", "d", "e"), made_up.dataset_ids, made_up.hierarchy).save(
        tmp_path / "vocabulary.json"
    )
    return tmp_path / "model_inference.pth"


def test_default_predictor_takes_it(trained):
    cfg = get_predictor_cfg(
        CONFIG,
        weights=trained,
        overrides=["model.num_selected=3", "model.backbone.pretrained=true"],
        device="cpu",
    )
    predictor = DefaultPredictor(cfg)
    assert predictor.metadata.thing_classes == ["a", "b", "c", "d", "e"]
    image = np.random.default_rng(0).integers(0, 256, (30, 60, 3), dtype=np.uint8)  # BGR
    result = predictor(image)
    instances = result["instances"]
    assert instances.image_size == (30, 60)
    assert len(result["selected_vocab_ids"]) == 3

    model = instantiate(load_config(CONFIG).model).eval()
    model.load_state_dict(torch.load(trained)["model"])
    resized = predictor.aug.get_transform(image).apply_image(image[:, :, ::-1])
    assert resized.shape == (32, 64, 3)  # 48 would be the short side, 64 is the limit
    rgb = torch.as_tensor(resized.astype("float32").transpose(2, 0, 1))
    with torch.no_grad():
        wanted = model([{"image": rgb, "height": 30, "width": 60}])[0]["instances"]
    torch.testing.assert_close(instances.scores, wanted.scores)
    torch.testing.assert_close(instances.pred_boxes.tensor, wanted.pred_boxes.tensor)


def test_random_weights_and_unchanged_size(trained):
    overrides = ["dataloader.test.mapper.augmentations=[]"]
    cfg = get_predictor_cfg(CONFIG, weights="", overrides=overrides)
    assert (cfg.INPUT.MIN_SIZE_TEST, cfg.MODEL.WEIGHTS) == (0, "")
    names = DefaultPredictor(cfg).metadata.thing_classes
    assert names == list(random_vocabulary(5).names)


def test_errors(trained):
    with pytest.raises(FileNotFoundError, match=r"gone\.pth"):
        get_predictor_cfg(CONFIG, weights="gone.pth")
    with pytest.raises(ValueError, match=r"box\.weight \(4, 8\) -> \(4, 9\)"):
        get_predictor_cfg(CONFIG, weights=trained, overrides=["model.channels=9"])
    sizes = "dataloader.test.mapper.augmentations.0.short_edge_length=[1,2]"
    with pytest.raises(ValueError, match="one short_edge_length"):
        get_predictor_cfg(CONFIG, weights=trained, overrides=[sizes])


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_of_a_training_that_diverged(trained, value):
    content = torch.load(trained)
    content["model"]["box.weight"][1, 2] = value
    torch.save(content, trained)
    with pytest.raises(ValueError, match=r"\.pth has NaN .* 1 weights, among them box\.weight:"):
        get_predictor_cfg(CONFIG, weights=trained)
