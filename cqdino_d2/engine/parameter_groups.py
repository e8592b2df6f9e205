"""Which parameter learns at which rate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn
from torch.nn.modules.batchnorm import _NormBase

_NORMS = (nn.LayerNorm, nn.GroupNorm, nn.RMSNorm, _NormBase)
# kinds of parameters that are often spared weight decay -> how modules call theirs
_OWN_NAMES = {
    "norms": (),
    "biases": ("bias", "in_proj_bias"),
    "relative_positions": ("relative_position_bias_table", "rel_pos_h", "rel_pos_w"),
    "absolute_positions": ("absolute_pos_embed", "pos_embed", "level_embedding"),
}


def get_parameter_groups(
    *,
    model: nn.Module,
    base_lr: float,
    weight_decay: float,
    multipliers: Mapping[str, Mapping[str, float]] | None = None,
    no_decay: Sequence[str] = (),
) -> list[dict[str, Any]]:
    """Sorts the trainable parameters of a model into optimizer groups.

    Args:
        model: the model, not wrapped for several processes.
        base_lr: learning rate of parameters without a multiplier.
        weight_decay: decay of parameters without a multiplier.
        multipliers: name prefix (whole parts of a dotted name) -> ``{"lr": factor,
            "weight_decay": factor}``, either may be left out. The longest prefix wins.
        no_decay: kinds of parameters without weight decay: "norms", "biases",
            "relative_positions" (tables of attention windows), "absolute_positions" (embeddings
            of positions and levels). The released recipe has none.

    Returns:
        One group per prefix that has trainable parameters, and one named ``default`` for the
        rest; what is spared in a group ``<name>, no decay`` beside it. Each trainable parameter
        is in exactly one group, frozen ones in none.

    Raises:
        ValueError: a prefix that fits no parameter, an unknown factor or kind, a model in which
            nothing can be trained.
    """
    multipliers = dict(multipliers or {})
    _check_factors(multipliers)
    spared = _without_decay(model, no_decay)
    members: dict[tuple[str, bool], list[nn.Parameter]] = {}
    used: set[str] = set()
    for name, parameter in model.named_parameters():
        fitting = [prefix for prefix in multipliers if _is_prefix(prefix, name)]
        used.update(fitting)
        if parameter.requires_grad:
            key = max(fitting, key=len, default="default"), name in spared
            members.setdefault(key, []).append(parameter)
    if unused := sorted(set(multipliers) - used):
        parts = sorted({name.split(".")[0] for name, _ in model.named_parameters()})
        raise ValueError(f"no parameter is called {unused}; the model's parts are {parts}")
    if not members:
        raise ValueError("the model has no trainable parameter")
    groups = []
    for (prefix, without), parameters in members.items():
        factors = multipliers.get(prefix, {})
        decay = 0.0 if without else weight_decay * factors.get("weight_decay", 1.0)
        groups.append(
            {
                "name": f"{prefix}, no decay" if without else prefix,
                "params": parameters,
                "lr": base_lr * factors.get("lr", 1.0),
                "weight_decay": decay,
            }
        )
    return groups


def _check_factors(multipliers: Mapping[str, Mapping[str, float]]) -> None:
    for prefix, factors in multipliers.items():
        if unknown := set(factors) - {"lr", "weight_decay"}:
            raise ValueError(
                f"multipliers of {prefix!r} have {sorted(unknown)}, expected lr, weight_decay"
            )


def _without_decay(model: nn.Module, kinds: Sequence[str]) -> set[str]:
    """Names of the parameters of these kinds."""
    if unknown := set(kinds) - set(_OWN_NAMES):
        raise ValueError(f"no_decay has {sorted(unknown)}, expected some of {sorted(_OWN_NAMES)}")
    wanted = {name for kind in kinds for name in _OWN_NAMES[kind]}
    names = set()
    for path, module in model.named_modules():
        is_norm = "norms" in kinds and isinstance(module, _NORMS)
        for name, _ in module.named_parameters(recurse=False):
            if is_norm or name in wanted:
                names.add(f"{path}.{name}".lstrip("."))
    return names


def _is_prefix(prefix: str, name: str) -> bool:
    return name == prefix or name.startswith(f"{prefix}.")
