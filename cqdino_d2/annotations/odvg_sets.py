"""Sets in ODVG as other sets are used: labelled boxes as `Annotations`, sentences as texts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ..files.column_file import open_column_file
from .cache import Form, digest_of, load_columns
from .columns import FORMAT, Annotations, reopened
from .grounded_texts import GroundedTexts
from .label_maps import read_label_map
from .odvg import read_odvg_detection, read_odvg_grounding
from .phrase_boxes import Spans

ODVG = "odvg"
_TEXTS = "cqdino_d2.odvg_texts.v1"
_DTYPES = {
    "lines": "<i8",
    "sizes": "<i4",
    "spans": "<i4",
    "boxes_xywh": "<f8",
    "box_phrases": "<i4",
}
_OFFSETS = {  # offsets -> what they divide
    "file_name_offsets": "file_name_bytes",
    "caption_offsets": "caption_bytes",
    "phrase_offsets": "span_offsets",
    "span_offsets": "spans",
    "box_offsets": "boxes_xywh",
}


def load_odvg_annotations(
    path: str | Path, label_map: str | Path, layout: str = "", *, keep: bool = True
) -> Annotations:
    """The columns of a file of detection lines.

    Args:
        path: the file.
        label_map: see `read_label_map`.
        layout: what to say about the expected layout if a file is missing.
        keep: whether a cache is written where there is none.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: see `read_label_map` and `read_odvg_detection`.
    """
    names = read_label_map(label_map, layout)
    form = Form(
        FORMAT,
        partial(read_odvg_detection, names=names),
        Annotations,
        Annotations.of_cache,
        f"{ODVG} {digest_of(names)}",
    )
    return load_columns(path, form, layout, keep=keep)


def load_odvg_texts(path: str | Path, layout: str = "", *, keep: bool = True) -> OdvgTexts:
    """The texts of a file of grounding lines.

    Args:
        path: the file.
        layout: what to say about the expected layout if it is missing.
        keep: whether a cache is written where there is none.

    Raises:
        FileNotFoundError: no such file.
        ValueError: see `read_odvg_grounding`.
    """
    form = Form(_TEXTS, read_odvg_grounding, OdvgTexts.of_columns, OdvgTexts.of_cache)
    return load_columns(path, form, layout, keep=keep)


@dataclass(frozen=True)
class OdvgTexts(GroundedTexts):
    """Texts whose strings and spans are made when they are asked for.

    Pickled, it is a path: another process maps the same file.

    Attributes:
        facts: those of `read_odvg_grounding` and, of a cache, of the file it is of.
        cache_file: where the columns lie; None if they are in memory only.
    """

    facts: Mapping[str, Any] = field(default_factory=dict)
    cache_file: Path | None = None

    @classmethod
    def of_columns(
        cls,
        columns: Mapping[str, np.ndarray],
        facts: Mapping[str, Any],
        cache_file: Path | None = None,
    ) -> OdvgTexts:
        """The texts of `read_odvg_grounding`."""
        return cls(
            kind=ODVG,
            image_ids=_Numbers(columns["lines"]),
            file_names=_Strings(columns["file_name_bytes"], columns["file_name_offsets"]),
            sizes=columns["sizes"],
            captions=_Strings(columns["caption_bytes"], columns["caption_offsets"]),
            dataset_names=("",) * len(columns["lines"]),
            phrases=_Phrases(columns["spans"], columns["span_offsets"], columns["phrase_offsets"]),
            box_offsets=columns["box_offsets"],
            boxes_xywh=columns["boxes_xywh"],
            box_phrases=columns["box_phrases"],
            facts=facts,
            cache_file=cache_file,
        )

    @classmethod
    def of_cache(cls, cache_file: Path) -> OdvgTexts:
        """Maps a cache.

        Raises:
            FileNotFoundError: no such file.
            ValueError: it is damaged, of another format, or its columns do not fit each other.
        """
        columns, facts = open_column_file(cache_file)
        if facts.get("format") != _TEXTS:
            raise ValueError(f"has the format {facts.get('format')!r}, not {_TEXTS!r}")
        _check(columns)
        return cls.of_columns(columns, facts, cache_file)

    def __reduce__(self) -> tuple[Any, ...]:
        if self.cache_file is None:
            return super().__reduce__()
        return reopened, (OdvgTexts, self.cache_file, self.facts["sha256"])


def _check(columns: Mapping[str, np.ndarray]) -> None:
    """Raises ValueError unless the columns are those of `read_odvg_grounding`."""
    needed = {*_DTYPES, *_OFFSETS, *_OFFSETS.values()}
    if lacking := needed - columns.keys():
        raise ValueError(f"lacks the columns {sorted(lacking)}")
    texts = len(columns["lines"])
    for name, dtype in _DTYPES.items():
        if columns[name].dtype != np.dtype(dtype):
            raise ValueError(f"has other columns than it should: {name}")
    for name, values in _OFFSETS.items():
        offsets, ends = columns[name], len(columns[values])
        ends -= values == "span_offsets"  # one more than there are phrases
        rows = len(offsets) - 1 if name == "span_offsets" else texts
        ascending = offsets.ndim == 1 and bool((np.diff(offsets) >= 0).all())
        if len(offsets) != rows + 1 or not ascending or (offsets[0], offsets[-1]) != (0, ends):
            raise ValueError(f"has other columns than it should: {name}")
    counts = np.repeat(np.diff(columns["phrase_offsets"]), np.diff(columns["box_offsets"]))
    places = columns["box_phrases"]
    if len(places) != len(columns["boxes_xywh"]) or not ((places >= 0) & (places < counts)).all():
        raise ValueError("has other columns than it should: box_phrases")


class _Rows(Sequence):
    """A sequence whose items are made when they are asked for."""

    def __getitem__(self, index: int | slice) -> Any:
        if isinstance(index, slice):
            return [self._item(row) for row in range(len(self))[index]]
        return self._item(range(len(self))[index])


class _Numbers(_Rows):
    def __init__(self, values: np.ndarray) -> None:
        self._values = values

    def __len__(self) -> int:
        return len(self._values)

    def _item(self, row: int) -> int:
        return int(self._values[row])


class _Strings(_Rows):
    def __init__(self, content: np.ndarray, offsets: np.ndarray) -> None:
        self._content, self._offsets = content, offsets

    def __len__(self) -> int:
        return len(self._offsets) - 1

    def _item(self, row: int) -> str:
        start, end = self._offsets[row : row + 2].tolist()
        return self._content[start:end].tobytes().decode("utf-8", "surrogatepass")


class _Phrases(_Rows):
    def __init__(
        self, spans: np.ndarray, span_offsets: np.ndarray, phrase_offsets: np.ndarray
    ) -> None:
        self._spans, self._of_phrase, self._of_text = spans, span_offsets, phrase_offsets

    def __len__(self) -> int:
        return len(self._of_text) - 1

    def _item(self, row: int) -> tuple[Spans, ...]:
        first, last = self._of_text[row : row + 2].tolist()
        ends = self._of_phrase[first : last + 1].tolist()
        return tuple(
            tuple(map(tuple, self._spans[start:end].tolist()))
            for start, end in zip(ends, ends[1:], strict=False)
        )
