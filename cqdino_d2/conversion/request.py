"""What is to be converted, and what became of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class ConversionRequest:
    """What is to be converted.

    Attributes:
        input: released checkpoint (a file, or a folder of Hugging Face), or embedding file.
        config_file: the recipe it belongs to.
        output: file to write.
        category_tree: the released table (.csv) or V3Det's tree JSON, or None.
        annotations: any annotation file of the dataset, or None.
        category_embeddings: released embedding file whose categories must be the vocabulary's, or
            None.
        patch_merging: 'microsoft' or 'mmdet', see `convert_released_weights`; None takes the order
            that released files of the input's kind have.
        overrides: ``key=value`` of the config.
    """

    input: Path
    config_file: Path
    output: Path
    category_tree: Path | None = None
    annotations: Path | None = None
    category_embeddings: Path | None = None
    patch_merging: str | None = None
    overrides: tuple[str, ...] = ()


@dataclass(frozen=True)
class ConversionOutcome:
    """What became of it.

    Attributes:
        lines: what became of every name, and what was written.
        problems: why nothing was written; empty if something was.
    """

    lines: tuple[str, ...]
    problems: tuple[str, ...] = ()
