"""What may import what: the one-way data flow of the package, kept by this test.

Every folder of the package is a stage. A module may import its own folder, the folders listed for
it, and from outside only what is listed for it. Only configs wire stages together.
"""

import ast
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = "cqdino_d2"

ALLOWED_FOLDERS = {
    "structures": set(),
    "ops": set(),
    "checkpoint": {"structures"},
    "layers": {"ops", "structures"},
    "data": {"structures"},
    "backbone": {"layers", "structures"},
    "categories": {"layers", "structures"},
    "transformer": {"layers", "structures"},
    "criterion": {"layers", "structures"},
    "detector": {"layers", "structures"},
    "evaluation": {"structures"},
    "engine": {"data", "structures"},  # the predictor registers the data sets
}
# Only configs may bring two of these together.
WIRED_STAGES = {"backbone", "categories", "transformer", "criterion", "detector"}
# Folders that may import from outside only these (and the standard library).
ALLOWED_OUTSIDE = dict.fromkeys(
    ("structures", "ops", "checkpoint"), {"torch", "numpy", "detectron2"}
)


def imported_modules(path: Path, root: Path) -> list[tuple[int, str]]:
    """Line and absolute dotted name of everything a module imports, relative imports resolved."""
    package = path.relative_to(root).with_suffix("").parts[:-1]
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found += [(node.lineno, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = list(package[: len(package) - node.level + 1]) if node.level else []
            base += node.module.split(".") if node.module else []
            found += [(node.lineno, ".".join([*base, alias.name])) for alias in node.names]
    return found


def broken_rule(module: str, folder: str | None) -> str | None:
    """The rule that a module of ``folder`` breaks by importing ``module``, or None."""
    parts = module.split(".")
    if parts[0] == PACKAGE:
        target = parts[1] if len(parts) > 1 else ""
        if folder is None or target not in ALLOWED_FOLDERS or target == folder:
            return None
        if target not in ALLOWED_FOLDERS[folder]:
            return f"{folder} may import only {sorted(ALLOWED_FOLDERS[folder])} of the package"
    elif parts[0] in ("configs", "projects_tools", "tests", "train_net"):
        return "the package may not import configs, tools or tests"
    elif folder in ALLOWED_OUTSIDE and parts[0] not in sys.stdlib_module_names:
        if parts[0] not in ALLOWED_OUTSIDE[folder]:
            return f"{folder} may import only {sorted(ALLOWED_OUTSIDE[folder])} from outside"
    return None


def find_violations(root: Path) -> list[str]:
    violations = []
    for path in sorted((root / PACKAGE).rglob("*.py")):
        parts = path.relative_to(root / PACKAGE).parts
        folder = parts[0] if len(parts) > 1 else None
        where = path.relative_to(root)
        if folder is not None and folder not in ALLOWED_FOLDERS:
            violations.append(f"{where}: the folder {folder} is no stage of the layout")
            continue
        for line, module in imported_modules(path, root):
            rule = broken_rule(module, folder)
            if rule is not None:
                violations.append(f"{where}:{line}: imports {module}, but {rule}")
    return violations


def find_wiring(root: Path) -> list[str]:
    """Modules other than configs that import several of the stages that configs wire."""
    files = [*(root / PACKAGE).glob("*.py"), *(root / "projects_tools").rglob("*.py")]
    files += [path for path in [root / "train_net.py"] if path.is_file()]
    violations = []
    for path in sorted(files):
        modules = [module.split(".") for _, module in imported_modules(path, root)]
        stages = {parts[1] for parts in modules if parts[0] == PACKAGE and len(parts) > 1}
        if len(stages & WIRED_STAGES) > 1:
            stages = sorted(stages & WIRED_STAGES)
            violations.append(f"{path.relative_to(root)}: wires {stages}, which is for configs")
    return violations


def test_the_package_keeps_the_rules():
    assert (ROOT / PACKAGE).is_dir()
    assert find_violations(ROOT) == []


def test_only_configs_wire_stages():
    assert find_wiring(ROOT) == []


@pytest.mark.parametrize("path", ["train_net.py", "projects_tools/x.py", "cqdino_d2/__init__.py"])
def test_wiring_is_found(tmp_path, path):
    module = tmp_path / path
    module.parent.mkdir(parents=True, exist_ok=True)
    module.write_text("from cqdino_d2.detector import CQDINO\nimport cqdino_d2.data\n")
    assert find_wiring(tmp_path) == []
    module.write_text("from cqdino_d2.detector import CQDINO\nimport cqdino_d2.backbone.swin\n")
    assert len(find_wiring(tmp_path)) == 1


@pytest.mark.parametrize(
    ("path", "statement", "allowed"),
    [
        ("transformer/decoder.py", "from cqdino_d2.layers.mlp import MLP", True),
        ("transformer/decoder.py", "from ..layers import MLP", True),
        ("transformer/decoder.py", "from .heads import Head", True),
        ("transformer/decoder.py", "from ..categories import Selection", False),
        ("transformer/decoder.py", "from .. import categories", False),
        ("transformer/decoder.py", "import cqdino_d2.criterion.matcher", False),
        ("transformer/deep/er.py", "from ...criterion import matcher", False),
        ("transformer/decoder.py", "def f():\n    from cqdino_d2.data import x", False),
        ("detector/meta_arch.py", "from cqdino_d2.transformer import Decoder", False),
        ("layers/boxes.py", "from cqdino_d2.structures import tokens", True),
        ("structures/tokens.py", "from cqdino_d2.layers import boxes", False),
        ("structures/tokens.py", "import math\nimport torch\nfrom detectron2 import layers", True),
        ("structures/tokens.py", "import timm", False),
        ("ops/attention.py", "from scipy import ndimage", False),
        ("backbone/swin.py", "import timm", True),
        ("engine/trainer.py", "import configs.common.train", False),
        ("__init__.py", "from cqdino_d2.detector import CQDINO", True),
        ("utils/misc.py", "import math", False),
    ],
)
def test_violations_are_found(tmp_path, path, statement, allowed):
    module = tmp_path / PACKAGE / path
    module.parent.mkdir(parents=True)
    module.write_text(statement + "\n")
    assert (find_violations(tmp_path) == []) is allowed
