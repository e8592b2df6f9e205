"""All benchmarks one after the other, and what their figures become in the pages."""

import json

import pytest
from benchmarks import doc_tables, rerun

PAGES = sorted(doc_tables.DOCS.glob("*.md"))
TABLE = "Before\n\n| a | b |\n|---|---|\n| 1 | |\n| 2 | x y |\nafter | all\n"


@pytest.fixture
def runs(monkeypatch):
    """The commands that were run; one area prints a table, another fails."""
    ran = []

    def run_one(command, limit):
        ran.append(command)
        return (doc_tables.read_tables(TABLE), "") if command.startswith("ops") else ([], "no peer")

    monkeypatch.setattr(rerun, "run_one", run_one)
    return ran


def all_of(folder, *more):
    return rerun.main(["--output", str(folder), "--only", "operators,data", *more])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_tables_of_the_pages_are_those_of_the_stored_figures(page):
    assert "<!-- table: " in page.read_text("utf-8")
    assert doc_tables.write_page(page, doc_tables.DOCS) == page.read_text("utf-8")


def test_tables_are_found_among_other_lines():
    (table,) = doc_tables.read_tables(TABLE)
    assert table == {"head": ["a", "b"], "rows": [["1", ""], ["2", "x y"]]}


def test_a_failed_run_is_a_dash_with_its_reason_and_does_not_end_the_rest(tmp_path, runs):
    assert all_of(tmp_path) == 0
    good, failed = (
        json.loads((tmp_path / f"{name}.json").read_text())["tables"]
        for name in ("operators", "data")
    )
    assert failed["data 1"]["rows"] == [["-", "no peer"]] and failed["data 1"]["failed"]
    ops = good["ops 1"]
    assert ops["rows"] == [["1", ""], ["2", "x y"]] and not ops["failed"]
    assert ops["processor"] and ops["date"] and ops["quiet"] == (ops["load"] <= rerun.QUIET)


def test_what_is_done_is_skipped_unless_asked_again(tmp_path, runs):
    all_of(tmp_path)
    all_of(tmp_path)
    assert runs == ["ops", "data"]
    all_of(tmp_path, "--again", "--quick")
    assert [command.split()[0] for command in runs[2:]] == ["ops", "data"]
    assert runs[2:] != ["ops", "data"]


def test_only_good_figures_of_full_size_replace_stored_ones(tmp_path, runs):
    output, docs = tmp_path / "output", tmp_path / "docs"
    all_of(output)
    docs.mkdir()
    old = {"recorded": True, "head": ["a"], "rows": [["9"]]}
    for name in ("operators", "data"):
        stored = {"area": name, "tables": {"ops 1": old, "data 1": old}}
        (docs / f"{name}.json").write_text(json.dumps(stored))
    rerun.adopt(output, docs)
    page = docs / "operators.md"
    page.write_text("<!-- table: ops 1 -->\n| a |\n|---|\n| 9 |\n<!-- end -->\n")
    assert doc_tables.write_docs(docs, docs) == ["operators: data 1"]
    assert "| 2 | x y |" in page.read_text() and "| 9 |" not in page.read_text()
    assert json.loads((docs / "data.json").read_text())["tables"]["data 1"] == old
    all_of(output, "--again", "--quick")
    (docs / "operators.json").write_text(
        json.dumps({"area": "operators", "tables": {"ops 1": old}})
    )
    rerun.adopt(output, docs)
    assert json.loads((docs / "operators.json").read_text())["tables"]["ops 1"] == old


def test_a_place_without_a_table_is_an_error(tmp_path):
    (tmp_path / "data.md").write_text("<!-- table: none 1 -->\n<!-- end -->\n")
    with pytest.raises(ValueError, match="has no table 'none 1'"):
        doc_tables.write_page(tmp_path / "data.md", tmp_path)


def test_unknown_areas_and_toy_figures_for_the_pages_are_refused(tmp_path, capsys):
    for more, said in (
        (["--only", "moon"], "no area 'moon'"),
        (["--quick", "--write-docs"], "toy"),
    ):
        with pytest.raises(SystemExit):
            rerun.main(["--output", str(tmp_path), *more])
        assert said in capsys.readouterr().err


def test_a_benchmark_that_ends_badly_says_why():
    tables, reason = rerun.run_one("no_such_benchmark", 60)
    assert not tables and "there is no benchmark 'no_such_benchmark'" in reason
