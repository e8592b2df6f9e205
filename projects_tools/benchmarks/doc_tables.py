"""The tables of docs/benchmarks/: JSON files beside the pages, written between markers.

A page's table stands between ``<!-- table: KEY -->`` and ``<!-- end -->``; KEY is looked up in the
JSON file of the page's name.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from cqdino_d2.files.atomic_file import write_text

DOCS = Path(__file__).resolve().parents[2] / "docs/benchmarks"
_PLACE = re.compile(r"(<!-- table: (.+?) -->\n)(.*?)(<!-- end -->)", flags=re.DOTALL)
_RULE = re.compile(r"\|(:?-+:?\|)+")


def read_tables(text: str) -> list[dict[str, Any]]:
    """Finds the Markdown tables of a text, as lists of cells: ``head`` and ``rows``."""
    lines, tables, at = text.splitlines(), [], 0
    while at + 1 < len(lines):
        if not (lines[at].startswith("|") and _RULE.fullmatch(lines[at + 1].strip())):
            at += 1
            continue
        end = at + 2
        while end < len(lines) and lines[end].startswith("|"):
            end += 1
        tables.append({"head": _cells(lines[at]), "rows": [_cells(x) for x in lines[at + 2 : end]]})
        at = end
    return tables


def _cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip().removeprefix("|").removesuffix("|").split("|")]


def markdown(table: dict[str, Any]) -> str:
    """A table as Markdown, with a line about the run where it is not one entered by hand."""
    rows = [table["head"], ["---"] * len(table["head"]), *table["rows"]]
    lines = ["|" + "|".join(r) + "|" if r[0] == "---" else f"| {' | '.join(r)} |" for r in rows]
    lines = [re.sub(r"(?<=\|)  (?=\|)", " ", line) for line in lines]
    if not table["recorded"]:
        quiet = "" if table["quiet"] else "; other work ran on the machine"
        lines += ["", f"{table['processor']}, {table['date']}, {table['commit']}{quiet}."]
    return "\n".join(lines) + "\n"


def write_page(page: Path, areas: Path) -> str:
    """Puts the tables of ``areas``/NAME.json into a page; returns its new text, writes nothing.

    Raises:
        ValueError: the page has a place for a table that the JSON file lacks.
    """
    file = areas / f"{page.stem}.json"
    tables = json.loads(file.read_text(encoding="utf-8"))["tables"] if file.is_file() else {}

    def put(place: re.Match[str]) -> str:
        if place[2] not in tables:
            raise ValueError(
                f"{page.name}: {file} has no table {place[2]!r}, only {sorted(tables)}"
            )
        return place[1] + markdown(tables[place[2]]) + place[4]

    return _PLACE.sub(put, page.read_text(encoding="utf-8"))


def write_docs(areas: Path = DOCS, docs: Path = DOCS) -> list[str]:
    """Writes the tables of all pages; returns the keys that have no place in any page."""
    left = []
    for page in sorted(docs.glob("*.md")):
        text = write_page(page, areas)
        write_text(page, text)
        places = {place[2] for place in _PLACE.finditer(text)}
        file = areas / f"{page.stem}.json"
        tables = json.loads(file.read_text(encoding="utf-8"))["tables"] if file.is_file() else {}
        left += [f"{page.stem}: {key}" for key in tables if key not in places]
    return left
