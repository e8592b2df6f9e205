import os
import pickle

import numpy as np
import pytest
import torch
from detectron2.config import instantiate
from detectron2.engine import DefaultPredictor
from toy_detector import ToyDetector

from cqdino_d2.engine import load_config
from cqdino_d2.prediction import CategoryPredictor, get_predictor_cfg
from cqdino_d2.structures import Vocabulary, random_vocabulary
from tests.runs import ROOT, run_python

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


def cfg_of(trained):
    return get_predictor_cfg(CONFIG, weights=trained, device="cpu")


NAMES_ELSEWHERE = """
import pickle, sys
import cqdino_d2.detector, toy_detector
from detectron2.config import CfgNode
from detectron2.engine import DefaultPredictor
from toy_detector import ToyDetector
from cqdino_d2.prediction import CategoryPredictor

text, pickled = open(sys.argv[1]).read(), open(sys.argv[2], "rb").read()
for kind in (DefaultPredictor, CategoryPredictor):
    for cfg in (CfgNode.load_cfg(text), pickle.loads(pickled)):
        print(*kind(cfg).metadata.thing_classes)
"""


def test_the_names_come_along_into_other_processes_and_through_yaml(trained, tmp_path):
    cfg = cfg_of(trained)
    (tmp_path / "cfg.yaml").write_text(cfg.dump())
    (tmp_path / "cfg.pkl").write_bytes(pickle.dumps(cfg))
    code = f"import sys; sys.argv[1:] = {[str(tmp_path / n) for n in ('cfg.yaml', 'cfg.pkl')]}"
    paths = os.pathsep.join([str(ROOT), str(ROOT / "tests/engine")])
    output = run_python(code + NAMES_ELSEWHERE, PYTHONPATH=paths)
    assert output.splitlines()[-4:] == ["a b c d e"] * 4


class Malicious:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (self.path, "w")


def test_weights_set_by_hand_run_nothing(trained, tmp_path):
    cfg = cfg_of(trained)
    for name in ("weights.pth", "weights.pkl"):
        cfg.MODEL.WEIGHTS = str(tmp_path / name)
        content = {"model": {"box.weight": Malicious(str(tmp_path / "written"))}}
        with open(cfg.MODEL.WEIGHTS, "wb") as file:
            pickle.dump(content, file)
        with pytest.raises(ValueError, match=r"weights\.p"):
            CategoryPredictor(cfg)
        torch.save(content, cfg.MODEL.WEIGHTS)
        with pytest.raises(ValueError, match="holds an object of type"):
            CategoryPredictor(cfg)
    assert not (tmp_path / "written").exists()


def test_weights_set_by_hand_must_fit(trained, tmp_path):
    cfg = cfg_of(trained)
    weights = torch.load(trained)["model"]
    image = np.zeros((30, 60, 3), np.uint8)
    torch.save({"state_dict": {f"module.{k}": v for k, v in weights.items()}}, tmp_path / "w.pth")
    cfg.MODEL.WEIGHTS = str(tmp_path / "w.pth")
    predictor, plain = CategoryPredictor(cfg), CategoryPredictor(cfg_of(trained))
    assert predictor.cfg.MODEL.WEIGHTS == cfg.MODEL.WEIGHTS
    assert torch.equal(predictor(image)["instances"].scores, plain(image)["instances"].scores)
    del weights["box.bias"]
    torch.save(weights, tmp_path / "w.pth")
    with pytest.raises(ValueError, match=r"1 missing in the checkpoint: box\.bias"):
        CategoryPredictor(cfg)
    cfg.MODEL.WEIGHTS = str(tmp_path / "gone.pth")
    with pytest.raises(FileNotFoundError, match=r"gone\.pth"):
        CategoryPredictor(cfg)


def test_the_check_of_weights_makes_no_second_model(trained, monkeypatch):
    devices = []
    make = ToyDetector.__init__

    def counted(self, *args, **kwargs):
        make(self, *args, **kwargs)
        devices.append(self.box.weight.device.type)

    monkeypatch.setattr(ToyDetector, "__init__", counted)
    cfg_of(trained)
    assert devices == ["meta"]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_of_a_training_that_diverged(trained, value):
    content = torch.load(trained)
    content["model"]["box.weight"][1, 2] = value
    torch.save(content, trained)
    with pytest.raises(ValueError, match=r"\.pth has NaN .* 1 weights, among them box\.weight:"):
        get_predictor_cfg(CONFIG, weights=trained)
