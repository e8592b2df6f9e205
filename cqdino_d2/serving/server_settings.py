"""The settings of a server: its models, and the token that clients must send."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

TOKEN_VARIABLE = "CQDINO_API_TOKEN"


class NamedModel(NamedTuple):
    """A model of a server: what requests call it, and its files."""

    name: str
    config_file: str
    weights: str


def named_model(text: str) -> NamedModel:
    """NAME=CONFIG,WEIGHTS.

    Raises:
        ValueError: another form, or a name that no address can hold.
    """
    name, _, files = text.partition("=")
    config, _, weights = files.rpartition(",")
    if not (name.strip() and config and weights) or not name.isprintable() or "/" in name:
        raise ValueError(f"expected NAME=CONFIG,WEIGHTS, got {text!r}")
    return NamedModel(name.strip(), config, weights)


def read_token(file: Path | None = None) -> str | None:
    """The token of a file, else of the environment; None for none.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is empty, or no header can carry it.
    """
    token = os.environ.get(TOKEN_VARIABLE) if file is None else file.read_text("utf-8").strip()
    if token is None:
        return None
    if not token or not token.isascii() or not token.isprintable() or " " in token:
        raise ValueError(
            f"the token of {file or TOKEN_VARIABLE} must be printable ASCII without blanks"
        )
    return token
