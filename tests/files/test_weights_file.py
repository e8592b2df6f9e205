"""Weights under the names that programs give them."""

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from cqdino_d2.engine import AtomicCheckpointer
from cqdino_d2.files.weights_file import read_weights, without_prefixes


@pytest.fixture
def model():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 2))


def load(folder, model, content, **kwargs):
    torch.save(content, folder / "weights.pth")
    fresh = nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 2))
    AtomicCheckpointer(fresh).load_weights(folder / "weights.pth", strict=True, **kwargs)
    return all(torch.equal(v, fresh.state_dict()[k]) for k, v in model.state_dict().items())


WRAPPERS = ["model", "state_dict", "model_state_dict", "model_state", "ema_state_dict", "model_ema"]


@pytest.mark.parametrize("name", WRAPPERS)
@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.", "module._orig_mod.", "model."])
def test_wrappers_and_prefixes(tmp_path, model, name, prefix):
    state = {prefix + key: value for key, value in model.state_dict().items()}
    assert load(tmp_path, model, {name: state, "epoch": 3, "meta": {"who": "someone"}})
    assert load(tmp_path, model, state)


def test_torchs_own_average(tmp_path, model):
    state = torch.optim.swa_utils.AveragedModel(model).state_dict()
    assert "n_averaged" in state and load(tmp_path, model, state)


@pytest.mark.parametrize("name", ["ema", "ema_state_dict", "model_ema"])
def test_averages_are_taken_only_where_they_are_wanted(tmp_path, model, name):
    state = model.state_dict()
    other = {key: value + 1 for key, value in state.items()}
    for average in (state, {"module": state, "updates": 7}, {"weights": state}):
        assert load(tmp_path, model, {"model": other, name: average}, prefer_average=True)
        assert not load(tmp_path, model, {"model": other, name: average})


def test_a_prefix_of_the_models_own_stays():
    weights = {"module.weight": torch.ones(1), "module.bias": torch.ones(1)}
    assert without_prefixes(weights, ["module.weight", "module.bias"]) == weights
    assert without_prefixes(weights, ["weight"]).keys() == {"weight", "bias"}
    mixed = weights | {"scale": torch.ones(1)}
    assert without_prefixes(mixed, ["weight"]) == mixed


@pytest.mark.parametrize("content", [{"net": {"w": 1}, "epoch": 3}, {"state_dict": {"w": 1}}, {}])
def test_what_a_file_holds_instead_is_named(tmp_path, content):
    torch.save(content, tmp_path / "other.pth")
    with pytest.raises(ValueError, match="expected named tensors at the top or under") as error:
        read_weights(tmp_path / "other.pth")
    keys = ", ".join(map(repr, content)) or "nothing"
    assert str(error.value).startswith(f"{tmp_path}/other.pth holds {keys};")


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_numbers_that_are_not_finite_are_named(tmp_path, model, bad):
    state = {k: v.clone() for k, v in model.state_dict().items()}
    state["1.weight"][1, 2] = bad
    with pytest.raises(ValueError, match=r"in 1 weights, among them 1\.weight: its"):
        load(tmp_path, model, state)


def test_safetensors(tmp_path, model):
    save_file(model.state_dict(), tmp_path / "weights.safetensors")
    found = read_weights(tmp_path / "weights.safetensors")
    assert all(torch.equal(value, found[name]) for name, value in model.state_dict().items())
    (tmp_path / "broken.safetensors").write_bytes(b"no tensors here")
    with pytest.raises(ValueError, match="broken.safetensors cannot be read"):
        read_weights(tmp_path / "broken.safetensors")
