"""What install.sh refuses, before it installs anything."""

import os
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
INSTALL = ROOT / "projects_tools" / "install.sh"


def run_install(*arguments, **variables):
    environment = {**os.environ, "CQDINO_VENV": "/nonexistent/never-made", **variables}
    command = ["bash", str(INSTALL), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False)


def fake_python(path, exit_status):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\nexit {exit_status}\n")
    path.chmod(0o755)
    return path


def test_help_names_the_options():
    done = run_install("--help")
    assert done.returncode == 0
    assert "--venv DIR" in done.stdout
    assert "--wheel-dir DIR" in done.stdout


@pytest.mark.parametrize("arguments", [("--nonsense",), ("--venv",), ("--venv", "")])
def test_bad_arguments_point_to_the_help(arguments):
    done = run_install(*arguments)
    assert done.returncode == 1
    assert "--help" in done.stderr


def test_unsuitable_python_is_refused(tmp_path):
    old = fake_python(tmp_path / "python-of-old", exit_status=1)
    done = run_install("--venv", tmp_path / "venv", PYTHON=str(old))
    assert done.returncode == 1
    assert "Python 3.10, 3.11 or 3.12 is needed" in done.stderr
    assert str(old) in done.stderr


@pytest.mark.parametrize("broken_python", [False, True])
def test_a_folder_with_something_else_is_left_alone(tmp_path, broken_python):
    (tmp_path / "thesis.txt").write_text("precious")
    if broken_python:
        fake_python(tmp_path / "bin" / "python", exit_status=1)
    before = sorted(path.name for path in tmp_path.rglob("*"))
    done = run_install("--venv", tmp_path)
    assert done.returncode == 1
    assert "neither empty nor a working Python environment" in done.stderr
    assert sorted(path.name for path in tmp_path.rglob("*")) == before


def test_every_installed_package_is_pinned_once_per_python():
    lines = (ROOT / "projects_tools/install/constraints.txt").read_text().splitlines()
    pins = [line for line in lines if line and not line.startswith("#")]
    assert all(re.fullmatch(r'[a-z0-9-]+==\S+(; python_version (<|>=) "3\.11")?', p) for p in pins)
    assert len({p.partition("==")[0] + p.partition(";")[2] for p in pins}) == len(pins)
    names = {pin.partition("==")[0] for pin in pins}
    lists = re.findall(r"^\w*packages=\(([^)]*)\)", INSTALL.read_text(), flags=re.MULTILINE)
    wanted = {name.lower().replace("_", "-") for group in lists for name in group.split()}
    assert len(wanted) > 25
    assert wanted <= names
