"""Where the recipes of this project are: next to the package in a checkout, in it in a wheel."""

from __future__ import annotations

from pathlib import Path

_PACKAGE = Path(__file__).parents[2]


def find_config(config_file: str | Path) -> Path:
    """The file of a config: the path itself, or else that of a recipe.

    ``configs/v3det/cqdino_tree_swinl.py`` is found from any folder, with a wheel, too. Nothing is
    run here, but a config can run any code when it is loaded, a ``config.yaml`` as well.

    Raises:
        FileNotFoundError: no such config.
    """
    path = Path(config_file)
    if path.is_file():
        return path
    if path.parts[:1] == ("configs",) and ".." not in path.parts:
        for root in (_PACKAGE, _PACKAGE.parent):
            if (root / path).is_file():
                return root / path
    raise FileNotFoundError(f"there is no config file {config_file}")
