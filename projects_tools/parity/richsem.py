"""Which recorded numbers of the official RichSem a file holds, and how they are compared."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from .fixture import Recorded, read_arrays
from .richsem_mosaic import check_mosaic
from .richsem_parts import check_federated, check_student, check_teacher, check_text
from .richsem_whole import (
    WholeFixture,
    check_losses,
    check_whole,
    recorded_denoising,
    recorded_sets,
)

_Check = Callable[[Path, Mapping[str, Any], Any, Any], None]


def _teacher(path: Path, about: Mapping[str, Any], compare: Any, record: Any) -> None:
    check_teacher(Recorded(about, read_arrays(path)), path, compare)


def _student(path: Path, about: Mapping[str, Any], compare: Any, record: Any) -> None:
    check_student(Recorded(about, read_arrays(path)), compare)


def _text(path: Path, about: Mapping[str, Any], compare: Any, record: Any) -> None:
    check_text(Recorded(about, read_arrays(path)), compare)


def _federated(path: Path, about: Mapping[str, Any], compare: Any, record: Any) -> None:
    check_federated(Recorded(about, read_arrays(path)), compare)


def _mosaic(path: Path, about: Mapping[str, Any], compare: Any, record: Any) -> None:
    check_mosaic(Recorded(about, read_arrays(path)), compare)


def _whole(path: Path, about: Mapping[str, Any], compare: Any, record: Any) -> None:
    check_whole(WholeFixture(about, read_arrays(path), path), compare)


def _empty(path: Path, about: Mapping[str, Any], compare: Any, record: Any) -> None:
    whole = WholeFixture.load(path.with_name(path.name.replace("g_empty", "f_whole")))
    for name in ("one_empty", "both_empty"):
        check_empty(name, about[name], Recorded(about, read_arrays(path)), whole, compare)


CHECK_OF: dict[str, _Check] = {  # by a key that no other kind of file has
    "open_clip_strict_load": _teacher,
    "num_boxes_matching": _student,
    "equal_to_80_openai_templates_plus": _text,
    "loss_ce_federated": _federated,
    "pixels_centre_xy": _mosaic,
    "order_of_federated_draws": _whole,
    "both_empty": _empty,
}


def richsem_check(about: Mapping[str, Any]) -> _Check | None:
    """What is to be done with a fixture of RichSem; None if it is none."""
    return next((check for key, check in CHECK_OF.items() if key in about), None)


def check_empty(
    name: str, about: Mapping[str, Any], fixture: Recorded, whole: WholeFixture, compare: Any
) -> None:
    """A training step in which one image or both have no box.

    Args:
        name: of the case.
        about: its part of the JSON.
        fixture: both cases' arrays.
        whole: with the images and weights.
        compare: collects what differs.
    """
    model = whole.model().train()
    kept = zip(whole.targets(), about["boxes_per_picture"], strict=True)
    targets = [
        replace(
            target,
            boxes_cxcywh_norm=target.boxes_cxcywh_norm[:count],
            vocab_ids=target.vocab_ids[:count],
        )
        for target, count in kept
    ]
    targets = model.teacher(whole.images().tensor, targets)
    prefixed = {f"{name}_{n}": fixture.tensor(f"{name}_{n}") for n in fixture.names(f"{name}_")}
    view = replace(whole, arrays=_Arrays(prefixed))
    with recorded_denoising(model, view, targets, prefix=f"{name}_"):
        found = model.run(whole.images(), targets)
    group = found.denoising
    compare.close(f"{name} content", group.content, prefixed[f"{name}_dn_query_content"])
    compare.same(f"{name} mask", group.attention_mask, prefixed[f"{name}_attention_mask"])
    last = found.output.split(group.content.shape[1])[1].layers()[-1]
    compare.close(f"{name} logits", last.logits, prefixed[f"{name}_pred_logits"])
    compare.close(f"{name} boxes", last.boxes_cxcywh_norm, prefixed[f"{name}_pred_boxes"])
    drawn = about["federated_draws"]
    sets = {kind: prefixed[f"{name}_federated_set_{i}"] for i, kind in enumerate(drawn)}
    with recorded_sets(model, whole, sets):
        losses = model.criterion(found.output, found.proposals, found.slots, targets, group)
    weights = {"weights": whole.about["weights"]}
    check_losses(losses, {**about, **weights}, compare, prefix=f"{name} ")
    sum(losses.values()).backward()
    gradients = {n: p.grad for n, p in model.named_parameters() if p.requires_grad}
    released = whole.conversion.released_name
    without = [released[n] for n, gradient in gradients.items() if gradient is None]
    compare.equal(f"{name} without gradient", without, about["without_gradient"])
    given = {n: gradient for n, gradient in gradients.items() if gradient is not None}
    zero = sorted(released[n] for n, gradient in given.items() if not gradient.any())
    compare.equal(f"{name} zero gradient", zero, sorted(about["zero_gradient"]))
    finite = all(bool(torch.isfinite(gradient).all()) for gradient in given.values())
    compare.equal(f"{name} finite", finite, True)


class _Arrays(dict[str, torch.Tensor]):
    """Tensors in the place of an npz."""

    @property
    def files(self) -> list[str]:
        """Their names."""
        return list(self)

    def __getitem__(self, name: str) -> Any:
        return super().__getitem__(name).numpy()
