"""More categories for a trained model, without training."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import yaml
from detectron2.config import CfgNode, LazyCall, instantiate
from omegaconf import DictConfig
from torch import Tensor, nn

from ..structures import Vocabulary
from ..structures.stages import TakesEmbeddings


def parent_ids(
    vocabulary: Vocabulary,
    names: Sequence[str],
    parents: Sequence[str | int | Sequence[str | int] | None] | None,
) -> list[list[int]]:
    """The parents of new categories as vocab_ids.

    Args:
        vocabulary: the present V categories.
        names: of the n new ones, vocab_ids V..V+n-1.
        parents: of each a name, a data-set id, several of them, or None; names of the new
            categories count, too.

    Raises:
        ValueError: another number than n, an unknown name, or one of several categories.
    """
    if parents is None:
        return [[] for _ in names]
    if isinstance(parents, str) or len(parents) != len(names):
        raise ValueError(f"{len(names)} new categories need as many parents, got {parents!r}")
    new = {name: len(vocabulary) + place for place, name in enumerate(names)}

    def resolve(parent: str | int) -> int:
        if parent in new:
            return new[parent]
        found = vocabulary.find(parent)
        if len(found) > 1:
            ids = [vocabulary.dataset_ids[vocab_id] for vocab_id in found]
            raise ValueError(f"{len(found)} categories are called {parent!r}: name one by id {ids}")
        return found[0]

    rows = [[row] if isinstance(row, (str, int)) else row or [] for row in parents]
    return [[resolve(parent) for parent in row] for row in rows]


def extend_model(
    cfg: CfgNode, model: nn.Module, vocabulary: Vocabulary, embeddings: Tensor
) -> nn.Module:
    """A model of a longer vocabulary that shares all other weights with the present one.

    Args:
        cfg: from `get_predictor_cfg`.
        model: of the first V categories of the vocabulary.
        vocabulary: V + n categories.
        embeddings: (n, E) of the new ones.

    Raises:
        ValueError: embeddings that do not fit, or a model in which more than these depends on V.
    """
    if not isinstance(model.categories, TakesEmbeddings):
        raise ValueError(
            "a model without category embeddings cannot be extended (a compact one has none left)"
        )
    own = model.categories.embeddings
    name = next(name for name, parameter in model.named_parameters() if parameter is own)
    weights = model.state_dict()
    known = weights[name]
    wanted = (len(vocabulary) - len(known), known.shape[1])
    if embeddings.shape != wanted:
        raise ValueError(
            f"new embeddings must be {wanted} for {name}, got {tuple(embeddings.shape)}"
        )
    if not embeddings.isfinite().all():
        raise ValueError("new embeddings must be finite")
    extended = _build(cfg, vocabulary)
    weights[name] = torch.cat([known, embeddings.to(known)])
    shapes = {key: value.shape for key, value in extended.state_dict().items()}
    if unfit := sorted(key for key in shapes if weights[key].shape != shapes[key]):
        raise ValueError(f"this model cannot be extended: {unfit} depend on the vocabulary's size")
    extended = extended.to(known.device)
    extended.load_state_dict(weights, assign=True)
    return extended.eval()


def _build(cfg: CfgNode, vocabulary: Vocabulary) -> nn.Module:
    """The model of a config, with another vocabulary wherever the config names its own."""
    own = yaml.safe_load(cfg.MODEL.CQDINO.VOCABULARY)
    model = yaml.safe_load(cfg.MODEL.CQDINO.LAZY_CONFIG)

    def other_vocabulary() -> Vocabulary:
        return vocabulary

    def exchange(node: Any) -> Any:
        if node == own:
            return "${vocabulary}"
        if isinstance(node, dict):
            return {key: exchange(value) for key, value in node.items()}
        return [exchange(value) for value in node] if isinstance(node, list) else node

    nodes = DictConfig({"model": exchange(model)}, flags={"allow_objects": True})
    nodes.vocabulary = LazyCall(other_vocabulary)()
    return instantiate(nodes.model)
