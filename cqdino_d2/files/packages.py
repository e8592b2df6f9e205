"""Files that come with other Python packages."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path


def package_folder(module: str, purpose: str, packages: Sequence[str]) -> Path:
    """The folder of an installed package, which is not imported.

    Args:
        module: its import name.
        purpose: what its files are needed for, for the message.
        packages: what to install, by the names on the package index.

    Raises:
        ModuleNotFoundError: it is not installed.
    """
    spec = importlib.util.find_spec(module)
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(
            f"{purpose} needs the Python package {module!r}; install it with: pip install "
            f"{' '.join(packages)}"
        )
    return Path(spec.origin).parent
