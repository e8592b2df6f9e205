"""What a caller wants to be found."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor


@dataclass(frozen=True)
class TextPrompt:
    """Words to look for in one image.

    Attributes:
        caption: the text.
        spans: for every thing to be found the (first, last + 1) characters of the caption that
            name it; a thing may have several. Its place in the list is its vocab_id.

    Raises:
        ValueError: a span outside the caption, empty, or a thing without any.
    """

    caption: str
    spans: tuple[tuple[tuple[int, int], ...], ...]

    def __post_init__(self) -> None:
        for place, own in enumerate(self.spans):
            bad = [span for span in own if not 0 <= span[0] < span[1] <= len(self.caption)]
            if bad or not own:
                raise ValueError(
                    f"thing {place} of the prompt needs spans within its caption of "
                    f"{len(self.caption)} characters, got {list(own)}"
                )


@dataclass(frozen=True)
class ClassRequest:
    """What images may be searched for, where that is not the model's own choice.

    Attributes:
        vocab_ids: (n,) int64, each once; None stands for the whole vocabulary.
        num_selected: K, if not the model's own.
        prompts: one for each image; only for models that read words.

    Raises:
        ValueError: no category, a category twice, K below 1, or both categories and prompts.
    """

    vocab_ids: Tensor | None = None
    num_selected: int | None = None
    prompts: tuple[TextPrompt, ...] | None = None

    def __post_init__(self) -> None:
        ids = self.vocab_ids
        if ids is not None and (ids.ndim != 1 or not 0 < len(ids) == len(ids.unique())):
            raise ValueError(
                f"a request needs (n,) categories, n > 0, each once; got {ids.tolist()}"
            )
        if self.num_selected is not None and self.num_selected < 1:
            raise ValueError(f"num_selected (K) must be at least 1, got {self.num_selected}")
        if self.prompts is not None and ids is not None:
            raise ValueError("a request names either categories or prompts, got both")

    def to(self, device: torch.device) -> ClassRequest:
        """The same request on a device."""
        return (
            self if self.vocab_ids is None else replace(self, vocab_ids=self.vocab_ids.to(device))
        )
