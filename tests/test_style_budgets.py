"""Rule 8 of the house style: files of at most 350 lines, functions of at most 60."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
MAX_FILE_LINES = 350
MAX_FUNCTION_LINES = 60


def checked_files(root: Path) -> list[Path]:
    files = [path for name in ("setup.py", "train_net.py") if (path := root / name).is_file()]
    for folder in ("cqdino_d2", "configs", "projects_tools"):
        files += sorted((root / folder).rglob("*.py"))
        files += sorted((root / folder).rglob("*.sh"))
    return files


def find_overruns(path: Path) -> list[str]:
    text = path.read_text(encoding="utf-8")
    overruns = []
    lines = len(text.splitlines())
    if lines > MAX_FILE_LINES:
        overruns.append(f"{path}: {lines} lines, at most {MAX_FILE_LINES}")
    if path.suffix != ".py":
        return overruns
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = node.end_lineno - node.lineno + 1
            if lines > MAX_FUNCTION_LINES:
                where = f"{path}:{node.lineno} {node.name}"
                overruns.append(f"{where}: {lines} lines, at most {MAX_FUNCTION_LINES}")
    return overruns


def test_files_and_functions_keep_their_budgets():
    files = checked_files(ROOT)
    assert files
    assert [overrun for path in files for overrun in find_overruns(path)] == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("x = 1\n" * 350, 0),
        ("x = 1\n" * 351, 1),
        ("def f():\n" + "    x = 1\n" * 59, 0),
        ("class A:\n    async def f():\n" + "        x = 1\n" * 60, 1),
    ],
)
def test_overruns_are_found(tmp_path, text, expected):
    path = tmp_path / "module.py"
    path.write_text(text)
    assert len(find_overruns(path)) == expected
