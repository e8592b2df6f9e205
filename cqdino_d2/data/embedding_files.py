"""Category embeddings from files."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..structures import Vocabulary
from .coco_format import require_file


def _read(path: Path) -> dict[str, Any]:
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise ValueError(f"{path} cannot be read as an embedding file: {error}") from error
    if not isinstance(content, dict) or not isinstance(content.get("embeddings"), Tensor):
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


def load_category_embeddings(path: str | Path, vocabulary: Vocabulary, dim: int) -> Tensor:
    """Reads one embedding per category.

    The file holds a dict: 'embeddings' (rows, dim), 'categories' (their names) and, in newer
    files, 'ids' (their ``dataset_id``). Rows are matched by id where ids are present; otherwise
    the rows must be those of the vocabulary in its order. Names are never used as keys.

    Args:
        path: a file written by `torch.save`.
        vocabulary: the V categories wanted.
        dim: expected length of an embedding.

    Returns:
        (V, dim) float32, by ``vocab_id``.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not an embedding file, another dimension, another count or missing ids.
    """
    path = require_file(path)
    content = _read(path)
    embeddings = content["embeddings"]
    if embeddings.ndim != 2 or embeddings.shape[1] != dim:
        raise ValueError(
            f"{path}: embeddings of shape {tuple(embeddings.shape)} found, (V, {dim}) expected"
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
    return embeddings.float()
