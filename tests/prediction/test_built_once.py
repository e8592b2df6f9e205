"""A predictor's model has all the numbers of the one that Detectron2's fills first and loads."""

import numpy as np
import pytest
import torch
from detectron2.config import LazyCall, LazyConfig, instantiate
from detectron2.engine import DefaultPredictor
from torch import nn

from cqdino_d2.engine import checkpointer
from cqdino_d2.engine.checkpointer import load_model
from cqdino_d2.prediction import CategoryPredictor, TextPredictor, get_predictor_cfg
from cqdino_d2.structures import flat_vocabulary
from tests.detector.test_edge_form import cqdino_config, edge_config
from tests.prompted import prompted_config
from tests.tiny import ROOT, tiny_config

IMAGE = np.random.default_rng(0).integers(0, 256, (64, 96, 3), dtype=np.uint8)
CPU = torch.device("cpu")


def pooled(folder):
    cfg = tiny_config()
    found = LazyConfig.load(str(ROOT / "configs/emojidet/icons_pooled.py")).model.selection
    sizes = ("dim", "output_dim", "map_channels", "num_selected", "hidden_dim")
    found.update({name: cfg.model.selection[name] for name in sizes} | {"image_dim": 8})
    cfg.model.selection = found
    return cfg


def of_words(make):
    def config(folder):
        cfg = tiny_config()
        cfg.model = make(folder).model
        cfg.vocabulary = LazyCall(flat_vocabulary)(names=["text"])
        return cfg

    return config


RECIPES = {
    "tree": lambda folder: tiny_config("tree"),
    "self-attention": lambda folder: tiny_config("sa"),
    "pooled": pooled,
    "edge": lambda folder: cqdino_config(),
    "words": of_words(prompted_config),
    "words, edge": of_words(edge_config),
    "richsem": lambda folder: tiny_config(
        "richsem", overrides=["model.criterion.losses.focal.image_counts=null"]
    ),
}


def saved(cfg, folder, keep=lambda name: True, change=lambda value: value):
    """Config and weights as files; no parameter is as it is made."""
    torch.manual_seed(3)
    model = instantiate(cfg.model)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    weights = {name: change(v) for name, v in model.state_dict().items() if keep(name)}
    torch.save({"model": weights}, folder / "model.pth")
    LazyConfig.save(cfg, str(folder / "config.yaml"))
    return folder / "config.yaml", folder / "model.pth"


def everything(model):
    """All that a model is made of, by name: tensors, who shares them, what is trained."""
    named = dict(model.named_parameters(remove_duplicate=False))
    buffers = dict(model.named_buffers(remove_duplicate=False))
    first = {}
    ties = {name: first.setdefault(id(p), name) for name, p in named.items()}
    trained = {name: p.requires_grad for name, p in named.items()}
    modules = {name: (type(m), m.training) for name, m in model.named_modules()}
    return named | buffers, (ties, trained, modules, list(model.state_dict()))


def assert_equal_models(ours, theirs):
    tensors, rest = everything(ours)
    wanted, wanted_rest = everything(theirs)
    assert rest == wanted_rest
    assert tensors.keys() == wanted.keys()
    for name, tensor in tensors.items():
        other = wanted[name]
        assert type(tensor) is type(other), name
        assert (tensor.dtype, tensor.stride()) == (other.dtype, other.stride()), name
        assert torch.equal(tensor, other), name


@pytest.mark.parametrize("recipe", RECIPES)
def test_it_is_the_model_that_is_filled_first(recipe, tmp_path, monkeypatch):
    """Detectron2's predictor makes the other one, so that both ways are taken."""
    config, weights = saved(RECIPES[recipe](tmp_path), tmp_path)
    prompt = "a red cat. two dog." if "words" in recipe else None
    options = dict(weights=weights, device="cpu", check_weights=False, prompt=prompt)
    cfg = get_predictor_cfg(config, **options)
    theirs = DefaultPredictor(cfg)
    made = []
    unset = checkpointer._unset_model
    monkeypatch.setattr(
        checkpointer, "_unset_model", lambda *given: made.append(unset(*given)) or made[-1]
    )
    kind = TextPredictor if prompt else CategoryPredictor
    ours = kind(cfg)
    assert made == [ours.model], "it was not made a second time"
    if prompt:
        theirs.model.post_processor.one_per_query = True
    assert_equal_models(ours.model, theirs.model)
    [found], [wanted] = (p.model(ours.inputs([IMAGE])) for p in (ours, theirs))
    assert len(found["instances"]) > 0
    for name, value in wanted["instances"].get_fields().items():
        got = found["instances"].get(name)
        same = got.tensor if name == "pred_boxes" else got
        assert torch.equal(same, value.tensor if name == "pred_boxes" else value), name


def test_weights_for_training_alone_are_filled_where_the_file_has_none(tmp_path):
    cfg = RECIPES["richsem"](tmp_path)
    config, weights = saved(cfg, tmp_path, keep=lambda name: not name.startswith("criterion."))
    cfg = get_predictor_cfg(config, weights=weights, device="cpu")
    torch.manual_seed(1)
    ours = CategoryPredictor(cfg).model
    torch.manual_seed(1)
    assert_equal_models(ours, DefaultPredictor(cfg).model)
    assert any(name.startswith("criterion.") for name in ours.state_dict())


def test_a_missing_weight_is_named(tmp_path):
    config, weights = saved(tiny_config(), tmp_path)
    content = torch.load(weights)
    name = next(name for name in content["model"] if name.startswith("neck."))
    del content["model"][name]
    torch.save(content, weights)
    cfg = get_predictor_cfg(config, weights=weights, device="cpu", check_weights=False)
    with pytest.raises(ValueError, match=f"1 missing in the checkpoint: {name}$"):
        CategoryPredictor(cfg)


class Odd(nn.Module):
    """Tied weights, numbers that no file holds, and a part that may look at its parameters."""

    def __init__(self, looks=False):
        super().__init__()
        self.first = nn.Linear(3, 3)
        self.second = nn.Linear(3, 3)
        self.second.weight = self.first.weight
        shared = nn.Parameter(torch.randn(2))
        self.one, self.other = shared, shared
        self.fixed = nn.Parameter(torch.randn(4, 5), requires_grad=False)
        self.register_buffer("table", torch.arange(5.0), persistent=False)
        self.register_buffer("mean", torch.zeros(2))
        self.largest = float(self.fixed.max()) if looks else None


def odd_file(folder, change=lambda value: value):
    torch.manual_seed(5)
    content = {name: change(torch.randn_like(v)) for name, v in Odd().state_dict().items()}
    torch.save(content, folder / "odd.pth")
    return folder / "odd.pth"


def filled_first(path):
    model = Odd()
    model.load_state_dict(torch.load(path))
    return model


@pytest.mark.parametrize("looks", [False, True])
def test_ties_and_unsaved_numbers(tmp_path, looks):
    path = odd_file(tmp_path)  # in which tied ones differ: the last counts
    ours = load_model(lambda: Odd(looks=looks), path, CPU)
    assert ours.first.weight is ours.second.weight
    assert ours.one is ours.other
    assert_equal_models(ours, filled_first(path))


def transposed(value):
    return value.mT.clone().mT


@pytest.mark.parametrize("change", [torch.Tensor.half, torch.Tensor.double, transposed])
def test_other_types_and_layouts_become_the_models(tmp_path, change):
    path = odd_file(tmp_path, lambda x: change(x) if x.ndim > 1 else x)
    assert_equal_models(load_model(Odd, path, CPU), filled_first(path))


def test_weights_in_the_same_memory_are_taken_apart(tmp_path):
    content = Odd().state_dict()
    content["first.bias"] = content["second.bias"]
    torch.save(content, tmp_path / "odd.pth")
    model = load_model(Odd, tmp_path / "odd.pth", CPU)
    with torch.no_grad():
        model.first.bias.zero_()
    assert torch.equal(model.second.bias, content["second.bias"])


def test_nothing_is_copied(tmp_path, monkeypatch):
    path, read = odd_file(tmp_path), []
    keep = checkpointer.read_weights
    monkeypatch.setattr(
        checkpointer, "read_weights", lambda *a, **k: read.append(keep(*a, **k)) or read[-1]
    )
    model = load_model(Odd, path, CPU)
    [weights] = read
    assert model.fixed.data_ptr() == weights["fixed"].data_ptr()
    assert model.first.weight.data_ptr() == weights["second.weight"].data_ptr()


def test_modules_made_afterwards_are_filled(tmp_path):
    load_model(Odd, odd_file(tmp_path), CPU)
    assert not nn.Linear(2, 2).weight.is_meta
    with pytest.raises(ZeroDivisionError):
        load_model(lambda: 1 / 0, odd_file(tmp_path), CPU)
    assert not nn.Linear(2, 2).weight.is_meta


def test_other_threads_make_models_as_ever(tmp_path):
    from concurrent.futures import ThreadPoolExecutor

    class Asks(Odd):
        def __init__(self):
            super().__init__()
            with ThreadPoolExecutor(1) as pool:
                made.append(pool.submit(nn.Linear, 2, 2).result())

    made = []
    load_model(Asks, odd_file(tmp_path), CPU)
    assert not any(module.weight.is_meta for module in made)
