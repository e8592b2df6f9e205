"""BERT as the detectors use it, built from a configuration alone."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from transformers import BertConfig, BertModel

from ..structures import PromptTokens


class BertLanguageModel(nn.Module):
    """Tokens to features by Hugging Face's BERT; nothing is fetched.

    The weights come with the detector's checkpoint.

    Args:
        settings: of ``transformers.BertConfig``; by default those of bert-base-uncased.

    Attributes:
        dim: width of the features.
        vocabulary_size: rows of the word embedding.
    """

    def __init__(self, **settings: Any) -> None:
        super().__init__()
        config = BertConfig(**settings)
        self.dim, self.vocabulary_size = config.hidden_size, config.vocab_size
        self.body = BertModel(config, add_pooling_layer=False)

    def forward(self, tokens: PromptTokens) -> Tensor:
        """(B, T, dim), the last layer's states."""
        states = self.body(
            input_ids=tokens.input_ids,
            attention_mask=tokens.visible[:, None],
            position_ids=tokens.position_ids,
        )
        return states.last_hidden_state
