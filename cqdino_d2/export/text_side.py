"""What a text detector's file takes besides the image, out of words."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..detector import GroundingDINO
from ..files import write_atomically
from ..structures import NO_CATEGORY, ClassQueries, Phrases, TextPrompt
from ..text import wanted_prompts
from .exportable import least_names

TEXT_INPUTS = (
    *("text_features", "text_position", "text_valid", "text_visible"),
    *("phrases", "name_ids"),
)


@dataclass(frozen=True)
class TextInputs:
    """One pass over an image.

    Attributes:
        names: everything that was asked for; the name_ids of the arrays are places in it.
        arrays: by the names of `TEXT_INPUTS`, as `ExportableTextDetector.forward` takes them.
        checkpoint: whose text side it is, see `checkpoint_id`.
    """

    names: tuple[str, ...]
    arrays: Mapping[str, np.ndarray]
    checkpoint: str

    def save(self, path: str | Path) -> None:
        """Writes a file that `numpy.load` reads: the arrays, ``names`` and ``checkpoint``."""
        content = io.BytesIO()
        np.savez(content, names=np.array(self.names), checkpoint=self.checkpoint, **self.arrays)
        write_atomically(path, lambda file: file.write(content.getvalue()))

    @classmethod
    def load(cls, path: str | Path) -> TextInputs:
        """Reads what `save` wrote.

        Raises:
            FileNotFoundError: no such file.
            ValueError: another kind of file.
        """
        try:
            with np.load(path, allow_pickle=False) as found:
                arrays = {name: found[name] for name in TEXT_INPUTS}
                return cls(tuple(found["names"].tolist()), arrays, str(found["checkpoint"]))
        except FileNotFoundError:
            raise
        except Exception as error:  # numpy raises many kinds
            raise ValueError(f"{path} holds no text inputs of an exported detector") from error


class TextSide:
    """Makes the inputs of an exported text detector from words, with the model's own text part.

    Args:
        model: whose detector was exported.
    """

    def __init__(self, model: GroundingDINO) -> None:
        self.model = model
        self.checkpoint = checkpoint_id(model)
        self.least_names = least_names(model)

    def __call__(
        self, wanted: str | TextPrompt | Sequence[str | Sequence[str]]
    ) -> tuple[TextInputs, ...]:
        """The inputs of each pass that is needed to look for all names.

        Args:
            wanted: a caption, names (some of which may be lists of synonyms) or a prompt.

        Raises:
            TypeError, ValueError: see `wanted_prompts`.
        """
        asked = wanted_prompts(wanted, self.model.categories.tokenizer)
        with torch.no_grad():
            passes = self.model.read_prompts(asked.prompts)
        return tuple(
            TextInputs(
                asked.names, arrays_of(queries.rows([row]), self.least_names), self.checkpoint
            )
            for queries in passes
            for row in range(len(queries.features))
        )


def arrays_of(queries: ClassQueries, least_names: int = 2) -> dict[str, np.ndarray]:
    """The text side of one prompt as `ExportableTextDetector.forward` takes it.

    Args:
        queries: of one image, with phrases.
        least_names: G at least; the rest are rows without a name.
    """
    phrases, name_ids = _by_name(queries.phrases, least_names)
    tensors = (
        queries.features[0].float(),
        queries.position[0].float(),
        queries.valid[0],
        queries.visible[0],
        phrases,
        name_ids,
    )
    return {name: tensor.cpu().numpy() for name, tensor in zip(TEXT_INPUTS, tensors, strict=True)}


def _by_name(phrases: Phrases, least_names: int) -> tuple[Tensor, Tensor]:
    """Phrases (1, P, S) -> (G, M, S) of G names with M synonyms, and (G,) their ids."""
    members, ids = phrases.members[0], phrases.vocab_ids[0]
    rows: dict[int, list[Tensor]] = {}
    for vocab_id, phrase in zip(ids.tolist(), members, strict=True):
        if vocab_id != NO_CATEGORY:
            rows.setdefault(vocab_id, []).append(phrase)
    size = max(len(rows), least_names), max(2, *map(len, rows.values())), members.shape[-1]
    by_name = members.new_zeros(size)
    name_ids = ids.new_full(size[:1], NO_CATEGORY)
    for place, vocab_id in enumerate(sorted(rows)):
        by_name[place, : len(rows[vocab_id])] = torch.stack(rows[vocab_id])
        name_ids[place] = vocab_id
    return by_name, name_ids


def checkpoint_id(model: torch.nn.Module) -> str:
    """16 letters and digits that differ where weights differ."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(np.ascontiguousarray(tensor.detach().float().cpu().numpy()))
    return digest.hexdigest()[:16]
