"""The notebooks run from a fresh clone, on small data, and carry no outputs."""

import json
import os
import subprocess
import sys

import pytest
from PIL import Image

from tests import doc_commands as docs
from tests.test_docs import OWN_DATA, SMALLER, checkout, save_random  # noqa: F401  a fixture

FOLDER = docs.ROOT / "docs/notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))


def cells_of(notebook, kind):
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    return [cell for cell in cells if cell["cell_type"] == kind]


def script_of(notebook, parameters):
    """The code of a notebook, with other values for what its cell of parameters sets."""
    parts = []
    for cell in cells_of(notebook, "code"):
        code = "".join(cell["source"])
        parts.append(code)
        if "parameters" in cell["metadata"].get("tags", ()):
            assert all(f"{name} = " in code for name in parameters), f"{notebook.name}: {code}"
            parts += [f"{name} = {value!r}" for name, value in parameters.items()]
    return "\n\n".join(parts)


def run(notebook, root, **parameters):
    """Runs a notebook where Jupyter would, in its folder; returns what it prints."""
    folder = root / "docs/notebooks"
    folder.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script_of(FOLDER / notebook, parameters)],
        cwd=folder,
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": f"{root}{os.pathsep}{docs.ROOT}"},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


def test_all_notebooks_are_run_here():
    tested = (docs.ROOT / "tests/test_notebooks.py").read_text(encoding="utf-8")
    assert len(NOTEBOOKS) == 4
    assert [path.name for path in NOTEBOOKS if f'run("{path.name}"' not in tested] == []


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_in_order(notebook):
    content = json.loads(notebook.read_text(encoding="utf-8"))
    assert (content["nbformat"], content["nbformat_minor"]) == (4, 5)
    assert len({cell["id"] for cell in content["cells"]}) == len(content["cells"])
    title, empty, first, *_ = "".join(content["cells"][0]["source"]).splitlines()
    assert title.startswith("# ") and not empty and first.startswith("For those ")
    for cell in cells_of(notebook, "code"):
        assert cell["outputs"] == [] and cell["execution_count"] is None
        compile("".join(cell["source"]), notebook.name, "exec")  # plain Python: no magics


def test_the_configs_are_those_of_the_page():
    written = "".join(
        "".join(cell["source"])
        for name in ("own_data.ipynb", "text_prompts.ipynb")
        for cell in cells_of(FOLDER / name, "code")
    )
    assert all(block.text in written for block in docs.blocks(OWN_DATA, "python"))


def test_a_report_names_the_faults_that_were_built_in(tmp_path):
    told = run("reading_a_report.ipynb", tmp_path, IMAGES=40)
    page = tmp_path / "docs/notebooks/output/notebook_report/report/index.html"
    assert page.is_file() and str(page) in told
    rows = [line.split() for line in told.splitlines() if "AP50 +" in line]
    made = [kind for kind, count, *_ in rows if count != "0"]
    assert made[-1] == "background"
    assert set(made[:-1]) == {"localisation", "confusion_other", "missed"}


@pytest.mark.slow
def test_first_detection(checkout):  # noqa: F811
    quickstart = checkout / "output/smoke"
    save_random(quickstart / "training/model_inference.pth", "configs/emojidet/quickstart.py")
    images = quickstart / "datasets/emojidet/images/val"
    images.mkdir(parents=True)
    Image.new("RGB", (128, 112), "navy").save(images / "1.png")
    told = run("first_detection.ipynb", checkout).splitlines()
    assert told[0].startswith("7 categories: category 0, ")
    assert len([line for line in told[1:-1] if " category " in line]) == 3
    assert "category" in told[-1]


@pytest.mark.slow
def test_own_data_then_text_prompts(checkout):  # noqa: F811
    small = [
        one for one in SMALLER["train_net.py"] if "max_iter" not in one and "warmup" not in one
    ]
    told = run("own_data.ipynb", checkout, IMAGES=6, STEPS=2, OVERRIDES=small)
    assert "0 problems" in told and "'AP50'" in told and "'square'" in told
    told = run("text_prompts.ipynb", checkout, STEPS=2, OVERRIDES=small)
    assert "('square', " in told or "('disc', " in told
    assert "bar" not in told.splitlines()[-1]
