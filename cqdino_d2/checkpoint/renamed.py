"""Weights of this project that were written under earlier names."""

from __future__ import annotations

import re
from collections.abc import Mapping, MutableMapping
from typing import Any

from torch import Tensor, nn

# (pattern of the earlier name, present name)
_RENAMED = [
    (re.compile(r"^decoder\.contrastive_heads\."), "decoder.class_heads."),
    (re.compile(r"^query_selection\.contrastive_head\."), "query_selection.class_head."),
]


def with_present_names(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A detector's weights under the names that they have now."""
    return {_present_name(name): value for name, value in weights.items()}


def rename_before_loading(
    module: nn.Module, state_dict: MutableMapping[str, Tensor], prefix: str, *_: Any
) -> None:
    """For ``register_load_state_dict_pre_hook`` of a detector, whoever loads it."""
    for name in [name for name in state_dict if name.startswith(prefix)]:
        now = prefix + _present_name(name[len(prefix) :])
        if now != name:
            state_dict[now] = state_dict.pop(name)


def _present_name(name: str) -> str:
    for pattern, replacement in _RENAMED:
        name = pattern.sub(replacement, name)
    return name
