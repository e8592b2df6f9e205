"""Parts that do not learn."""

import pytest
from torch import nn

from cqdino_d2.engine.freezing import freeze_parts


def make_model():
    return nn.ModuleDict(
        {"back": nn.Linear(2, 2), "background": nn.Linear(2, 2), "head": nn.Linear(2, 2)}
    )


def learning(model):
    return [name for name, parameter in model.named_parameters() if parameter.requires_grad]


@pytest.mark.parametrize(
    ("frozen", "trained", "left"),
    [
        ([], [], ["back", "background", "head"]),
        (["back"], [], ["background", "head"]),
        (["."], ["head"], ["head"]),
    ],
)
def test_parts_are_taken_by_their_whole_names(frozen, trained, left):
    model = make_model()
    freeze_parts(model, frozen, trained)
    assert learning(model) == [f"{name}.{kind}" for name in left for kind in ("weight", "bias")]


def test_the_longest_name_wins_and_what_was_frozen_stays():
    model = make_model()
    model["head"].bias.requires_grad_(False)
    freeze_parts(model, ["."], ["head", "back.bias"])
    assert learning(model) == ["back.bias", "head.weight"]


@pytest.mark.parametrize(
    ("frozen", "trained", "message"),
    [
        (["bck"], [], r"no parameter is called \['bck'\]; the model's parts are \['back'"),
        (["."], ["heads"], r"no parameter is called \['heads'\]"),
        (["."], [], "nothing is left to train"),
    ],
)
def test_what_cannot_be_frozen(frozen, trained, message):
    with pytest.raises(ValueError, match=message):
        freeze_parts(make_model(), frozen, trained)
