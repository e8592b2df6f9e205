"""The compiled extension ``cqdino_d2._C``: loads it once, or says once why it cannot be used.

Its operators are in the torch.library namespace ``cqdino_d2``. Without it the package works
through its readable references.
"""

from __future__ import annotations

import functools
import hashlib
import importlib
import logging
import os
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

import torch

_PACKAGE = Path(__file__).resolve().parent
_REBUILD = "build it with: pip install --no-build-isolation --no-deps --editable CHECKOUT"


def load() -> bool:
    """Loads the extension if that was not done before; True if its operators can be used.

    ``CQDINO_DISABLE_EXTENSION=1`` in the environment (read once) turns it off.
    """
    return _load() is None


def is_available() -> bool:
    """True if the operators can be used; the same as `load`."""
    return load()


def reason() -> str | None:
    """Why the extension cannot be used, or None if it can."""
    return _load()


def source_files(package: Path = _PACKAGE) -> list[Path]:
    """The C++ and CUDA files of all parts of the extension, headers included, sorted."""
    return sorted(
        path
        for path in package.rglob("*")
        if path.suffix in {".cpp", ".cu", ".cuh", ".h"}
        and "csrc" in path.relative_to(package).parts
    )


def build_tag(package: Path = _PACKAGE) -> str:
    """What an extension for these sources and this torch carries in its binary."""
    digest = hashlib.sha256()
    for path in source_files(package):
        digest.update(path.relative_to(package).as_posix().encode() + b"\0")
        digest.update(path.read_bytes() + b"\0")
    return f"cqdino_d2._C for torch {torch.__version__}, sources {digest.hexdigest()[:32]}"


@functools.cache
def _load() -> str | None:
    if os.environ.get("CQDINO_DISABLE_EXTENSION", "") not in ("", "0"):
        return "turned off by CQDINO_DISABLE_EXTENSION"
    problem = _problem(_PACKAGE)
    if problem is not None:
        message = "cqdino_d2 runs without its compiled extension, more slowly: %s"
        logging.getLogger(__name__).warning(message, problem)
    return problem


def _problem(package: Path) -> str | None:
    """Imports the extension; returns what is wrong with it."""
    paths = (package / f"_C{suffix}" for suffix in EXTENSION_SUFFIXES)
    path = next((path for path in paths if path.is_file()), None)
    if path is None:
        others = sorted(other.name for other in package.glob("_C.*so"))
        found = f"only {', '.join(others)} for another Python" if others else "it was not built"
        return f"{found}; {_REBUILD}"
    # Looked up in the file: a binary for another torch must not be loaded at all.
    if build_tag(package).encode() not in path.read_bytes():
        return f"{path.name} is stale (other sources or another torch); {_REBUILD}"
    try:
        importlib.import_module("cqdino_d2._C")
    except ImportError as error:
        return f"{path.name} cannot be loaded ({error}); {_REBUILD}"
    return None
