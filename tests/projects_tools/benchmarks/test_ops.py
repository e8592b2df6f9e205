"""The benchmark of the ops, at toy sizes."""

import json
import time

import pytest
import torch
from benchmarks import ops as benchmark_ops
from benchmarks.ops import Case, bytes_to_move, grid_sample_attention, make_inputs

from cqdino_d2 import ops
from cqdino_d2.ops import compiled
from tests.ops.definition import by_definition

LEVELS = ((4, 6), (2, 3))
CASES = [Case("encoder, toy", LEVELS, 2, 0), Case("decoder, toy", LEVELS, 1, 5)]


@pytest.mark.parametrize("case", CASES)
def test_the_other_formulation_computes_the_same(case):
    inputs = make_inputs(case, torch.float64, "cpu")
    torch.testing.assert_close(grid_sample_attention(*inputs), by_definition(*inputs))


def test_the_encoder_looks_around_itself():
    _, shapes, _, locations, _ = make_inputs(CASES[0], torch.float32, "cpu")
    x, y = locations[:, 2 * 6 + 1].mean((0, 1, 2, 3))  # the token at row 2, column 1
    assert shapes.tolist() == [[4, 6], [2, 3]]
    assert abs(x - 1.5 / 6) < 0.3 and abs(y - 2.5 / 4) < 0.3


def test_the_bytes_that_must_move():
    inputs = make_inputs(CASES[1], torch.float16, "cpu")
    value, samples, output = 30 * 256 * 2, 5 * 8 * 2 * 4, 5 * 256 * 2
    forward = value + 2 * 8 * 2 + 2 * 8 + samples * (2 * 4 + 2) + output
    assert bytes_to_move(inputs, torch.empty(1, 5, 256).half(), backward=False) == forward
    gradients = value + samples * (2 * 4 + 2)
    found = bytes_to_move(inputs, torch.empty(1, 5, 256).half(), backward=True)
    assert found == 2 * forward + gradients


@pytest.mark.skipif("cpu" not in compiled.DEVICES, reason="not compiled")
def test_it_measures_and_writes(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(benchmark_ops, "CASES", CASES)
    monkeypatch.setattr(benchmark_ops, "copy_bandwidth", lambda device: 1e9)
    path = tmp_path / "ops.json"
    given = ["--json", str(path), "--cases", "decoder", "--dtypes", "float32", "--seconds", "0"]
    assert benchmark_ops.main(given) == 0
    results = json.loads(path.read_text())["results"]
    assert [(r["implementation"], r["direction"]) for r in results] == [
        ("ours", "forward"),
        ("grid_sample", "forward"),
        ("ours", "forward+backward"),
        ("grid_sample", "forward+backward"),
    ]
    assert all(r["seconds"] > 0 and r["case"] == "decoder, toy" for r in results)
    printed = capsys.readouterr().out
    assert printed.count("| decoder, toy |") == 2
    of_torch = torch.backends.cpu.get_cpu_capability().lower()
    assert f"| ours ({ops.cpu_capability()}) |" in printed
    assert f"| others ({of_torch}), times ours, extra |" in printed


def test_the_clock_can_be_chosen():
    inputs = make_inputs(CASES[1], torch.float32, "cpu")
    ticks = iter([1.0, 3.5])
    run = benchmark_ops.Run(grid_sample_attention, inputs, False, lambda: next(ticks))
    run.once()
    assert run.seconds == [2.5]
    assert benchmark_ops.CLOCKS["cpu"] is time.process_time
    assert benchmark_ops.parse_arguments(["--clock", "cpu"]).clock == "cpu"


def test_it_says_that_there_is_nothing_to_measure(monkeypatch, capsys):
    monkeypatch.setattr(compiled, "DEVICES", frozenset())
    assert benchmark_ops.main([]) == 1
    assert "not there for cpu" in capsys.readouterr().err
