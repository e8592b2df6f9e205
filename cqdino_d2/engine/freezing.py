"""Which parts of a model stay as they are."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

WHOLE = "."


def freeze_parts(model: nn.Module, frozen: Sequence[str], trained: Sequence[str] = ()) -> None:
    """Takes parameters out of a training.

    Args:
        model: not wrapped for several processes. What it froze itself stays frozen.
        frozen: names of parts (whole parts of a dotted name); "." is the whole model.
        trained: parts inside of these that learn all the same. The longest name wins.

    Raises:
        ValueError: a name that fits no parameter, or nothing is left to train.
    """
    choice = dict.fromkeys(frozen, False) | dict.fromkeys(trained, True)
    used: set[str] = set()
    for name, parameter in model.named_parameters():
        fitting = [part for part in choice if part == WHOLE or f"{name}.".startswith(f"{part}.")]
        used.update(fitting)
        if fitting and not choice[max(fitting, key=len)]:
            parameter.requires_grad_(False)
    if unused := sorted(choice.keys() - used):
        parts = sorted({name.split(".")[0] for name, _ in model.named_parameters()})
        raise ValueError(f"no parameter is called {unused}; the model's parts are {parts}")
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise ValueError(f"nothing is left to train: train.frozen is {list(frozen)}")
