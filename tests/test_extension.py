"""Loading the compiled extension: what is wrong is named, and nothing wrong is loaded."""

import os
import shutil
import subprocess
import sys
from importlib.machinery import EXTENSION_SUFFIXES

import pytest
import torch

from cqdino_d2 import extension
from tests.runs import ROOT, run_python


@pytest.fixture(params=[True, False], ids=["for torch", "without torch"])
def binary(request, tmp_path):
    (tmp_path / "csrc").mkdir()
    (tmp_path / "csrc" / "part.cpp").write_text("int one;")
    return extension.Binary("_some", ("csrc",), for_torch=request.param, package=tmp_path)


def test_what_was_not_built_is_named(binary):
    assert "it was not built; build it with" in binary.problem()


def test_a_binary_for_another_python_is_named(binary):
    (binary.package / "_some.cpython-27-somewhere.so").write_bytes(b"")
    assert "only _some.cpython-27-somewhere.so for another Python" in binary.problem()


def test_a_binary_of_other_sources_is_not_loaded(binary):
    tag = binary.build_tag().encode()
    (binary.package / f"_some{EXTENSION_SUFFIXES[0]}").write_bytes(b"..." + tag + b"...")
    assert "cannot be loaded" in binary.problem()  # not stale: it is loaded, and there is none
    (binary.package / "csrc" / "part.cpp").write_text("int two;")
    assert "is stale" in binary.problem()


def test_the_tag_follows_names_and_contents(binary):
    source = binary.package / "csrc" / "part.cpp"
    tags = [binary.build_tag()]
    source.write_text("int two;")
    tags.append(binary.build_tag())
    source.rename(source.with_suffix(".h"))
    tags.append(binary.build_tag())
    shutil.copy(source.with_suffix(".h"), binary.package / "elsewhere.h")  # no source of its
    assert binary.build_tag() == tags[-1]
    assert len(set(tags)) == 3


def test_only_a_binary_for_torch_names_it(binary):
    assert (f"for torch {torch.__version__}," in binary.build_tag()) == binary.for_torch


def test_the_sources_of_both_are_found():
    for binary in (extension.OPERATORS, extension.EVALUATION):
        names = {path.name for path in binary.source_files()}
        assert "module.cpp" in names
        assert len(names) >= 4


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"FORCE_CUDA": "1", "CUDA_HOME": "/nowhere"}, "FORCE_CUDA is set, but no CUDA toolkit"),
        ({"CUDA_HOME": "/nowhere"}, "built without its CUDA part: no CUDA toolkit was found"),
        ({"FORCE_CUDA": "0"}, ""),
    ],
)
def test_the_setup_says_whether_cuda_is_built(variables, message):
    environment = {k: v for k, v in os.environ.items() if k not in ("FORCE_CUDA", "CUDA_HOME")}
    done = subprocess.run(
        [sys.executable, "setup.py", "--name"],
        cwd=ROOT,
        env=environment | variables,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert message in done.stderr
    assert ("built without its CUDA part" in done.stderr) == message.startswith("built without")
    assert done.returncode == (1 if variables.get("FORCE_CUDA") == "1" else 0)


def test_it_can_be_turned_off():
    code = (
        "from cqdino_d2 import extension, ops\nprint(extension.OPERATORS.reason(), ops.backend())"
    )
    told = run_python(code, CQDINO_DISABLE_EXTENSION="1")
    assert told == "turned off by CQDINO_DISABLE_EXTENSION reference"


def test_what_is_there_is_in_use():
    """A binary that is stale would be replaced by the reference everywhere, tests included."""
    for binary in (extension.OPERATORS, extension.EVALUATION):
        assert binary.reason() is None or "it was not built" in binary.reason()
