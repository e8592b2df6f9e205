"""Makes category embeddings from the categories' names with a text encoder.

Examples:
    python projects_tools/build_category_embeddings.py --dataset v3det_train \
        --model ViT-L-14 --pretrained openai --templates imagenet --output v3det_clip.pth
    python projects_tools/build_category_embeddings.py --dataset emojidet_train --preset minilm \
        --output emojidet_minilm.pth
    python projects_tools/build_category_embeddings.py --names names.txt \
        --model FOLDER_OF_A_SENTENCE_TRANSFORMERS_MODEL --output names.pth
    python projects_tools/build_category_embeddings.py --dataset cq_lvis_v1_train \
        --preset richsem --output lvis_clip_rn50.pth

The features of all prompts of a category are averaged. The file has one embedding per category with
its id; give it to a training as train.category_embeddings=FILE. Where its dimension is not the
model's 768, add model.categories.embedding_dim=DIMENSION.
"""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path
from typing import Any

from cqdino_d2.files import write_atomically
from cqdino_d2.structures import log_to_terminal, one_line

PRESETS = {  # options given besides win
    # RichSem's text table: the plain mean of features as CLIP RN50 makes them
    "richsem": {
        "model": "RN50",
        "pretrained": "openai",
        "templates": "richsem",
        "raw_names": True,
        "raw_features": True,
    },
    # of all-MiniLM-L6-v2, which comes with a Python package: nothing is fetched
    "minilm": {"model": "minilm", "templates": "name", "centre": True},
}


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--dataset", metavar="NAME", help="a registered dataset")
    source.add_argument(
        "--names", type=Path, metavar="FILE", help="a name per line, or an annotation file (.json)"
    )
    parser.add_argument("--preset", choices=sorted(PRESETS), help="the options of a known table")
    parser.add_argument("--datasets-root", type=Path, help="default: $DETECTRON2_DATASETS")
    parser.add_argument(
        "--model",
        default="ViT-L-14",
        help="of open_clip, minilm, or a sentence encoder's folder",
    )
    parser.add_argument("--pretrained", default="openai", help="open_clip's tag, or a weight file")
    parser.add_argument(
        "--quick-gelu", action="store_true", default=None, help="for OpenAI's weights from a file"
    )
    parser.add_argument("--output", type=Path, required=True, metavar="F.pth")
    parser.add_argument(
        "--descriptions", action="store_true", help="add the dataset's description to a prompt"
    )
    parser.add_argument(
        "--templates", default="simple", help="imagenet, name, richsem, simple or a file"
    )
    parser.add_argument(
        "--raw-names", action="store_true", help="names stay as they are, with their underscores"
    )
    parser.add_argument(
        "--raw-features", action="store_true", help="neither features nor means are made 1 long"
    )
    parser.add_argument(
        "--centre", action="store_true", help="the mean of all categories is taken off"
    )
    parser.add_argument("--batch-size", type=int, default=256, help="texts at once")
    parser.add_argument("--device", help="cpu, cuda, ...; default: a GPU where there is one")
    parser.add_argument("--random", action="store_true", help="random embeddings, for tests")
    parser.add_argument("--dim", type=int, default=768, help="of random embeddings")
    parser.add_argument("--seed", type=int, default=0, help="of random embeddings")
    preset = parser.parse_args(arguments).preset
    parser.set_defaults(**PRESETS.get(preset, {}))
    return parser.parse_args(arguments)


def build(given: argparse.Namespace) -> dict[str, Any]:
    """Makes the content of the embedding file."""
    from cqdino_d2.data import register_all  # takes seconds
    from cqdino_d2.data.category_texts import CategoryTexts
    from cqdino_d2.engine.placement import choose_device
    from cqdino_d2.text.encoders import MINILM, RandomEncoder, choose_encoder
    from cqdino_d2.text.prompts import centred, encode_categories, prompts_of, read_templates

    if given.dataset:
        register_all(given.datasets_root)
        texts = CategoryTexts.of_dataset(given.dataset)
    else:
        texts = CategoryTexts.of_file(given.names)
    templates = read_templates(given.templates)
    if given.descriptions and not any(texts.descriptions):
        raise ValueError("--descriptions: these categories have no descriptions")
    descriptions = texts.descriptions if given.descriptions else [""] * len(texts.names)
    prompts = [
        prompts_of(name, description, templates, spoken=not given.raw_names)
        for name, description in zip(texts.names, descriptions, strict=True)
    ]
    if given.random:
        encoder, pretrained = RandomEncoder(given.dim, given.seed), None
    else:
        options = {
            "quick_gelu": given.quick_gelu,
            "device": str(choose_device(given.device or "auto")),
        }
        options["unit"] = not given.raw_features
        encoder = choose_encoder(given.model, given.pretrained, **options)
        is_open_clip = given.model != MINILM and not Path(given.model).is_dir()
        pretrained = given.pretrained if is_open_clip else None
    unit = not given.raw_features
    embeddings = encode_categories(encoder, prompts, given.batch_size, unit=unit)
    if given.centre:
        embeddings = centred(embeddings)
    return {
        "embeddings": embeddings,
        "ids": list(texts.ids),
        "categories": list(texts.names),
        "model": "random" if given.random else given.model,
        "pretrained": pretrained,
        "templates": templates,
        "descriptions": given.descriptions,
        "raw_names": given.raw_names,
        "raw_features": given.raw_features,
        "centre": given.centre,
        "dim": embeddings.shape[1],
    }


def main(arguments: list[str] | None = None) -> int:
    """Makes the file; returns the exit code."""
    log_to_terminal("%(message)s", logging.WARNING)
    given = parse_arguments(arguments)
    try:
        if not given.output.absolute().parent.is_dir():
            raise FileNotFoundError(f"no such folder: {given.output.absolute().parent}")
        content = build(given)
        import torch

        write_atomically(given.output, lambda file: torch.save(content, file))
    except (ValueError, OSError, ModuleNotFoundError) as error:
        print(f"build_category_embeddings: {one_line(str(error))}", file=sys.stderr)
        return 2
    count, dim = content["embeddings"].shape
    print(f"{given.output}: {count} categories, dimension {dim}, from {content['model']}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
