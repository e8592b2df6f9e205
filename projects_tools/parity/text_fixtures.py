"""Which recorded numbers of text-prompted detectors a file holds, and how they are compared."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cqdino_d2.text import PromptTokenizer

from .fixture import read_about, read_arrays
from .grounding import GroundingFixture, check_grounding
from .hf_loss import check_hf_losses, check_label_maps
from .mm_head import HeadFixture, check_mm_head
from .mm_texts import check_mm_texts
from .mm_training import MMFixture, check_mm_training
from .official_texts import check_official_texts

WORDS_FILE = "gdino_text_cases.json"
_Check = Callable[[Path, Mapping[str, Any], Any, Any], None]


def _official(path: Path, about: Mapping[str, Any], compare: Any, record: Any) -> None:
    check_grounding(GroundingFixture(about, read_arrays(path)), compare, record)


def _official_texts(path: Path, about: Mapping[str, Any], compare: Any, record: Any) -> None:
    with _tokenizer(about["vocab"]) as tokenizer:
        check_official_texts(about, tokenizer, path.parent, compare)


def _mm_texts(path: Path, about: Mapping[str, Any], compare: Any, record: Any) -> None:
    with _tokenizer(_words_beside(path)) as tokenizer:
        check_mm_texts(about, tokenizer, compare)


def _mm_training(path: Path, about: Mapping[str, Any], compare: Any, record: Any) -> None:
    fixture = MMFixture(about, read_arrays(path), _words_beside(path))
    check_mm_training(fixture, compare, record)


def _mm_head(path: Path, about: Mapping[str, Any], compare: Any, record: Any) -> None:
    check_mm_head(HeadFixture(about, read_arrays(path)), compare)


def _hf_losses(path: Path, about: Mapping[str, Any], compare: Any, record: Any) -> None:
    tensors = path.with_name(path.name.replace("hf_loss", "train_head"))
    check_hf_losses(about, HeadFixture(read_about(tensors), read_arrays(tensors)), compare)
    with _tokenizer(_words_beside(path)) as tokenizer:
        check_label_maps(about, tokenizer, compare)


CHECK_OF: dict[str, _Check] = {  # by a key that no other kind of file has
    "predict_single": _official,
    "preprocess_caption": _official_texts,
    "od_sampling": _mm_texts,
    "tokens_positive": _mm_training,
    "cls_avg_factor_in_call_order": _mm_head,
    "build_label_maps": _hf_losses,
}


def text_check(about: Mapping[str, Any]) -> _Check | None:
    """What is to be done with a fixture of a text-prompted detector; None if it is none."""
    return next((check for key, check in CHECK_OF.items() if key in about), None)


def _words_beside(path: Path) -> Sequence[str]:
    """The vocabulary that all text fixtures of a folder share."""
    return read_about(path.with_name(WORDS_FILE))["vocab"]


@contextmanager
def _tokenizer(words: Sequence[str]) -> Iterator[PromptTokenizer]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "vocab.txt")
        path.write_text("\n".join(words) + "\n", encoding="utf-8")
        yield PromptTokenizer(path)
