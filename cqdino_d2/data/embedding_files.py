"""Category embeddings from files."""

from __future__ import annotations

import logging
import re
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..files import read_tensor_file
from ..structures import Vocabulary

logger = logging.getLogger(__name__)

_MAX_RENAMED = 0.1  # share of names that may differ before a file counts as another vocabulary's


def _read(path: Path) -> dict[str, Any]:
    content = read_tensor_file(path)
    if not isinstance(content.get("embeddings"), Tensor):
        raise ValueError(
            f"{path} is no embedding file: expected a dict with a tensor 'embeddings' (V, dim) and "
            "the names 'categories'"
        )
    return content


def _rows_by_id(path: Path, ids: list[int], vocabulary: Vocabulary) -> list[int]:
    row_of = {int(dataset_id): row for row, dataset_id in enumerate(ids)}
    if len(row_of) != len(ids):
        raise ValueError(f"{path}: 'ids' are not unique")
    missing = [dataset_id for dataset_id in vocabulary.dataset_ids if dataset_id not in row_of]
    if missing:
        raise ValueError(
            f"{path} lacks the embeddings of {len(missing)} of {len(vocabulary)} categories: ids "
            f"{missing[:10]}; it holds {len(ids)}"
        )
    return [row_of[dataset_id] for dataset_id in vocabulary.dataset_ids]


def _check_names(path: Path, found: list[str], vocabulary: Vocabulary) -> None:
    """Refuses a file of other categories; a few names may be written in another way."""
    pairs = list(zip(found, vocabulary.names, strict=True))
    rows = [i for i, (a, b) in enumerate(pairs) if _plain(a) != _plain(b)]
    if not rows:
        return
    examples = "; ".join(
        f"row {i}: {pairs[i][0]!r} found, {pairs[i][1]!r} expected" for i in rows[:3]
    )
    text = f"{path}: {len(rows)} of {len(pairs)} names are not the vocabulary's ({examples})"
    if len(rows) > _MAX_RENAMED * len(pairs):
        raise ValueError(f"{text}; this is the file of another vocabulary, or in another order")
    logger.warning("%s; its rows are taken in their order", text)


def _plain(name: str) -> str:
    return re.sub(r"[\W_]+", " ", str(name)).strip().casefold()


def random_category_embeddings(vocabulary: Vocabulary, dim: int, seed: int = 0) -> Tensor:
    """(V, dim) float32 made-up text features, for tests: the same for the same seed."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(len(vocabulary), dim, generator=generator)


def load_category_embeddings(path: str | Path, vocabulary: Vocabulary, dim: int) -> Tensor:
    """Reads one embedding per category.

    The file holds a dict: 'embeddings' (rows, dim), 'categories' (their names) and, in newer
    files, 'ids' (their ``dataset_id``). Rows are matched by id where ids are present; otherwise
    the rows must be those of the vocabulary in its order. Names are never used as keys, but a file
    without ids whose names are largely others is refused.

    Args:
        path: a file written by `torch.save`.
        vocabulary: the V categories wanted.
        dim: expected length of an embedding.

    Returns:
        (V, dim) float32, by ``vocab_id``.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not an embedding file, another dimension, another count, missing ids or the
            names of other categories.
    """
    path = Path(path)
    content = _read(path)
    embeddings = content["embeddings"]
    if embeddings.ndim != 2 or embeddings.shape[1] != dim:
        raise ValueError(
            f"{path}: embeddings of shape {tuple(embeddings.shape)} found, (V, {dim}) expected "
            "(CQ-DINO's embeddings may have another one: model.categories.embedding_dim=DIMENSION)"
        )
    for key in ("ids", "categories"):
        if content.get(key) is not None and len(content[key]) != len(embeddings):
            raise ValueError(f"{path}: {len(content[key])} {key} for {len(embeddings)} embeddings")
    if content.get("ids") is not None:
        rows = _rows_by_id(path, list(content["ids"]), vocabulary)
        return embeddings[torch.tensor(rows, dtype=torch.int64)].float()
    if len(embeddings) != len(vocabulary):
        raise ValueError(
            f"{path} holds {len(embeddings)} embeddings without ids, the vocabulary has "
            f"{len(vocabulary)} categories"
        )
    if content.get("categories") is not None:
        _check_names(path, list(content["categories"]), vocabulary)
    return embeddings.float()
