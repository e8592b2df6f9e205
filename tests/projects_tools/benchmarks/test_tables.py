"""The tables of the benchmarks' pages, and the results that they come from."""

import pytest
from benchmarks.rerun.areas import AREAS, awaited_tables
from benchmarks.rerun.tables import (
    Headline,
    Results,
    Run,
    Table,
    marked_tables,
    read_all,
    read_results,
    with_tables,
)

from tests.tiny import ROOT

FOLDER = ROOT / "docs/benchmarks"
SUMMARY = ROOT / "docs/benchmarks.md"
RUN = Run("a processor, one thread", "2026-12-01", "abc1234", load=0.5)


def results(cell="1 s", name="one", area="area"):
    table = Table(["", "ours"], [["row", cell]], RUN, {"peer": "pip install peer"})
    return Results(area, "page", {name: table}, [Headline("work", cell, "", "", "2 x", name)])


@pytest.mark.parametrize("page", [SUMMARY, *FOLDER.glob("*.md")], ids=lambda page: page.name)
def test_the_pages_show_what_is_stored(page):
    text = page.read_text(encoding="utf-8")
    assert with_tables(text, read_all(FOLDER), awaited_tables()) == text


def test_every_stored_table_is_shown_once_on_the_page_of_its_area():
    for area, stored in read_all(FOLDER).items():
        shown = marked_tables((FOLDER / f"{stored.page}.md").read_text(encoding="utf-8"))
        assert {f"{area}/{name}" for name in stored.tables} <= set(shown), area
        assert len(shown) == len(set(shown))
        assert {one.table for one in stored.headlines} <= stored.tables.keys()


def test_every_awaited_table_has_its_place():
    pages = {area.name: FOLDER / f"{area.page}.md" for area in AREAS}
    for name in awaited_tables():
        page = pages[name.split("/")[0]]
        assert name in marked_tables(page.read_text(encoding="utf-8")), name


def test_results_come_back_from_their_file(tmp_path):
    results().save(tmp_path / "area.json")
    assert read_all(tmp_path) == {"area": results()}


@pytest.mark.parametrize("text", ["{", "[]", '{"area": "a"}', '{"tables": {"t": {"rows": []}}}'])
def test_files_of_another_form_are_named(tmp_path, text):
    (tmp_path / "area.json").write_text(text)
    with pytest.raises(ValueError, match="area.json: expected an area's results"):
        read_results(tmp_path / "area.json")


def test_a_rerun_replaces_its_tables_alone():
    older = results("9 s", "one").replaced_by(results("5 s", "other"))
    newer = older.replaced_by(results("1 s", "one"))
    assert {name: table.rows[0][1] for name, table in newer.tables.items()} == {
        "one": "1 s",
        "other": "5 s",
    }
    assert sorted(one.ours for one in newer.headlines) == ["1 s", "5 s"]


def test_tables_go_between_their_marks():
    page = "before\n<!-- table: area/one -->\nold\n<!-- end -->\nafter\n"
    text = with_tables(page, {"area": results()})
    assert "old" not in text and text.startswith("before\n") and text.endswith("\nafter\n")
    assert "| row | 1 s |" in text and "peer: pip install peer." in text
    assert "a processor, one thread; load 0.5 at the start; measured 2026-12-01, abc1234." in text
    assert with_tables(text, {"area": results()}) == text
    summary = with_tables("<!-- table: summary -->\n<!-- end -->", {"area": results()})
    assert "| work | 1 s | – | – | 2 x | a processor, one thread | [page](" in summary
    other = page.replace("one", "two")
    assert "Not measured yet." in with_tables(other, {"area": results()}, {"area/two"})
    with pytest.raises(ValueError, match="no results for the table 'area/two'"):
        with_tables(other, {"area": results()})
