"""Models whose parameters wait for a file: none is filled with numbers that a load replaces."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_parameter_registration_hook
from torch.utils.weak import WeakIdKeyDictionary


@contextmanager
def unset_parameters() -> Iterator[None]:
    """Inside, modules that this thread makes have their parameters on the meta device.

    Buffers and whatever else a module computes when it is made are real, unlike under
    ``torch.device("meta")``, which would lose those that no file holds. Parameters that are tied
    stay so. Those of a class of its own (lazy ones) are left alone.
    """
    thread = threading.get_ident()
    known = WeakIdKeyDictionary()  # a parameter may be registered again, under another name

    def unset(module: nn.Module, name: str, parameter: nn.Parameter | None) -> nn.Parameter | None:
        del module, name
        if threading.get_ident() != thread or type(parameter) is not nn.Parameter:
            return None
        if parameter.is_meta:
            return None
        if parameter not in known:
            known[parameter] = nn.Parameter(parameter.data.to("meta"), parameter.requires_grad)
        return known[parameter]

    hook = register_module_parameter_registration_hook(unset)
    try:
        yield
    finally:
        hook.remove()


def names_without_numbers(model: nn.Module) -> list[str]:
    """Parameters and buffers, persistent or not, that are on the meta device."""
    tensors = [*model.named_parameters(), *model.named_buffers()]
    return [name for name, tensor in tensors if tensor.is_meta]


def assign_weights(model: nn.Module, weights: dict[str, Tensor]) -> None:
    """Makes tensors a model's own, without copying their numbers where these fit as they are.

    As with ``load_state_dict``, types, layouts, ties and ``requires_grad`` are the model's.

    Args:
        model: with parameters of any device.
        weights: some of its names -> tensors of their shapes, which the model owns from now on.
    """
    names_of: dict[int, list[str]] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        names_of.setdefault(id(parameter), []).append(name)
    model.load_state_dict(_fitting(model.state_dict(), weights), strict=False, assign=True)
    for names in names_of.values():
        given = [name for name in names if name in weights]
        for name in names if given else ():
            owner, _, attribute = name.rpartition(".")
            # of tied ones in a file the last counts, as it does where they are copied
            setattr(model.get_submodule(owner), attribute, model.get_parameter(given[-1]))


def _fitting(own: dict[str, Tensor], weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """The weights in the types and layouts of the model's, no two in the same memory."""
    fitting, used = {}, set()
    for name, value in weights.items():
        wanted = own[name]
        place = value.untyped_storage().data_ptr()
        if value.dtype != wanted.dtype or value.stride() != wanted.stride() or place in used:
            value = torch.empty_like(wanted, device=value.device).copy_(value)
        used.add(place)
        fitting[name] = value
    return fitting
