"""Other Python packages that not every installation has, and files that come with them."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType


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
        raise _missing(module, purpose, packages)
    return Path(spec.origin).parent


def require_package(module: str, purpose: str, packages: Sequence[str]) -> ModuleType:
    """An installed package, imported; see `package_folder`."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise _missing(module, purpose, packages) from error


def _missing(module: str, purpose: str, packages: Sequence[str]) -> ModuleNotFoundError:
    return ModuleNotFoundError(
        f"{purpose} needs the Python package {module!r}; install it with: pip install "
        f"{' '.join(packages)}"
    )
