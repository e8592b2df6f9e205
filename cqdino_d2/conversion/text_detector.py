"""A released detector that is asked in words: official, of mmdetection, or of Hugging Face."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from detectron2.config import instantiate
from omegaconf import DictConfig
from torch import Tensor, nn

from ..checkpoint import Family
from ..files.text_lines import read_rows
from .model_file import build_on_meta, convert_by_family, write_model
from .request import ConversionOutcome, ConversionRequest

_WORD_EMBEDDINGS = "categories.language_model.body.embeddings.word_embeddings.weight"


def convert_text_detector(
    request: ConversionRequest, cfg: DictConfig, family: Family, weights: Mapping[str, Tensor]
) -> ConversionOutcome:
    """Writes a checkpoint; there are no categories to go with it.

    Raises:
        ValueError: files that only CQ-DINO has, or a vocabulary of another language model.
        FileNotFoundError: no such vocabulary file.
        ModuleNotFoundError: neither a vocabulary file nor the package that has one.
    """
    if request.category_tree or request.annotations or request.category_embeddings:
        raise ValueError(
            f"{request.config_file} describes a model that is asked in words: it takes no "
            "categories, tree or embeddings"
        )
    model = build_on_meta(cfg, instantiate(cfg.vocabulary))
    conversion, line = convert_by_family(family, weights, request)
    if _WORD_EMBEDDINGS in conversion.weights:
        _check_vocabulary(model, len(conversion.weights[_WORD_EMBEDDINGS]), request.input)
    outcome = write_model(request, cfg, model, conversion)
    return replace(outcome, lines=(line, *outcome.lines))


def _check_vocabulary(model: nn.Module, num_words: int, source: Path) -> None:
    """That the words which prompts are made of are those that the language model was trained on."""
    tokenizer = model.categories.tokenizer
    words = list(tokenizer.vocabulary)
    name = tokenizer.vocabulary_file or "the packaged vocabulary of bert-base-uncased"
    how = "name its own by model.categories.tokenizer.vocabulary_file=vocab.txt"
    if len(words) != num_words:
        raise ValueError(
            f"{name} has {len(words)} words, the language model in {source} has {num_words}: it "
            f"belongs to another model; {how}"
        )
    own_file = source / "vocab.txt"
    if not own_file.is_file():
        return
    own = read_rows(own_file)
    pairs = enumerate(zip(words, own, strict=False), start=1)
    differing = next(((line, *pair) for line, pair in pairs if pair[0] != pair[1]), None)
    if differing or len(own) != len(words):
        line, ours, theirs = differing or (min(len(own), len(words)) + 1, "...", "...")
        raise ValueError(
            f"{name} has other words than {own_file}, from line {line} on ({ours!r}, there "
            f"{theirs!r}); {how}"
        )
