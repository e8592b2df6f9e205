"""Loading the compiled extension: what is wrong is named, and nothing wrong is loaded."""

import os
import shutil
import subprocess
import sys
from importlib.machinery import EXTENSION_SUFFIXES

import pytest

from cqdino_d2 import extension
from tests.runs import ROOT, run_python


@pytest.fixture
def package(tmp_path):
    (tmp_path / "csrc").mkdir()
    (tmp_path / "csrc" / "part.cpp").write_text("int one;")
    return tmp_path


def test_what_was_not_built_is_named(package):
    assert "it was not built; build it with" in extension._problem(package)


def test_a_binary_for_another_python_is_named(package):
    (package / "_C.cpython-27-somewhere.so").write_bytes(b"")
    assert "only _C.cpython-27-somewhere.so for another Python" in extension._problem(package)


def test_a_binary_of_other_sources_is_not_loaded(package):
    tag = extension.build_tag(package).encode()
    binary = package / f"_C{EXTENSION_SUFFIXES[0]}"
    binary.write_bytes(b"..." + tag + b"...")
    fresh = extension._problem(package)  # whatever comes of it, it is not called stale
    (package / "csrc" / "part.cpp").write_text("int two;")
    assert "is stale" in extension._problem(package)
    assert fresh is None or "is stale" not in fresh


def test_the_tag_follows_names_and_contents(package):
    tags = [extension.build_tag(package)]
    (package / "csrc" / "part.cpp").write_text("int two;")
    tags.append(extension.build_tag(package))
    (package / "csrc" / "part.cpp").rename(package / "csrc" / "part.h")
    tags.append(extension.build_tag(package))
    shutil.copy(package / "csrc" / "part.h", package / "elsewhere.h")  # not in csrc: no source
    assert extension.build_tag(package) == tags[-1]
    assert len(set(tags)) == 3


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
    code = "from cqdino_d2 import extension, ops\nprint(extension.reason(), ops.backend())"
    told = run_python(code, CQDINO_DISABLE_EXTENSION="1")
    assert told == "turned off by CQDINO_DISABLE_EXTENSION reference"
