"""The types at the joints: what travels between the stages, and the files, pass mypy."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def mypy(*arguments):
    pytest.importorskip("mypy", reason="mypy is not installed")
    command = [sys.executable, "-m", "mypy", "--cache-dir", "/dev/null", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


def test_the_types_between_the_stages_are_clean():
    done = mypy()
    assert done.returncode == 0, done.stdout + done.stderr
    assert int(done.stdout.split(" source files")[0].split()[-1]) > 20


def test_a_wrong_type_is_found(tmp_path):
    wrong = tmp_path / "wrong.py"
    wrong.write_text("def f(a):\n    return a\n\n\ndef g() -> int:\n    return 'a'\n")
    done = mypy(str(wrong))
    assert done.returncode == 1
    assert "wrong.py:1" in done.stdout and "wrong.py:6" in done.stdout


def test_the_package_says_that_it_is_typed():
    assert (ROOT / "cqdino_d2/py.typed").is_file()
    assert '"py.typed"' in (ROOT / "setup.py").read_text(encoding="utf-8")
