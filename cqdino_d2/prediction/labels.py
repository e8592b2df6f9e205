"""What detections are called, which of them are left out, and which are the same thing twice."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
import torch
from detectron2.layers import nms
from torch import Tensor


class PhraseList(list[str]):
    """N phrases that can be indexed like the instances' tensors: by a mask, ids or a slice."""

    def __getitem__(self, item: Any) -> Any:
        if isinstance(item, Tensor):
            item = item.cpu().numpy()
        if isinstance(item, np.ndarray) and item.ndim:
            return PhraseList(np.array(self, dtype=object)[item].tolist())
        if isinstance(item, slice):
            return PhraseList(super().__getitem__(item))
        return super().__getitem__(int(item))


def labelled(
    result: dict[str, Any],
    names: Sequence[str],
    *,
    dropped: Collection[int] = (),
    nms_threshold: float | None = None,
) -> dict[str, Any]:
    """A model's result with names for people.

    Args:
        result: with "instances", best first; one without them (a tagger's) stays as it is.
        names: of the categories by vocab_id.
        dropped: vocab_ids whose detections are left out, after they suppressed others.
        nms_threshold: of two boxes whose IoU is above it, whatever they are called, the better
            one remains; None leaves all.

    Returns:
        The same with ``phrases``, a name for each of the instances.
    """
    if "instances" not in result:
        return result
    found = result["instances"]
    if nms_threshold is not None:
        found = found[nms(found.pred_boxes.tensor, found.scores, nms_threshold)]
    if dropped:
        ids = torch.tensor(sorted(dropped), device=found.pred_classes.device)
        found = found[~torch.isin(found.pred_classes, ids)]
    found.phrases = PhraseList(names[vocab_id] for vocab_id in found.pred_classes.tolist())
    return result | {"instances": found}
