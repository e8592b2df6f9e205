"""What lazy configs cannot say by themselves: parts made several times, and parts by name."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from torch import nn


def factory(module: Callable[..., nn.Module], **arguments: Any) -> Callable[..., nn.Module]:
    """What makes a new module at every call: `functools.partial` for lazy configs.

    Args:
        module: a class, or a function that returns a module.
        arguments: for every call; a caller may add more.
    """
    return partial(module, **arguments)


def named(**parts: Any) -> dict[str, Any]:
    """The parts by name; lazy configs make what stands in a call, but not what stands in a dict."""
    return parts
