"""Scoring without torch and Detectron2, on systems that are no Linux; and what is said of the rest.

Windows and macOS are not at hand: what they lack is taken away from a process on Linux.
"""

import json
import sys
from pathlib import Path

import pytest
from benchmarks import make_synthetic_results

from cqdino_d2.evaluation import score
from cqdino_d2.evaluation.scoring import PROTOCOLS
from tests.runs import run_python

ROOT = Path(__file__).resolve().parents[1]
LIGHT = ("files", "structures", "annotations", "evaluation")
NEED_TORCH = {
    *("files.images", "files.tensor_file", "files.weights_file"),
    *("structures.captions", "structures.class_slots", "structures.detected"),
    *("structures.gathering",),
    *("structures.prompt_tokens", "structures.queries", "structures.requests"),
    *("structures.stages", "structures.tokens"),
    *("evaluation.column_evaluator", "evaluation.evaluators", "evaluation.sets_evaluator"),
    *("evaluation.tagging", "evaluation.texts.evaluator"),
}
TORCH_DOORS = ("ops", "layers", "text", "transformer", "categories", "criterion")
DETECTRON2_DOORS = (
    *(
        "backbone",
        "checkpoint",
        "compatibility",
        "conversion:convert_released_file",
        "data",
        "detector",
        "engine",
    ),
    *("export", "jobs", "prediction", "serving"),
)


def run(code, *arguments, **variables):
    return json.loads(run_python(code, *arguments, **variables))


# What Windows' Python lacks, after the other packages had theirs; a cached module is gone, too.
ELSEWHERE = """
import json, os, signal, sys
import msgspec, numpy, psutil, tqdm
import concurrent.futures.thread, multiprocessing, subprocess, tempfile
posix = ["fcntl", "resource", "pwd", "grp", "termios", "tty", "pty", "syslog", "posix"]
sys.modules |= dict.fromkeys(["torch", "torchvision", "detectron2", "scipy", "PIL", *posix])
for name in ("sched_getaffinity", "fork", "forkpty", "getuid", "geteuid", "getgid", "getpgid",
             "killpg", "setsid", "uname", "nice", "mkfifo", "getloadavg", "statvfs", "pread",
             "posix_fadvise", "posix_fallocate", "O_DIRECTORY", "O_NOFOLLOW", "chown", "fchmod"):
    delattr(os, name)
for name in ("SIGKILL", "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGALRM", "alarm", "setitimer", "pause"):
    delattr(signal, name)
"""


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return make_synthetic_results.make_set(tmp_path_factory.mktemp("set"), "small", seed=1)


def test_the_modules_for_scoring_are_imported_anywhere():
    names = [
        ".".join(path.relative_to(ROOT / "cqdino_d2").with_suffix("").parts)
        for folder in LIGHT
        for path in sorted((ROOT / "cqdino_d2" / folder).rglob("*.py"))
        if path.stem != "__init__"
    ]
    code = (
        ELSEWHERE
        + """
from importlib import import_module
failed = []
for name in sys.argv[1:]:
    try:
        import_module(f"cqdino_d2.{name}")
    except ModuleNotFoundError:
        failed.append(name)
print(json.dumps(failed))
"""
    )
    assert len(names) > 50
    assert set(run(code, *names, "extension", "reports.command")) == NEED_TORCH


@pytest.mark.parametrize("disabled", ["0", "1"], ids=["as built", "pure Python"])
def test_a_file_is_scored_alike_anywhere(files, tmp_path, disabled):
    code = (
        ELSEWHERE
        + """
from cqdino_d2.evaluation import choose_backend, score
from cqdino_d2.evaluation.scoring import PROTOCOLS
from cqdino_d2.annotations import load_annotations
folder = sys.argv[1]
found = {"backend": choose_backend(), "images": len(load_annotations(f"{folder}/annotations.json"))}
for name in PROTOCOLS:
    found[name] = score(f"{folder}/annotations.json", f"{folder}/results.json", protocol=name,
                        category_tree=f"{folder}/category_tree.json", errors=True).metrics
print(json.dumps(found))
"""
    )
    variables = {"CQDINO_DISABLE_EXTENSION": disabled, "CQDINO_D2_CACHE": str(tmp_path)}
    found = run(code, files, **variables)
    if disabled == "1":
        assert found["backend"] == "reference"
    assert found["images"] == len(json.loads((files / "annotations.json").read_text())["images"])
    assert len(list(tmp_path.iterdir())) == 1  # the columns are kept without locks, too
    for name in PROTOCOLS:
        tree = files / "category_tree.json"
        paths = files / "annotations.json", files / "results.json"
        expected = score(*paths, protocol=name, category_tree=tree, errors=True).metrics
        assert found[name] == expected and expected["AP"] > 0


def test_a_page_without_images_needs_no_torch(files, tmp_path):
    pytest.importorskip("jinja2")
    code = """
import json, sys
sys.modules |= dict.fromkeys(["torch", "torchvision", "detectron2", "cv2", "scipy", "pycocotools"])
from cqdino_d2.reports import write_report
folder, output = sys.argv[1:]
page = write_report(f"{folder}/annotations.json", f"{folder}/results.json", output).page
print(json.dumps(str(page)))
"""
    assert Path(run(code, files, tmp_path)).read_text(encoding="utf-8").count("<h2>") >= 3


SAID = """
import json, sys
sys.modules[sys.argv[1]] = None
from importlib import import_module
said = []
for name in sys.argv[2:]:
    folder, _, attribute = name.partition(":")
    try:
        module = import_module(f"cqdino_d2.{folder}")
        if attribute:
            getattr(module, attribute)
        said.append("nothing")
    except ModuleNotFoundError as error:
        said.append(str(error))
print(json.dumps([sorted(set(said)), "torch" in sys.modules and bool(sys.modules["torch"])]))
"""


@pytest.mark.parametrize(
    ("missing", "doors", "expected"),
    [
        (
            "torch",
            [*TORCH_DOORS, *DETECTRON2_DOORS, "evaluation:COCOEvaluator", "files:read_image"]
            + ["files:read_tensor_file", "structures:ClassSlots", "evaluation.texts:TextEvaluator"],
            "needs PyTorch, which is not installed: pip install '.[detector]' in a checkout",
        ),
        (
            "detectron2",
            [*DETECTRON2_DOORS, "evaluation:COCOEvaluator", "files:read_image"]
            + ["evaluation.texts:TextEvaluator"],
            f"bash projects_tools/install.sh --venv {sys.prefix} in a checkout brings it",
        ),
    ],
)
def test_what_is_missing_is_told_in_one_line(missing, doors, expected):
    said, torch_was_loaded = run(SAID, missing, *doors)
    assert len(said) == 1 and expected in said[0] and "\n" not in said[0]
    assert not torch_was_loaded  # it is said at once
