"""The code blocks of the documentation, and what can be said of a command without running it."""

from __future__ import annotations

import argparse
import contextlib
import importlib
import io
import re
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

from cqdino_d2.engine import load_config

ROOT = Path(__file__).resolve().parents[1]
PAGES = [
    *(ROOT / "README.md", ROOT / "CONTRIBUTING.md"),
    *(
        page
        for folder in ("docs", "docs/benchmarks")
        for page in sorted((ROOT / folder).glob("*.md"))
    ),
]
PLACEHOLDERS = {"C", "...", "FILE"}  # stand for a config of the reader's
ANY_CONFIG = "configs/emojidet/quickstart.py"
_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", flags=re.MULTILINE | re.DOTALL)
_QUOTED = re.compile(r"""(?<!\S)#.*|"[^"]*"|'[^']*'""")
_KNOWN = {  # commands of the system and of installed packages
    ".": 1, "bash": 1, "cd": 1, "curl": 1, "docker": 2, "export": 1, "git": 2,
    "mkdir": 1, "mkdocs": 1, "mypy": 0, "nvidia-smi": 0, "pip": 2, "pre-commit": 1, "ruff": 1,
    "serve": 2, "tensorboard": 0, "unzip": 1,
}  # fmt: skip


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, its text and where it stands."""

    page: Path
    number: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.page.name}-{self.number}"

    def file(self) -> str | None:
        """The file that the reader is to write: its path is the first line's comment."""
        found = re.match(r"# ([\w/]+\.(?:py|txt))\b", self.text)
        return found[1] if found else None


def blocks(page: Path, language: str) -> list[Block]:
    """The blocks of one language in a page."""
    found = _FENCE.findall(page.read_text(encoding="utf-8"))
    return [Block(page, i, lang, text) for i, (lang, text) in enumerate(found) if lang == language]


def commands(text: str) -> list[list[str]]:
    """The commands of a bash block as words, without comments and variables set in front."""
    text = _QUOTED.sub(lambda one: one[0].replace("\n", ";"), text)
    lines = text.replace("\\\n", " ").splitlines()
    found = []
    for line in lines:
        words = shlex.split(line, comments=True)
        while words:
            end = words.index("&&") if "&&" in words else len(words)
            command, words = words[:end], words[end + 1 :]
            while command and re.match(r"[A-Z_0-9]+=", command[0]):
                command = command[1:]
            if command:
                found.append(command)
    return found


class Parsed(BaseException):
    """Ends a program right after it has read its command line."""

    def __init__(self, given: argparse.Namespace) -> None:
        super().__init__()
        self.given = given


def parse(script: str, arguments: list[str]) -> argparse.Namespace:
    """Lets a tool of this repository read a command line with its own parser, and ends it there.

    Raises:
        ValueError: the tool refuses the command line; with what it says.
    """
    if not (ROOT / script).is_file():
        raise ValueError(f"there is no {script}")
    module = importlib.import_module(script.removesuffix(".py").replace("/", "."))

    def stop_after(name: str):
        original = getattr(argparse.ArgumentParser, name)

        def read(self, *args, **kwargs):
            with mock.patch.multiple(argparse.ArgumentParser, **originals):
                raise Parsed(original(self, *args, **kwargs))

        return read

    names = ("parse_args", "parse_intermixed_args")
    originals = {name: getattr(argparse.ArgumentParser, name) for name in names}
    said = io.StringIO()
    try:
        with (
            mock.patch.multiple(argparse.ArgumentParser, **{n: stop_after(n) for n in names}),
            mock.patch.object(sys, "argv", [script, *arguments]),
            contextlib.redirect_stderr(said),
        ):
            module.main()
    except Parsed as parsed:
        return parsed.given
    except SystemExit as error:
        raise ValueError(f"{script} {shlex.join(arguments)}: {said.getvalue()}") from error
    raise ValueError(f"{script} has read no command line")


def check(command: list[str], written: set[str] = frozenset()) -> None:
    """Raises ValueError if a command cannot be right.

    Tools must exist and accept the command line, named configs must exist, and overrides must
    apply to them.

    Args:
        command: as words.
        written: files that the page tells the reader to write.
    """
    program, *rest = command
    if program == "python" and rest and rest[0] == "setup.py":
        _check_setup(rest[1:])
    elif program == "python" and rest and rest[0] in written:
        pass  # the test that follows the page runs it
    elif program in ("python", "python3") and rest and rest[0].endswith(".py"):
        _check_config(parse(rest[0], rest[1:]), written)
    elif program == "python" and rest[:2] == ["-m", "pytest"]:
        _check_pytest(rest[2:])
    elif program == "python" and rest[:1] == ["-c"]:
        exec(compile(rest[1], "-c", "exec"), {})
    elif program == "bash":
        _check_shell(rest)
    elif program == "pip":
        _check_pip(rest)
    elif program not in _KNOWN or len(rest) < _KNOWN[program]:
        raise ValueError(f"what is {shlex.join(command)}?")


def _check_config(given: argparse.Namespace, written: set[str]) -> None:
    config = getattr(given, "config_file", None) or getattr(given, "config", None)
    for one in config if isinstance(config, list) else [config]:
        if one is None or str(one) in written:
            continue
        name = ANY_CONFIG if str(one) in PLACEHOLDERS else str(one)
        load_config(ROOT / name, getattr(given, "overrides", None) or [])


def _check_setup(arguments: list[str]) -> None:
    from setuptools import Distribution

    known = Distribution()
    for word in arguments:
        if not word.startswith("-"):
            known.get_command_class(word)
        elif word not in ("--inplace",):
            raise ValueError(f"setup.py {shlex.join(arguments)}: {word}?")


def _check_pytest(arguments: list[str]) -> None:
    for word in arguments:
        if "/" in word and not (ROOT / word).exists():
            raise ValueError(f"there is no {word}")


def _check_shell(arguments: list[str]) -> None:
    script = ROOT / arguments[0]
    if not script.is_file():
        raise ValueError(f"there is no {arguments[0]}")
    subprocess.run(["bash", "-n", str(script)], check=True)
    text = script.read_text(encoding="utf-8")
    passed_on = "".join(
        (ROOT / name).read_text(encoding="utf-8")
        for name in re.findall(r"projects_tools/\w+\.py", text)
    )
    for word in arguments[1:]:
        if word.startswith("--") and word not in text + passed_on:
            raise ValueError(f"{arguments[0]} does not know {word}")


def _check_pip(arguments: list[str]) -> None:
    pinned = (ROOT / "projects_tools/install/constraints.txt").read_text(encoding="utf-8")
    extras = (ROOT / "setup.py").read_text(encoding="utf-8")
    if arguments[0] != "install":
        raise ValueError(f"pip {shlex.join(arguments)}?")
    for word in arguments[1:]:
        name = re.match(r"\.?\[?([\w-]+)", word)
        known = name and (f'"{name[1]}"' in extras or f"\n{name[1]}==" in pinned)
        if not word.startswith("-") and word != "." and not known:
            raise ValueError(f"pip install {word}: pinned nowhere")
