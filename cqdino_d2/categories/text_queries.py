"""Class queries from words: what a text-prompted detector looks for."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor, nn

from ..layers import sine_encoding
from ..structures import ClassQueries, ClassRequest, Phrases, PromptTokens, TextPrompt


class TextQueries(nn.Module):
    """Every token of a prompt is a class query (Grounding DINO, arXiv 2303.05499).

    Args:
        tokenizer: prompts -> tokens; needs ``vocabulary``, token -> number, and ``split``, which
            makes prompts that can be read of one that is too long.
        language_model: tokens -> (B, T, E); needs ``dim`` (E) and ``vocabulary_size``.
        dim: C, width of the queries.
        prompt_vectors: tokens -> (B, T, C), added to the queries' features: see `PromptVectors`.

    Raises:
        ValueError: on first use, a vocabulary of another size than the language model's.
    """

    def __init__(
        self,
        *,
        tokenizer: Callable[[Sequence[TextPrompt]], PromptTokens],
        language_model: nn.Module,
        dim: int,
        prompt_vectors: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.tokenizer, self.language_model, self.dim = tokenizer, language_model, dim
        self.projection = nn.Linear(language_model.dim, dim)
        nn.init.xavier_uniform_(self.projection.weight)
        nn.init.zeros_(self.projection.bias)
        self.prompt_vectors = prompt_vectors

    def forward(self, request: ClassRequest | None = None) -> ClassQueries:
        """One query per token of each image's prompt.

        Raises:
            ValueError: no prompts, or prompts that the tokenizer refuses.
        """
        if request is None or not request.prompts:
            raise ValueError("this model looks for what a prompt says: no prompt was given")
        prompts = request.prompts
        rows = self.language_model.vocabulary_size
        if len(self.tokenizer.vocabulary) != rows:
            raise ValueError(
                f"the tokenizer's vocabulary has {len(self.tokenizer.vocabulary)} tokens, the "
                f"language model's {rows}: the vocabulary file belongs to another model"
            )
        distinct = list(dict.fromkeys(prompts))
        tokens = self.tokenizer(distinct).to(self.projection.weight.device)
        features = self.encode(tokens)
        position = sine_encoding(tokens.position_ids.float(), self.dim, temperature=10000.0)
        queries = ClassQueries(
            features=features,
            valid=tokens.valid,
            position=position,
            visible=tokens.visible,
            phrases=Phrases(tokens.phrases, tokens.vocab_ids),
        )
        if len(distinct) == len(prompts):
            return queries
        return queries.rows([distinct.index(prompt) for prompt in prompts])

    def split(self, prompt: TextPrompt) -> tuple[TextPrompt, ...]:
        """The prompt, or where it is too long for the model its parts."""
        return self.tokenizer.split(prompt)

    def encode(self, tokens: PromptTokens) -> Tensor:
        """(B, T, C) features of the tokens."""
        features = self.projection(self.language_model(tokens))
        if self.prompt_vectors is None:
            return features
        return features + self.prompt_vectors(tokens).to(features.dtype)
