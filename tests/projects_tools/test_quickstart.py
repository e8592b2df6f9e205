"""What the quickstart says beforehand and what it asks of its result; CI runs all of it."""

import json
import os
import subprocess
import sys

import pytest
import quickstart
import torch
from quickstart import CONFIG, LEARNT, SMOKE, Trained, steps_done, unmet_expectations

from cqdino_d2.engine import load_config


def checkpoint(training, name, iteration):
    training.mkdir(exist_ok=True)
    torch.save({"iteration": iteration}, training / name)
    (training / "last_checkpoint").write_text(name)


def test_how_many_steps_are_done(tmp_path):
    assert steps_done(tmp_path) == 0
    checkpoint(tmp_path, "model_0000499.pth", 499)
    assert steps_done(tmp_path) == 500
    checkpoint(tmp_path, "model_final.pth", 1399)
    assert steps_done(tmp_path) == 1400
    (tmp_path / "model_final.pth").write_bytes(b"PK cut")  # left for the training to name
    assert steps_done(tmp_path) == 0


@pytest.mark.parametrize("load, cores, is_said", [(2.0, 2, True), (1.9, 2, False), (4.5, 8, False)])
def test_other_processes_on_the_cores_are_said(load, cores, is_said, monkeypatch, capsys):
    monkeypatch.delenv(quickstart.LOAD_VARIABLE, raising=False)
    monkeypatch.setattr(os, "getloadavg", lambda: (load, 0.0, 99.0))
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(cores)), raising=False)
    quickstart.say_if_cores_are_shared()
    out = capsys.readouterr().out
    said = f"(load average {load:.1f}, usable cores {cores}): the training will take longer\n"
    assert len(out.split("\n")) == (3 if is_said else 1) and out.endswith(said) == is_said


def test_the_load_is_that_before_the_installation(monkeypatch):
    monkeypatch.setattr(os, "getloadavg", lambda: (9.0, 0.0, 0.0))
    monkeypatch.setenv(quickstart.LOAD_VARIABLE, "0.25")
    assert quickstart.load_average() == 0.25
    monkeypatch.setenv(quickstart.LOAD_VARIABLE, "")
    assert quickstart.load_average() == 9.0


def test_systems_without_a_load_average(monkeypatch, capsys):
    monkeypatch.delenv(quickstart.LOAD_VARIABLE, raising=False)
    monkeypatch.delattr(os, "getloadavg", raising=False)
    quickstart.say_if_cores_are_shared()
    assert quickstart.load_average() is None and capsys.readouterr().out == ""


def test_the_script_hands_over_the_load(tmp_path):
    """The installation is replaced by one that shows what quickstart.py would be given."""
    folder = tmp_path / "projects_tools"
    (folder / "install").mkdir(parents=True)
    for name in ("quickstart.sh", "quickstart.py"):
        (folder / name).write_bytes((quickstart.ROOT / "projects_tools" / name).read_bytes())
    (folder / "install/environment.sh").write_text('echo "load=$CQDINO_QUICKSTART_LOAD"; exit 0\n')
    done = subprocess.run(
        ["bash", folder / "quickstart.sh", "--smoke"],
        env=os.environ | {"PYTHON": sys.executable, quickstart.LOAD_VARIABLE: "1.5"},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout) == (0, "load=1.5\n"), done.stderr


def reached(**changes):
    return {"AP": 60.0, "AP50": 80.0, "ARC": 98.0, "AP_random_selection": 12.0} | changes


def test_bars():
    assert unmet_expectations(reached()) == []
    for name, least in LEARNT.items():
        [line] = unmet_expectations(reached(AP_random_selection=0.0, **{name: least - 0.1}))
        assert line.startswith(f"{name} is {least - 0.1:.1f}")
    [line] = unmet_expectations(reached(AP_random_selection=27.1))
    assert "at most 0.45 x AP = 27.0" in line


def test_train_says_how_long_it_takes_and_trains(tmp_path, monkeypatch, capsys):
    """Of the steps that are left, before the first of them; the figure is the machine's own."""
    training, calls = tmp_path / "training", []
    checkpoint(training, "model_0000099.pth", 99)
    (training / "metrics.json").write_text('{"iteration": 399, "train_seconds": 180.0}')

    def expected_seconds(datasets, steps):
        calls.append(("timed", steps))
        return steps * 0.5, 2.0

    monkeypatch.setattr(quickstart, "expected_seconds", expected_seconds)
    monkeypatch.setattr(
        quickstart, "run_train_net", lambda datasets, *arguments: calls.append(arguments)
    )
    assert quickstart.train(tmp_path, training, 400) == Trained(400, 100, 150.0, 180.0)
    out = capsys.readouterr().out
    assert "300 steps (100 are done), about 2 min 30 s on this machine" in out
    assert "all that follows about 24 s" in out
    [timed, arguments] = calls
    assert timed == ("timed", 300)
    assert {"--resume", "train.max_iter=400", "lr_multiplier.warmup_iter=12"} <= set(arguments)

    calls.clear()  # of a longer training nothing is undone
    trained = quickstart.train(tmp_path, training, 60)
    assert (trained.steps, trained.before) == (100, 100)
    assert calls[0] == ("timed", 0) and "train.max_iter=100" in calls[1]


def test_a_wrong_option_is_refused_before_anything_is_installed(tmp_path):
    done = subprocess.run(
        ["bash", "projects_tools/quickstart.sh", "--stpes", "5"],
        cwd=quickstart.ROOT,
        env=os.environ | {"CQDINO_VENV": str(tmp_path / "venv")},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2 and "unrecognized arguments: --stpes" in done.stderr
    assert not (tmp_path / "venv").exists()


@pytest.mark.slow
def test_the_time_is_measured_on_the_data_at_hand(tmp_path):
    """In a process of its own, as it registers datasets; and it leaves nothing behind."""
    script = """
import json, sys, tempfile
from pathlib import Path
import quickstart
import torch
folder = Path(sys.argv[1])
tempfile.tempdir = str(folder / "scratch")
size = quickstart.Size(categories=24, train_images=40, val_images=10, steps=1)
quickstart.build_data(folder / "emojidet", size)
print(json.dumps(quickstart.expected_seconds(folder, 10)))
"""
    (tmp_path / "scratch").mkdir()
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script, str(tmp_path)],
        cwd=quickstart.ROOT,
        env=quickstart.os.environ | {"PYTHONPATH": "projects_tools:."},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    training, evaluation = json.loads(done.stdout.splitlines()[-1])
    assert training > 0 and evaluation > 0
    assert list((tmp_path / "scratch").iterdir()) == []


def test_the_recipe_leaves_the_type_to_the_processor():
    cfg = load_config(str(CONFIG), [])
    assert cfg.model.autocast_dtype == "auto"
    assert cfg.train.progress == "short"
    assert cfg.train.max_iter == quickstart.FULL.steps
    assert SMOKE.steps < quickstart.FULL.steps
