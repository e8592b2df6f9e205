"""Commands whose first word names what is run."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from importlib import import_module


def run_named(kind: str, modules: Mapping[str, str], help_text: str) -> int:
    """Hands the rest of the command line to the ``main`` of a module; returns the exit code.

    Args:
        kind: what the names stand for.
        modules: module of each name.
        help_text: printed for --help.
    """
    name = sys.argv[1] if len(sys.argv) > 1 else "--help"
    if name in ("-h", "--help"):
        print(help_text)
        return 0
    if name not in modules:
        print(f"there is no {kind} {name!r}, only {', '.join(modules)}", file=sys.stderr)
        return 2
    sys.argv[:2] = [f"{sys.argv[0]} {name}"]
    return import_module(modules[name]).main() or 0
