"""Makes category embeddings from the categories' names with a text encoder.

Examples:
    python projects_tools/build_category_embeddings.py --dataset v3det_train \
        --model ViT-L-14 --pretrained openai --templates imagenet --output v3det_clip.pth
    python projects_tools/build_category_embeddings.py --names names.txt \
        --model FOLDER_OF_A_SENTENCE_TRANSFORMERS_MODEL --output names.pth

The features of all prompts of a category are averaged. The file has one embedding per category with
its id; give it to a training as train.category_embeddings=FILE. Where its dimension is not the
model's 768, add model.categories.embedding_dim=DIMENSION.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm

from cqdino_d2.data import (
    dataset_vocabulary,
    register_all,
    register_coco_like,
    registered_descriptions,
)
from cqdino_d2.files import write_atomically
from cqdino_d2.text.encoders import OpenClipEncoder, RandomEncoder, SentenceEncoder, TextEncoder

SIMPLE_TEMPLATES = ("a photo of a {}.",)


def read_names(path: Path) -> tuple[list[int], list[str], list[str]]:
    """Ids, names and descriptions: of an annotation file, or one name per line (ids 1, 2, ...).

    Raises:
        ValueError: no names, or no text.
        FileNotFoundError: no such file.
    """
    if path.suffix == ".json":
        register_coco_like("named_on_the_command_line", path, path.parent)
        return read_dataset("named_on_the_command_line")
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is no text file: {error}") from error
    while lines and not lines[-1].strip():
        lines.pop()
    if empty := [number for number, line in enumerate(lines, 1) if not line.strip()]:
        raise ValueError(f"{path}: no name in the lines {empty[:10]} (a line's number is its id)")
    if not lines:
        raise ValueError(f"{path} has no names")
    return list(range(1, len(lines) + 1)), [line.strip() for line in lines], [""] * len(lines)


def read_dataset(name: str) -> tuple[list[int], list[str], list[str]]:
    """Ids, names and descriptions of a registered data set."""
    vocabulary = dataset_vocabulary(name)
    return list(vocabulary.dataset_ids), list(vocabulary.names), registered_descriptions(name)


def read_templates(choice: str) -> list[str]:
    """'simple', 'imagenet' (the 80 of CLIP) or a file with a template per line, each with {}.

    Raises:
        ValueError: a template without {}.
        FileNotFoundError: no such file.
    """
    if choice == "simple":
        return list(SIMPLE_TEMPLATES)
    if choice == "imagenet":
        from open_clip import OPENAI_IMAGENET_TEMPLATES

        return [template("{}") for template in OPENAI_IMAGENET_TEMPLATES]
    templates = [line.strip() for line in Path(choice).read_text(encoding="utf-8").splitlines()]
    templates = [line for line in templates if line]
    wrong = [line for line in templates if line.count("{}") != 1]
    if wrong or not templates:
        raise ValueError(f"{choice}: every line needs one {{}} for the name, got {wrong[:3]}")
    return templates


def prompts_of(name: str, description: str, templates: Sequence[str]) -> list[str]:
    """The texts that stand for a category; underscores of its name become spaces."""
    spoken = " ".join(name.replace("_", " ").split())
    texts = [template.replace("{}", spoken) for template in templates]
    return [f"{text} {description}" for text in texts] if description else texts


def encode_categories(
    encoder: TextEncoder, prompts: Sequence[Sequence[str]], batch_size: int
) -> Tensor:
    """Averages the features of each category's prompts.

    Args:
        encoder: makes features of length 1.
        prompts: the texts of each of the V categories, equally many.
        batch_size: texts that are encoded at once, about.

    Returns:
        (V, dim) float32 of length 1.
    """
    per_category = len(prompts[0])
    step = max(1, batch_size // per_category)
    parts = []
    with tqdm(total=len(prompts), desc="categories", unit="category", mininterval=1.0) as progress:
        for start in range(0, len(prompts), step):
            rows = prompts[start : start + step]
            texts = [text for row in rows for text in row]
            pieces = [
                encoder.encode(texts[i : i + batch_size]) for i in range(0, len(texts), batch_size)
            ]
            parts.append(torch.cat(pieces).view(len(rows), per_category, -1).mean(dim=1))
            progress.update(len(rows))
    return F.normalize(torch.cat(parts), dim=-1)


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--dataset", metavar="NAME", help="a registered data set")
    source.add_argument(
        "--names", type=Path, metavar="FILE", help="a name per line, or an annotation file (.json)"
    )
    parser.add_argument("--datasets-root", type=Path, help="default: $DETECTRON2_DATASETS")
    parser.add_argument(
        "--model", default="ViT-L-14", help="of open_clip, or a sentence-transformers folder"
    )
    parser.add_argument("--pretrained", default="openai", help="open_clip's tag, or a weight file")
    parser.add_argument(
        "--quick-gelu", action="store_true", default=None, help="for OpenAI's weights from a file"
    )
    parser.add_argument("--output", type=Path, required=True, metavar="F.pth")
    parser.add_argument(
        "--descriptions", action="store_true", help="add the data set's description to a prompt"
    )
    parser.add_argument("--templates", default="simple", help="imagenet, simple or a file")
    parser.add_argument("--batch-size", type=int, default=256, help="texts at once")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--random", action="store_true", help="random embeddings, for tests")
    parser.add_argument("--dim", type=int, default=768, help="of random embeddings")
    parser.add_argument("--seed", type=int, default=0, help="of random embeddings")
    return parser.parse_args(arguments)


def choose_encoder(given: argparse.Namespace) -> TextEncoder:
    """The encoder that the command line asks for."""
    if given.random:
        return RandomEncoder(given.dim, given.seed)
    if Path(given.model).is_dir():
        return SentenceEncoder(given.model, device=given.device)
    return OpenClipEncoder(
        given.model, given.pretrained, quick_gelu=given.quick_gelu, device=given.device
    )


def build(given: argparse.Namespace) -> dict[str, object]:
    """Makes the content of the embedding file."""
    if given.dataset:
        register_all(given.datasets_root)
        ids, names, descriptions = read_dataset(given.dataset)
    else:
        ids, names, descriptions = read_names(given.names)
    templates = read_templates(given.templates)
    if given.descriptions and not any(descriptions):
        raise ValueError("--descriptions: these categories have no descriptions")
    if not given.descriptions:
        descriptions = [""] * len(names)
    encoder = choose_encoder(given)
    prompts = [
        prompts_of(name, text, templates) for name, text in zip(names, descriptions, strict=True)
    ]
    sentence = Path(given.model).is_dir()
    return {
        "embeddings": encode_categories(encoder, prompts, given.batch_size),
        "ids": ids,
        "categories": names,
        "model": "random" if given.random else given.model,
        "pretrained": None if given.random or sentence else given.pretrained,
        "templates": templates,
        "descriptions": given.descriptions,
        "dim": encoder.dim,
    }


def main(arguments: list[str] | None = None) -> int:
    """Makes the file; returns the exit code."""
    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    given = parse_arguments(arguments)
    try:
        if not given.output.absolute().parent.is_dir():
            raise FileNotFoundError(f"no such folder: {given.output.absolute().parent}")
        content = build(given)
        write_atomically(given.output, lambda file: torch.save(content, file))
    except (ValueError, OSError, ModuleNotFoundError) as error:
        print(f"build_category_embeddings: {error}", file=sys.stderr)
        return 2
    count, dim = content["embeddings"].shape
    print(f"{given.output}: {count} categories, dimension {dim}, from {content['model']}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
