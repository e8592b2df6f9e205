"""A wheel of a clean checkout does without it: scores, reports, exports and predicts.

In an environment without torch it scores.
"""

import importlib.metadata
import json
import os
import shutil
import site
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import numpy as np
import pytest
from benchmarks import make_synthetic_results
from detectron2.config import LazyConfig
from packaging.requirements import Requirement
from PIL import Image

from tests.prediction.test_category_predictor import save_tiny
from tests.tiny import tiny_config

ROOT = Path(__file__).resolve().parents[1]
SHIPPED = (
    *("cqdino_d2", "configs", "setup.py", "pyproject.toml", "MANIFEST.in", "README.md", "LICENSE"),
)


def build(folder, *arguments, **variables):
    """Builds in a copy of what a checkout has, without compiled parts unless variables ask."""
    checkout = folder / "checkout"
    checkout.mkdir()
    for name in SHIPPED:
        ignore = shutil.ignore_patterns("__pycache__", "*.so")
        path = ROOT / name
        if path.is_dir():
            shutil.copytree(path, checkout / name, ignore=ignore)
        else:
            shutil.copy(path, checkout / name)
    # CI asks for the compiled parts; they are not what is tried here.
    environment = {k: v for k, v in os.environ.items() if k != "CQDINO_REQUIRE_EXTENSION"}
    done = subprocess.run(
        [sys.executable, "setup.py", *arguments],
        cwd=checkout,
        env=environment | {"CQDINO_SKIP_EXTENSION": "1"} | variables,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    (made,) = (checkout / "dist").iterdir()
    made = made.rename(folder / made.name)
    shutil.rmtree(checkout)
    return made


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    pytest.importorskip("wheel", reason="wheel is not installed")
    return build(tmp_path_factory.mktemp("build"), "bdist_wheel")


@pytest.fixture(scope="module")
def unpacked(wheel, tmp_path_factory):
    folder = tmp_path_factory.mktemp("unpacked")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    return folder


def run(unpacked, code, cwd):
    """Runs Python with the wheel and the packages it needs, but no editable install."""
    paths = [str(unpacked), *site.getsitepackages()]  # named so, their .pth files are not read
    done = subprocess.run(
        [sys.executable, "-S", "-W", "ignore", "-c", code],
        cwd=cwd,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def files_of(folder):
    return {
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if path.is_file() and path.suffix not in (".so", ".pyc")
    }


def test_a_wheel_has_all_files_of_the_package_and_the_recipes(unpacked):
    expected = {f"cqdino_d2/{name}" for name in files_of(ROOT / "cqdino_d2")}
    expected |= {f"cqdino_d2/configs/{name}" for name in files_of(ROOT / "configs")}
    found = {name for name in files_of(unpacked) if ".dist-info/" not in name}
    assert found == expected


def test_an_archive_of_the_sources_has_the_recipes(tmp_path):
    import tarfile

    with tarfile.open(build(tmp_path, "sdist")) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    recipes = {f"configs/{name}" for name in files_of(ROOT / "configs")}
    package = {f"cqdino_d2/{name}" for name in files_of(ROOT / "cqdino_d2")}
    assert recipes | package <= names


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    """A set with results, and what a training leaves behind."""
    folder = make_synthetic_results.make_set(tmp_path_factory.mktemp("set"), "small", seed=1)
    for row in json.loads((folder / "annotations.json").read_text())["images"]:
        path = folder / row["file_name"]
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (row["width"], row["height"]), "grey").save(path)
    save_tiny(folder)
    LazyConfig.save(tiny_config(), str(folder / "config.yaml"))
    return folder


def test_the_checkout_is_not_needed_to_import(unpacked, tmp_path):
    told = run(unpacked, "import cqdino_d2; print(cqdino_d2.__file__)", tmp_path)
    assert Path(told.strip()) == unpacked / "cqdino_d2" / "__init__.py"


def test_a_wheel_scores(unpacked, inputs, tmp_path):
    code = f"""
import sys
from cqdino_d2.evaluation import score
files = [{str(inputs)!r} + name for name in ("/annotations.json", "/results.json")]
tree = {str(inputs / "category_tree.json")!r}
print(score(*files, protocol="v3det", category_tree=tree).metrics["AP"])
print(sorted({{"torch", "detectron2"}} & set(sys.modules)))
"""
    ap, loaded = run(unpacked, code, tmp_path).splitlines()
    from cqdino_d2.evaluation import score

    files = inputs / "annotations.json", inputs / "results.json"
    tree = inputs / "category_tree.json"
    expected = score(*files, protocol="v3det", category_tree=tree).metrics["AP"]
    assert float(ap) == pytest.approx(expected) and loaded == "[]"


def install_alone(folder, wheel):
    """An environment with a wheel and what it asks for, linked to where the packages are here."""
    venv.create(folder, with_pip=False, symlinks=True)
    python = folder / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--python", str(python)]
    command = [*pip, "install", "--quiet", "--no-index", "--no-deps", "--no-compile", str(wheel)]
    subprocess.run(command, check=True)
    (packages,) = folder.glob("lib/python3*/site-packages")
    (info,) = packages.glob("cqdino_d2-*.dist-info")
    missing, linked = list(importlib.metadata.Distribution.at(info).requires), set()
    while missing:
        wanted = Requirement(missing.pop())
        asked = wanted.marker is None or wanted.marker.evaluate({"extra": ""})
        if wanted.name in linked or not asked:
            continue
        linked.add(wanted.name)
        found = importlib.metadata.distribution(wanted.name)
        for top in {file.parts[0] for file in found.files} - {".."}:
            (packages / top).symlink_to(found.locate_file(top))
        missing += found.requires or []
    assert subprocess.run([*pip, "check"], stdout=subprocess.DEVNULL).returncode == 0
    return folder / "bin", linked


COMPILED = {"CQDINO_SKIP_EXTENSION": "_C", "CQDINO_REQUIRE_EXTENSION": "1"}
NO_COMPILER = {"CQDINO_SKIP_EXTENSION": "_C"} | dict.fromkeys(["CC", "CXX"], "/no/compiler")


@pytest.mark.parametrize(
    ("variables", "backend"),
    [
        ({"CQDINO_SKIP_EXTENSION": "1"}, "reference"),
        (NO_COMPILER, "reference"),
        pytest.param(COMPILED, "compiled", marks=pytest.mark.slow),
    ],
    ids=["pure", "no compiler", "compiled"],
)
def test_a_wheel_scores_in_an_environment_of_its_own(inputs, tmp_path, variables, backend):
    if backend == "compiled" and not shutil.which("c++"):
        pytest.skip("there is no compiler")
    wheel = build(tmp_path, "bdist_wheel", **variables)
    programs, packages = install_alone(tmp_path / "environment", wheel)
    assert {"numpy", "msgspec"} <= packages and not {"torch", "detectron2"} & packages
    files = inputs / "annotations.json", inputs / "results.json"
    tree = inputs / "category_tree.json"
    command = [programs / "cqdino-evaluate", "--protocol", "v3det", "--category-tree", tree]
    command += ["--annotations", files[0], "--results", files[1], "--output", "metrics.json"]
    alone = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    subprocess.run(command, cwd=tmp_path, env=alone, check=True)
    from cqdino_d2.evaluation import score

    expected = score(*files, protocol="v3det", category_tree=tree).metrics
    assert json.loads((tmp_path / "metrics.json").read_text()) == expected
    code = "from cqdino_d2.evaluation import choose_backend; print(choose_backend())"
    told = subprocess.run(
        [programs / "python", "-c", code], cwd=tmp_path, env=alone, capture_output=True, text=True
    )
    assert told.stdout.split() == [backend]


def test_a_wheel_draws_a_report(unpacked, inputs, tmp_path):
    code = f"""
from cqdino_d2.reports import ReportOptions, write_report
folder = {str(inputs)!r}
options = ReportOptions(images_per_kind=1, worst_categories=1)
files = [folder + name for name in ("/annotations.json", "/results.json")]
print(write_report(*files, "report", images=folder, options=options).page)
"""
    assert run(unpacked, code, tmp_path).split() == ["report/index.html"]
    page = (tmp_path / "report" / "index.html").read_text(encoding="utf-8")
    assert "<style>" in page and "category-search" in page
    assert len(list((tmp_path / "report" / "pictures").glob("*.jpg"))) > 3


PREDICT = """
import numpy as np
from cqdino_d2.prediction import CategoryPredictor, get_predictor_cfg
cfg = get_predictor_cfg({config!r}, weights={weights!r}, device="cpu")
image = np.random.default_rng(0).integers(0, 256, (64, 80, 3), dtype=np.uint8)
print(CategoryPredictor(cfg)(image)["instances"].scores.sum().item())
"""


@pytest.mark.parametrize("config", ["recipe", "yaml"])
def test_a_wheel_predicts(unpacked, inputs, tmp_path, config):
    """With a recipe of the wheel, or with what a training has written beside its weights."""
    recipe = "configs/emojidet/tiny_tree.py"
    config = recipe if config == "recipe" else str(inputs / "config.yaml")
    weights = str(inputs / "model_inference.pth")
    scores = float(run(unpacked, PREDICT.format(config=config, weights=weights), tmp_path))
    from cqdino_d2.prediction import CategoryPredictor, get_predictor_cfg

    image = np.random.default_rng(0).integers(0, 256, (64, 80, 3), dtype=np.uint8)
    predictor = CategoryPredictor(get_predictor_cfg(recipe, weights=weights, device="cpu"))
    assert scores == pytest.approx(predictor(image)["instances"].scores.sum().item(), rel=1e-4)


@pytest.mark.slow
def test_a_wheel_exports(unpacked, inputs, tmp_path):
    code = f"""
from cqdino_d2.export import ExportOptions, export_detector
options = ExportOptions("torch.export", height=96, width=128, static=True)
weights = {str(inputs / "model_inference.pth")!r}
made = export_detector({str(inputs / "config.yaml")!r}, weights, "new/detector.pt2", options)
print(len(made.comparisons))
"""
    assert run(unpacked, code, tmp_path).split()[-1] == "1"
    facts = json.loads((tmp_path / "new" / "detector.pt2.json").read_text())
    assert facts["names"][3] == "category 3" and (tmp_path / "new" / "detector.pt2").is_file()


def test_recipes_are_found_from_anywhere_and_nothing_else(tmp_path, monkeypatch):
    from cqdino_d2.engine.config.recipes import find_config

    monkeypatch.chdir(tmp_path)
    name = "configs/emojidet/tiny_tree.py"
    assert find_config(name) == ROOT / name
    Path("configs/emojidet").mkdir(parents=True)
    Path(name).touch()
    assert find_config(name) == Path(name)  # what lies here comes first
    for missing in ("configs/none.py", "configs/../setup.py", "emojidet/tiny_sa.py", "configs"):
        with pytest.raises(FileNotFoundError, match="there is no config file"):
            find_config(missing)
