"""The options with which commands say what is looked for; `prediction` reads them."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_question_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options that `prediction.question_arguments.question_of` reads."""
    add = parser.add_argument
    words = parser.add_mutually_exclusive_group()
    words.add_argument("--text", metavar="CAPTION", help="what to look for, phrases between dots")
    words.add_argument(
        "--names", type=Path, metavar="FILE", help="the same, a name per line, synonyms between |"
    )
    add(
        "--negatives",
        nargs="+",
        default=[],
        metavar="NAME",
        help="names that may win a box, which is then left out",
    )
    add("--text-encoder", metavar="FOLDER|NAME", help="that made the category embeddings")
    add("--only", nargs="+", default=[], metavar="NAME", help="find these categories only")
    add("--branch", nargs="+", default=[], metavar="NAME", help="the same, with all below them")
    add("--num-selected", type=int, metavar="K", help="categories that an image selects")
