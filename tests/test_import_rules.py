"""What may import what: the one-way data flow of the package, kept by this test.

Every folder of the package is a stage. A module may import its own folder, the folders listed for
it, and from outside only what is listed for it. Only configs wire stages together.
"""

import ast
import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = "cqdino_d2"

ALLOWED_FOLDERS = {
    "files": set(),
    "structures": {"files"},
    "ops": set(),
    "checkpoint": {"files", "structures"},
    "layers": {"ops", "structures"},
    "annotations": {"files", "structures"},
    "text": {"files", "structures"},
    "data": {"annotations", "files", "structures"},
    "backbone": {"files", "layers", "structures"},
    "categories": {"layers", "structures"},
    "transformer": {"layers", "structures"},
    "criterion": {"layers", "structures"},
    "detector": {"checkpoint", "layers", "structures"},
    "evaluation": {"annotations", "files", "structures"},
    "engine": {"checkpoint", "files", "layers", "structures"},
    "conversion": {
        *("annotations", "categories", "checkpoint", "data", "engine", "files", "structures")
    },
    "prediction": {"data", "detector", "engine", "files", "structures", "text"},
    "visualization": {"annotations", "files", "structures"},
    "reports": {"annotations", "evaluation", "files", "structures", "visualization"},
    "export": {"detector", "files", "ops", "prediction", "structures", "text"},
    "jobs": {"files", "prediction", "structures"},
    "serving": {"files", "prediction", "structures", "visualization"},
    "compatibility": {
        *("data", "files", "layers", "prediction", "structures", "text", "visualization")
    },
}
# Only configs may bring two of these together.
WIRED_STAGES = {"backbone", "categories", "transformer", "criterion", "detector"}
# What a folder may import from outside the standard library.
_MODEL = {"torch", "numpy", "detectron2"}
ALLOWED_OUTSIDE = {
    "files": _MODEL | {"PIL", "safetensors"},
    "structures": {"torch", "numpy"},
    "ops": {"torch"},
    "checkpoint": _MODEL,
    "layers": {"torch"},
    "annotations": {"numpy", "msgspec"},
    "text": {"torch", "numpy", "open_clip", "safetensors", "tqdm", "transformers"},
    "data": _MODEL | {"PIL", "omegaconf", "tqdm"},
    "backbone": _MODEL | {"open_clip", "timm", "torchvision"},
    "categories": _MODEL,
    "transformer": {"torch", "torchvision"},
    "criterion": _MODEL | {"scipy"},
    "detector": _MODEL | {"omegaconf"},
    "evaluation": {"numpy", "detectron2", "psutil", "pyarrow", "tqdm"},
    "engine": _MODEL | {"fvcore", "hydra", "omegaconf", "yaml"},
    "conversion": _MODEL | {"omegaconf"},
    "prediction": _MODEL | {"omegaconf", "yaml"},
    "visualization": _MODEL | {"PIL", "cv2", "matplotlib", "torchvision", "tqdm"},
    "reports": {"numpy", "PIL", "jinja2", "markupsafe", "matplotlib", "tqdm"},
    "export": _MODEL | {"onnx", "onnxruntime", "onnxscript", "openvino"},
    "jobs": {"numpy", "detectron2", "pyarrow", "ray"},
    "serving": {
        *("numpy", "PIL", "gradio", "fastapi", "starlette", "uvicorn"),
        *("prometheus_client", "pydantic", "pydantic_core"),
    },
    "compatibility": _MODEL,
}
MOST_FILES = 20  # of a folder


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
        if folder is None and target in ALLOWED_FOLDERS:
            return "importing the package must do nothing"
        if target not in ALLOWED_FOLDERS or target == folder:
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


def test_every_folder_has_its_rules_and_no_folder_is_a_heap():
    folders = {path.name for path in (ROOT / PACKAGE).iterdir() if any(path.glob("*.py"))}
    assert folders == ALLOWED_FOLDERS.keys() == ALLOWED_OUTSIDE.keys()
    for folder in (ROOT / PACKAGE, ROOT / "projects_tools"):
        for inner in [folder, *(path for path in folder.rglob("*") if path.is_dir())]:
            modules = [path for path in inner.glob("*.py") if path.name != "__init__.py"]
            assert len(modules) <= MOST_FILES, f"{inner} holds {len(modules)} modules"


def test_no_folder_is_imported_in_a_circle():
    left = {folder: set(allowed) for folder, allowed in ALLOWED_FOLDERS.items()}
    while free := {folder for folder, allowed in left.items() if not allowed & left.keys()}:
        left = {folder: allowed for folder, allowed in left.items() if folder not in free}
    assert left == {}


def test_nothing_tampers_with_the_search_path_or_the_loaded_modules():
    files = [ROOT / "train_net.py", ROOT / "setup.py"]
    for folder in (PACKAGE, "configs", "projects_tools"):
        files += (ROOT / folder).rglob("*.py")
    tampering = re.compile(r"sys\.path\.(insert|append|extend)|sys\.modules\[[^]]*\] *=")
    assert [str(path) for path in files if tampering.search(path.read_text("utf-8"))] == []


def test_model_code_does_without_the_forms_for_cpus():
    room = f"{PACKAGE}.layers.cpu"
    guests = {
        str(path.relative_to(ROOT / PACKAGE))
        for path in (ROOT / PACKAGE).rglob("*.py")
        if "cpu" not in path.parent.name
        and any(module.startswith(room) for _, module in imported_modules(path, ROOT))
    }
    assert guests == {str(Path("layers", "__init__.py"))}


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
        ("structures/tokens.py", "import math\nimport torch\nfrom numpy import linalg", True),
        ("structures/tokens.py", "import timm", False),
        ("ops/attention.py", "from scipy import ndimage", False),
        ("backbone/swin.py", "import timm", True),
        ("engine/trainer.py", "import configs.common.train", False),
        ("__init__.py", "from cqdino_d2.detector import CQDINO", False),
        ("visualization/plots.py", "import matplotlib.pyplot as plt", True),
        ("serving/api.py", "import fastapi", True),
        ("evaluation/plots.py", "import matplotlib.pyplot as plt", False),
        ("detector/page.py", "import gradio", False),
        ("engine/api.py", "import fastapi", False),
        ("serving/page.py", "from projects_tools.demo import restricted", False),
        ("files/deep.py", "from ..structures import Vocabulary", False),
        ("utils/misc.py", "import math", False),
    ],
)
def test_violations_are_found(tmp_path, path, statement, allowed):
    module = tmp_path / PACKAGE / path
    module.parent.mkdir(parents=True)
    module.write_text(statement + "\n")
    assert (find_violations(tmp_path) == []) is allowed
