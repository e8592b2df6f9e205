"""Which parameter learns at which rate."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn


def get_parameter_groups(
    *,
    model: nn.Module,
    base_lr: float,
    weight_decay: float,
    multipliers: Mapping[str, Mapping[str, float]] | None = None,
) -> list[dict[str, Any]]:
    """Sorts the trainable parameters of a model into optimizer groups.

    Args:
        model: the model, not wrapped for several processes.
        base_lr: learning rate of parameters without a multiplier.
        weight_decay: decay of parameters without a multiplier.
        multipliers: name prefix (whole parts of a dotted name) -> ``{"lr": factor,
            "weight_decay": factor}``, either may be left out. The longest prefix wins.

    Returns:
        One group per prefix that has trainable parameters, and one named ``default`` for the
        rest. Each trainable parameter is in exactly one group, frozen ones in none.

    Raises:
        ValueError: a prefix that fits no parameter, an unknown factor, a model in which
            nothing can be trained.
    """
    multipliers = dict(multipliers or {})
    for prefix, factors in multipliers.items():
        if unknown := set(factors) - {"lr", "weight_decay"}:
            raise ValueError(
                f"multipliers of {prefix!r} have {sorted(unknown)}, expected lr, weight_decay"
            )
    members: dict[str, list[nn.Parameter]] = {}
    used: set[str] = set()
    for name, parameter in model.named_parameters():
        fitting = [prefix for prefix in multipliers if _is_prefix(prefix, name)]
        used.update(fitting)
        if parameter.requires_grad:
            members.setdefault(max(fitting, key=len, default="default"), []).append(parameter)
    if unused := sorted(set(multipliers) - used):
        parts = sorted({name.split(".")[0] for name, _ in model.named_parameters()})
        raise ValueError(f"no parameter is called {unused}; the model's parts are {parts}")
    if not members:
        raise ValueError("the model has no trainable parameter")
    return [
        {
            "name": prefix,
            "params": parameters,
            "lr": base_lr * multipliers.get(prefix, {}).get("lr", 1.0),
            "weight_decay": weight_decay * multipliers.get(prefix, {}).get("weight_decay", 1.0),
        }
        for prefix, parameters in members.items()
    ]


def _is_prefix(prefix: str, name: str) -> bool:
    return name == prefix or name.startswith(f"{prefix}.")
