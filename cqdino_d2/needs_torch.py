"""Imported first by what needs PyTorch: says in one line how to get it where it is missing."""

from importlib.util import find_spec

if find_spec("torch") is None:
    raise ModuleNotFoundError(
        "this part of cqdino_d2 needs PyTorch, which is not installed: pip install '.[detector]' "
        "in a checkout brings it, projects_tools/install.sh Detectron2 as well "
        "(docs/installing.md)",
        name="torch",
    )
