"""From names of categories to the texts that a text encoder gets, and to embeddings."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm

from ..files.text_lines import read_lines

SIMPLE_TEMPLATES = ("a photo of a {}.",)


class TextEncoder(Protocol):
    """Turns texts into features."""

    def encode(self, texts: Sequence[str]) -> Tensor:
        """(N, E) float32 features, of length 1 unless the encoder was configured otherwise."""


def spoken_name(name: str) -> str:
    """A name as it is said: underscores and other white space become single spaces."""
    return " ".join(name.replace("_", " ").split())


def read_templates(choice: str) -> list[str]:
    """'name', 'simple', 'imagenet' (CLIP's 80), 'richsem' (these and '{}.'), or a file.

    A file has a template with {} for the name on each line; 'name' is the name alone.

    Raises:
        ValueError: no text, or a template without {}.
        FileNotFoundError: no such file.
    """
    if choice in ("name", "simple"):
        return ["{}"] if choice == "name" else list(SIMPLE_TEMPLATES)
    if choice in ("imagenet", "richsem"):
        from open_clip import OPENAI_IMAGENET_TEMPLATES

        own = ["{}."] if choice == "richsem" else []
        return [template("{}") for template in OPENAI_IMAGENET_TEMPLATES] + own
    templates = [line for line in read_lines(Path(choice)) if line]
    wrong = [line for line in templates if line.count("{}") != 1]
    if wrong or not templates:
        raise ValueError(f"{choice}: every line needs one {{}} for the name, got {wrong[:3]}")
    return templates


def prompts_of(
    name: str, description: str, templates: Sequence[str], *, spoken: bool = True
) -> list[str]:
    """The texts that represent a category: a sentence per template, each with the description.

    Args:
        name: of the category.
        description: "" for none.
        templates: with {} for the name.
        spoken: whether the name is put as `spoken_name` says it, or stays as it is.
    """
    said = spoken_name(name) if spoken else name
    texts = [template.replace("{}", said) for template in templates]
    return [f"{text} {description}" for text in texts] if description else texts


def encode_categories(
    encoder: TextEncoder,
    prompts: Sequence[Sequence[str]],
    batch_size: int = 256,
    *,
    progress: bool = True,
    unit: bool = True,
) -> Tensor:
    """Averages the features of each category's prompts.

    Args:
        encoder: makes the features.
        prompts: the texts of each of the V categories, equally many.
        batch_size: texts that are encoded at once, about.
        progress: whether a progress bar is shown.
        unit: whether the means are made 1 long.

    Returns:
        (V, E) float32.

    Raises:
        ValueError: no category, or one without a prompt.
    """
    if not prompts or not prompts[0]:
        raise ValueError(f"{len(prompts)} categories need at least one prompt each")
    per_category = len(prompts[0])
    step = max(1, batch_size // per_category)
    options = {"unit": "category", "mininterval": 1.0, "disable": not progress}
    parts = []
    with tqdm(total=len(prompts), desc="categories", **options) as bar:
        for start in range(0, len(prompts), step):
            rows = prompts[start : start + step]
            texts = [text for row in rows for text in row]
            pieces = [
                encoder.encode(texts[i : i + batch_size]) for i in range(0, len(texts), batch_size)
            ]
            parts.append(torch.cat(pieces).view(len(rows), per_category, -1).mean(dim=1))
            bar.update(len(rows))
    means = torch.cat(parts)
    return F.normalize(means, dim=-1) if unit else means


def centred(features: Tensor, known: Tensor | None = None) -> Tensor:
    """(V, E) features less a mean, scaled.

    What all names have in common, most of a sentence encoder's feature, tells none from another.

    Args:
        features: (V, E).
        known: (U, E) features that get the mean 0 and the mean length 1; None for ``features``.

    Raises:
        ValueError: fewer than two known features, or all are alike.
    """
    known = features if known is None else known
    mean = known.mean(dim=0)
    length = (known - mean).norm(dim=1).mean() if len(known) > 1 else known.new_zeros(())
    if not length > 1e-6:
        raise ValueError(f"{len(known)} features do not differ: nothing is left once centred")
    return (features - mean) / length


def encode_names(
    encoder: TextEncoder, names: Sequence[str], templates: Sequence[str] = SIMPLE_TEMPLATES
) -> Tensor:
    """(V, E) embeddings of length 1: for each name the mean over the templates."""
    prompts = [prompts_of(name, "", templates) for name in names]
    return encode_categories(encoder, prompts, progress=False)
