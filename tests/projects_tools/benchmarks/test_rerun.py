"""The command that measures all benchmarks again, its areas, readings and laws."""

import json
import shlex
from pathlib import Path

import numpy as np
import pytest
from benchmarks.rerun import command, laws, readings, text_readings
from benchmarks.rerun.areas import AREAS, Area, Step
from benchmarks.rerun.tables import read_results

from tests import doc_commands as docs

TOOL = "projects_tools/benchmark.py"
STEPS = [pytest.param(a, s, id=f"{a.name}-{s.name}") for a in AREAS for s in a.steps]


def test_all_steps_take_less_than_two_hours():
    assert sum(step.minutes for area in AREAS for step in area.steps) < 120


@pytest.mark.parametrize("quick", [False, True], ids=["full", "quick"])
@pytest.mark.parametrize(("area", "step"), STEPS)
def test_every_step_is_a_command_that_its_benchmark_takes(area, step, quick, tmp_path):
    session = command.Session(tmp_path, "python", quick)
    arguments, file = session.arguments(step, area)
    given = docs.parse(TOOL, arguments)
    if step.read is not None:
        written = getattr(given, "json", None) or given.output / "profile.json"
        assert Path(written) == file
    assert not any("{" in word for word in arguments)


def fake_areas(tmp_path, script):
    """An area whose one step is run by this Python script in place of benchmark.py."""
    tool = tmp_path / "tool.py"
    tool.write_text(
        f"import json, pathlib, sys\ncount = pathlib.Path({str(tmp_path)!r}, 'count')\n"
    )
    with tool.open("a") as file:
        file.write("count.write_text(count.read_text() + 'x' if count.is_file() else 'x')\n")
        file.write(script)
    read = lambda figures: [  # noqa: E731
        readings.Reading("t", ["", "s"], [["row", str(figures["s"])]], [("w", "1", "", "", "")])
    ]
    step = Step("step", "x --json {json}", "--toy", 1, ("t",), read, threads=1)
    return tool, [Area("area", "page", (step,))]


GOOD = "pathlib.Path(sys.argv[3]).write_text(json.dumps({'s': len(sys.argv)}))\n"


def run(monkeypatch, tmp_path, script, *options):
    tool, areas = fake_areas(tmp_path, script)
    monkeypatch.setattr("benchmarks.machine.TOOL", tool)
    monkeypatch.setattr(command, "AREAS", areas)
    return command.main(["--output", str(tmp_path / "out"), *options])


def calls(tmp_path):
    return len((tmp_path / "count").read_text())


def test_a_run_leaves_figures_tables_and_where_they_come_from(monkeypatch, tmp_path, capsys):
    assert run(monkeypatch, tmp_path, GOOD) == 0
    results = read_results(tmp_path / "out/area.json")
    assert results.figures == {"step": {"s": 4}}
    assert results.tables["t"].rows == [["row", "4"]]
    origin = results.tables["t"].run
    assert origin.processor.endswith(", 1 thread") and origin.commit and not origin.recorded
    assert "| row | 4 |" in (tmp_path / "out/tables.md").read_text()


def test_finished_areas_are_skipped_unless_they_shall_be_measured_again(monkeypatch, tmp_path):
    run(monkeypatch, tmp_path, GOOD)
    run(monkeypatch, tmp_path, GOOD)
    assert calls(tmp_path) == 1
    run(monkeypatch, tmp_path, GOOD, "--again")
    assert calls(tmp_path) == 2
    run(monkeypatch, tmp_path, GOOD, "--quick")  # its results are no full run's, nor the reverse
    assert calls(tmp_path) == 3
    assert read_results(tmp_path / "out/area.json").figures == {"step": {"s": 4}}
    assert read_results(tmp_path / "out/quick/area.json").figures == {"step": {"s": 5}}


def test_what_fails_is_told_and_tried_again(monkeypatch, tmp_path, capsys):
    assert run(monkeypatch, tmp_path, "sys.exit('no module')\n") == 1
    assert "area: step: no module" in capsys.readouterr().err
    assert read_results(tmp_path / "out/area.json").failed == {"step": "no module"}
    assert "step: no module" in (tmp_path / "out/tables.md").read_text()
    assert run(monkeypatch, tmp_path, GOOD) == 0 and calls(tmp_path) == 2


def test_a_step_is_ended_at_its_limit(monkeypatch, tmp_path, capsys):
    tool, (area,) = fake_areas(tmp_path, "import time\ntime.sleep(600)\n")
    monkeypatch.setattr("benchmarks.machine.TOOL", tool)
    step = Step("step", "x --json {json}", "", 0.01, ("t",), area.steps[0].read)
    session = command.Session(tmp_path / "out", "python", False)
    results = command.measure_area(Area("area", "page", (step,)), session)
    assert results.failed == {"step": "it took more than 1 s"} and not results.tables


@pytest.mark.parametrize(("load", "warned"), [(1.9, True), (0.2, False), (None, False)])
def test_a_machine_that_is_not_quiet_is_warned_of(monkeypatch, tmp_path, capsys, load, warned):
    monkeypatch.setattr(command, "load", lambda: load)
    monkeypatch.setattr(command, "cores", lambda: 2)
    run(monkeypatch, tmp_path, GOOD)
    assert ("other work disturbs" in capsys.readouterr().err) is warned
    assert read_results(tmp_path / "out/area.json").tables["t"].run.load == load


@pytest.mark.parametrize(
    ("options", "problem"),
    [([], "--output"), (["--output", "x", "--quick", "--write-docs"], "toy sizes")],
)
def test_wrong_options_end_in_one_line(options, problem, capsys):
    with pytest.raises(SystemExit):
        command.main(options)
    assert problem in capsys.readouterr().err


def test_results_go_into_the_pages(monkeypatch, tmp_path):
    run(monkeypatch, tmp_path, GOOD)
    folder = tmp_path / "docs/benchmarks"
    folder.mkdir(parents=True)
    (folder / "page.md").write_text("# P\n\n<!-- table: area/t -->\n<!-- end -->\n")
    (tmp_path / "docs/benchmarks.md").write_text("<!-- table: summary -->\n<!-- end -->\n")
    command.write_docs(tmp_path / "docs", {"area": read_results(tmp_path / "out/area.json")})
    assert "| row | 4 |" in (folder / "page.md").read_text()
    assert "| w | 1 |" in (tmp_path / "docs/benchmarks.md").read_text()
    assert read_results(folder / "area.json").tables["t"].rows == [["row", "4"]]


def test_a_missing_peer_is_a_dash_with_its_reason():
    found = {"images/s": 2.0, "CPU s an image": 0.5, "parameters": 3_000_000, "size": "640"}
    sides = {"CategoryPredictor": found, "rfdetr base": {"failure": "pip install rfdetr"}}
    (table,) = text_readings.throughput({"sides": sides})
    assert table.rows[1] == ["rfdetr base", "–", "–", "–", "–"]
    assert table.reasons == {"rfdetr base": "pip install rfdetr"}
    assert [line[3:] for line in table.headlines] == [("", "")]
    step = {"backbone": 1.0, "all": 2.0}
    other = {"failure": "killed"}
    sides = {"cqdino": step, "deformable_detr": other, "by_words": step, "grounding_dino": step}
    (table,) = readings.training_steps({"seconds": {"swin_t": sides}})
    assert table.rows[-1] == ["all", "2.00", "–", "2.00", "2.00"]
    assert [line[1:] for line in table.headlines] == [
        ("2.0 s", "", "", ""),
        ("2.0 s", "transformers' Grounding DINO 2.0 s", "", "1.0 x"),
    ]


@pytest.mark.parametrize(("a", "b", "c"), [(2.0, 1.0, 0.0), (3e-6, 2.0, 0.5), (0.4, 0.5, 7.0)])
def test_laws_are_found_again(a, b, c):
    x = np.array([1, 3, 10, 40, 100, 1000.0])
    law = laws.fit(x, a * x**b + c)
    assert (law.a, law.b, law.c) == pytest.approx((a, b, c), rel=1e-6, abs=1e-9)


def test_what_does_not_grow_is_a_constant_and_few_points_make_no_law():
    law = laws.fit([1, 2, 4, 8], [5.0, 5.01, 4.99, 5.0])
    assert law.a == 0 and law.c == pytest.approx(5, abs=0.01) and "constant" in law.text("s")
    assert laws.fit([1, 2, 4], [1.0, 2.0, 4.0]) is None
    assert laws.fit([1, 2, 4, 8], [0.0, 2.0, 4.0, 8.0]) is None


def test_growth_has_a_table_and_a_plot(tmp_path):
    points = [{"x": x, "seconds": 0.5 * x, "bytes": x * 2**20} for x in (1, 2, 5, 10)]
    (table,) = readings.growth({"axis": "batch", "points": points}, "images")
    assert table.rows[-1] == ["law", "0.5 x^1.00 s", "1 x^1.00 MiB"]
    laws.plot(points, "images", tmp_path / "batch.svg")
    drawn = (tmp_path / "batch.svg").read_text()
    assert "0.5 x^1.00 s" in drawn and len(drawn) < 100_000
    laws.plot(points, "images", tmp_path / "again.svg")
    assert (tmp_path / "again.svg").read_text() == drawn


def test_scoring_is_measured_and_read_at_toy_size(tmp_path):
    assert command.main(["--output", str(tmp_path), "--quick", "--only", "evaluation"]) == 0
    results = read_results(tmp_path / "quick/evaluation.json")
    assert not results.failed
    figures = {one["name"]: one for one in results.figures["evaluation"]["small"]}
    assert figures["ours"]["AP50"] > 0
    rows = {row[0]: row[1:] for row in results.tables["small"].rows}
    assert rows["ours"][3].endswith(" s")
    for name, why in results.tables["small"].reasons.items():
        assert rows[name] == ["–"] * 5 and why


@pytest.mark.slow
@pytest.mark.parametrize("area", [a.name for a in AREAS if a.name != "evaluation"])
def test_every_area_runs_at_toy_size(area, tmp_path):
    code = command.main(["--output", str(tmp_path), "--quick", "--only", area])
    results = read_results(tmp_path / f"quick/{area}.json")
    assert (code, results.failed) == (0, {}), shlex.quote(json.dumps(results.failed))
    assert results.tables
