"""The stored results of the benchmarks, and the tables that pages show of them.

An area's file, ``docs/benchmarks/AREA.json``, holds tables of text cells, each with the run that it
comes from, and the rows of the summary. A page shows a table between ``<!-- table: AREA/NAME -->``
and ``<!-- end -->``; between ``<!-- table: summary -->`` and its end stand all areas' summaries.
"""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from cqdino_d2.files import write_atomically

ABSENT, LINE = "–", 118
SUMMARY_COLUMNS = ("work", "ours", "peers", "floor", "ratio", "processor", "details")
_MARKED = re.compile(r"(<!-- table: (\S+) -->\n).*?(<!-- end -->)", re.DOTALL)


@dataclass(frozen=True)
class Run:
    """Where figures come from.

    Attributes:
        processor: its name, threads, and what else matters of it.
        date: of the measurement, or of the commit that recorded it.
        commit: that was measured, or that recorded it.
        recorded: whether the figures were entered by hand from an earlier run.
        load: average load at the start, None where it was not noted.
        how: clock, repeats, other work on the machine.
    """

    processor: str
    date: str
    commit: str
    recorded: bool = False
    load: float | None = None
    how: str = ""

    def line(self) -> str:
        """A sentence for people."""
        when = "recorded" if self.recorded else "measured"
        parts = [self.processor, *([self.how] if self.how else [])]
        if self.load is not None:
            parts.append(f"load {self.load:.1f} at the start")
        return f"{'; '.join(parts)}; {when} {self.date}, {self.commit}."


@dataclass(frozen=True)
class Table:
    """Text cells; ``reasons`` says why peers are missing."""

    columns: list[str]
    rows: list[list[str]]
    run: Run
    reasons: dict[str, str] = field(default_factory=dict)

    def markdown(self) -> str:
        """The table, what is missing in it, and where it comes from."""
        missing = [f"{name}: {why}." for name, why in self.reasons.items()]
        origin = textwrap.wrap(" ".join([self.run.line(), *missing]), LINE, break_on_hyphens=False)
        return "\n".join([*markdown_rows(self.columns, self.rows), "", *origin, ""])


@dataclass(frozen=True)
class Headline:
    """A row of the summary; ``table`` names the one whose run it belongs to."""

    work: str
    ours: str
    peers: str
    floor: str
    ratio: str
    table: str


@dataclass(frozen=True)
class Results:
    """What is stored of an area.

    Attributes:
        area, page: their names.
        tables: by name.
        headlines: rows of the summary.
        figures: what the steps of a rerun gave, by step.
        failed: why a step of a rerun gave nothing, by step.
    """

    area: str
    page: str
    tables: dict[str, Table]
    headlines: list[Headline]
    figures: dict[str, Any] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)

    def replaced_by(self, newer: Results) -> Results:
        """These results with the tables of a newer run, and its headlines about them."""
        kept = [one for one in self.headlines if one.table not in newer.tables]
        tables, figures = self.tables | newer.tables, self.figures | newer.figures
        return Results(self.area, newer.page, tables, [*newer.headlines, *kept], figures)

    def save(self, path: Path) -> None:
        """Writes the file whole or not at all."""
        text = json.dumps(asdict(self), indent=1, ensure_ascii=False) + "\n"
        write_atomically(path, lambda file: file.write(text.encode()))


def markdown_rows(columns: Iterable[str], rows: Iterable[Iterable[str]]) -> list[str]:
    """The lines of a table."""
    columns = list(columns)
    head = f"| {' | '.join(columns)} |".replace("|  |", "| |")
    return [head, "|" + "---|" * len(columns), *(f"| {' | '.join(row)} |" for row in rows)]


def read_results(path: Path) -> Results:
    """An area's stored results.

    Raises:
        ValueError: a file of another form; names it.
    """
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        tables = {
            name: Table(**(table | {"run": Run(**table["run"])}))
            for name, table in content["tables"].items()
        }
        headlines = [Headline(**one) for one in content["headlines"]]
        return Results(**(content | {"tables": tables, "headlines": headlines}))
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path}: expected an area's results, got {error!r}") from error


def read_all(folder: Path) -> dict[str, Results]:
    """The results of all areas in a folder, by area."""
    return {path.stem: read_results(path) for path in sorted(folder.glob("*.json"))}


def summary_rows(results: Mapping[str, Results]) -> list[list[str]]:
    """The summary's rows, those of an area together."""
    rows = []
    for found in results.values():
        for one in found.headlines:
            cells = [one.work, one.ours, one.peers, one.floor, one.ratio]
            processor = found.tables[one.table].run.processor
            link = f"[{found.page}](benchmarks/{found.page}.md)"
            rows.append([*(cell or ABSENT for cell in cells), processor, link])
    return rows


def with_tables(
    page: str, results: Mapping[str, Results], awaited: Collection[str] = frozenset()
) -> str:
    """A page with its marked tables as the results give them.

    Args:
        page: its text.
        results: by area.
        awaited: AREA/NAME of tables that a rerun gives and that may not have been measured yet.

    Raises:
        ValueError: a mark for any other table that no result has.
    """

    def table(found: re.Match[str]) -> str:
        area, _, name = found[2].partition("/")
        if found[2] == "summary":
            rows = summary_rows(results)
            text = "\n".join(markdown_rows(SUMMARY_COLUMNS, rows)) + "\n"
        elif area in results and name in results[area].tables:
            text = results[area].tables[name].markdown()
        elif found[2] in awaited:
            text = "Not measured yet.\n"
        else:
            raise ValueError(f"no results for the table {found[2]!r}")
        return f"{found[1]}\n{text}\n{found[3]}"

    return _MARKED.sub(table, page)


def marked_tables(page: str) -> list[str]:
    """Names of the tables that a page shows."""
    return [found[1] for found in _MARKED.findall(page)]
