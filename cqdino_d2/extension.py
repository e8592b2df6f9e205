"""The compiled parts of the package: loads each once, or says once why it cannot be used.

There are two: `OPERATORS` (``cqdino_d2._C``, for torch, in the torch.library namespace
``cqdino_d2``) and `EVALUATION` (``cqdino_d2._evaluation``, over NumPy arrays: scoring a file does
without torch). Without them the package works through its readable references.
"""

from __future__ import annotations

import functools
import hashlib
import importlib
import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent
_REBUILD = "build it with: pip install --no-build-isolation --no-deps --editable CHECKOUT"


@dataclass(frozen=True)
class Binary:
    """One extension module of the package.

    Attributes:
        name: of the module, within the package.
        folders: of its sources, within the package.
        for_torch: whether it fits only the torch that it was compiled with.
        package: where the package lies.
    """

    name: str
    folders: Sequence[str]
    for_torch: bool
    package: Path = _PACKAGE

    def is_available(self) -> bool:
        """Loads the binary if that was not done before; True if it can be used.

        ``CQDINO_DISABLE_EXTENSION=1`` in the environment (read once) turns it off.
        """
        return self.reason() is None

    def reason(self) -> str | None:
        """Why the binary cannot be used, or None if it can."""
        return _load(self)

    def source_files(self) -> list[Path]:
        """Its C++ and CUDA files, headers included, sorted."""
        return sorted(
            path
            for folder in self.folders
            for path in (self.package / folder).rglob("*")
            if path.suffix in {".cpp", ".cu", ".cuh", ".h"}
        )

    def build_tag(self) -> str:
        """What a binary of these sources (and for this torch) carries in it."""
        digest = hashlib.sha256()
        for path in self.source_files():
            digest.update(path.relative_to(self.package).as_posix().encode() + b"\0")
            digest.update(path.read_bytes() + b"\0")
        wanted = ""
        if self.for_torch:
            import torch

            wanted = f" for torch {torch.__version__}"
        return f"cqdino_d2.{self.name}{wanted}, sources {digest.hexdigest()[:32]}"

    def problem(self) -> str | None:
        """Imports the binary; returns what is wrong with it."""
        paths = (self.package / f"{self.name}{suffix}" for suffix in EXTENSION_SUFFIXES)
        path = next((path for path in paths if path.is_file()), None)
        if path is None:
            others = sorted(other.name for other in self.package.glob(f"{self.name}.*so"))
            found = f"only {', '.join(others)} for another Python" if others else "it was not built"
            return f"{found}; {_REBUILD}"
        # Looked up in the file: a binary for another torch must not be loaded at all.
        if self.build_tag().encode() not in path.read_bytes():
            return f"{path.name} is stale (other sources or another torch); {_REBUILD}"
        try:
            importlib.import_module(f"cqdino_d2.{self.name}")
        except ImportError as error:
            return f"{path.name} cannot be loaded ({error}); {_REBUILD}"
        return None


OPERATORS = Binary("_C", ("csrc", "ops/csrc"), for_torch=True)
EVALUATION = Binary("_evaluation", ("evaluation/csrc",), for_torch=False)


@functools.cache
def _load(binary: Binary) -> str | None:
    if os.environ.get("CQDINO_DISABLE_EXTENSION", "") not in ("", "0"):
        return "turned off by CQDINO_DISABLE_EXTENSION"
    problem = binary.problem()
    if problem is not None:
        message = "cqdino_d2 runs without its compiled %s, more slowly: %s"
        logging.getLogger(__name__).warning(message, binary.name, problem)
    return problem
