"""Imported first by what needs Detectron2: says in one line how to get it where it is missing.

Keeps away what its imports warn of, which nobody here can mend.
"""

import sys
import warnings
from importlib.util import find_spec

from . import needs_torch  # noqa: F401  which Detectron2 needs

if find_spec("detectron2") is None:
    raise ModuleNotFoundError(
        "this part of cqdino_d2 needs Detectron2, which is not installed and not on the package "
        f"index: bash projects_tools/install.sh --venv {sys.prefix} in a checkout brings it "
        "(docs/installing.md)",
        name="detectron2",
    )

with warnings.catch_warnings():
    warnings.filterwarnings("ignore", "`torch.jit.script", FutureWarning)
    import detectron2.modeling  # noqa: F401
