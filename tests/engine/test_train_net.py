"""The command itself: resuming, several processes, evaluation, bad input."""

import json
import logging
import os
import shutil
import socket
import subprocess
import sys

import pytest
import torch
from detectron2.config import instantiate

import train_net
from cqdino_d2.engine import Evaluation, FolderLock, Training, load_config
from tests.runs import (
    CONFIG,
    ROOT,
    assert_same_weights,
    command,
    environment,
    kill_after_checkpoint,
    losses,
    run,
    run_all,
)


def test_resumed_training_equals_an_unbroken_one(tmp_path):
    """Dropout, optimizer, schedule, data position and moving average go on exactly."""
    settings = ["train.ema.enabled=true", "dataloader.train.delay=0.1"]
    run(tmp_path / "whole", settings[0])
    kill_after_checkpoint(tmp_path / "broken", "model_0000004.pth", *settings)
    assert not (tmp_path / "broken" / "model_final.pth").exists()
    run(tmp_path / "broken", "--resume", settings[0])
    whole, resumed = losses(tmp_path / "whole"), losses(tmp_path / "broken")
    assert sorted(whole) == list(range(12))
    assert resumed == whole
    assert_same_weights(tmp_path / "whole", tmp_path / "broken")
    names = {path.name for path in (tmp_path / "broken").iterdir()}
    assert {"model_inference.pth", "vocabulary.json", "config.yaml", "results.json"} <= names
    assert any(name.startswith("events.out.tfevents") for name in names)


def test_two_processes_train_as_one_and_evaluate(tmp_path):
    """Same losses and weights from two halves of the batch; an evaluation gives their figures."""
    run(tmp_path / "one", "model.dropout=0")
    run(tmp_path / "two", "--num-cpu-processes", "2", "model.dropout=0")
    one, two = losses(tmp_path / "one"), losses(tmp_path / "two")
    assert_near(two, one)
    weights = [torch.load(tmp_path / n / "model_inference.pth")["model"] for n in ("one", "two")]
    for key, value in weights[0].items():
        torch.testing.assert_close(value, weights[1][key], rtol=1e-4, atol=1e-6)
    results = [json.loads((tmp_path / n / "results.json").read_text()) for n in ("one", "two")]
    assert results[0]["toy"]["images"] == results[1]["toy"]["images"] == 4
    checkpoint = f"train.init_checkpoint={tmp_path / 'one' / 'model_inference.pth'}"
    saved = str(tmp_path / "one" / "config.yaml")
    cfg = load_config(saved, [checkpoint, f"train.output_dir={tmp_path / 'eval'}"])
    Evaluation.prepare(cfg).run()
    assert json.loads((tmp_path / "eval" / "results.json").read_text()) == results[0]
    arguments = ["--eval-only", "--num-cpu-processes", "2", checkpoint, "model.channels=9"]
    log = run(tmp_path / "eval", *arguments, expect=2)
    assert "does not fit this config" in log and "categories.weight (5, 8) -> (5, 9)" in log


def test_two_machines_share_an_optimizer_and_go_on_with_one(tmp_path):
    """One process each, the batch in parts; the checkpoint serves both kinds of optimizers."""
    plain, shared = tmp_path / "plain", tmp_path / "shared"
    settings = ["model.dropout=0", "train.ema.enabled=true", "train.checkpointer.max_to_keep=9"]
    train_here(plain, *settings)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        meeting = f"tcp://127.0.0.1:{probe.getsockname()[1]}"
    machines = ["--num-cpu-processes", "1", "--num-machines", "2", "--dist-url", meeting]
    switches = ["train.shard_optimizer=true", "train.accumulate=2"]
    run_all(shared, *([*machines, "--machine-rank", n, *settings, *switches] for n in "01"))
    assert_near(losses(shared), losses(plain))
    contents = [torch.load(n / "model_0000004.pth", weights_only=True) for n in (plain, shared)]
    states = [content["optimizer"] for content in contents]
    assert [g["name"] for g in states[0]["param_groups"]] == [
        g["name"] for g in states[1]["param_groups"]
    ]
    assert states[0]["state"].keys() == states[1]["state"].keys()
    for number, moments in states[0]["state"].items():
        for name, value in moments.items():
            torch.testing.assert_close(states[1]["state"][number][name], value)

    for folder in (tmp_path / "again", tmp_path / "alone"):
        folder.mkdir()
        for name in ("model_0000004.pth", "metrics.json", "vocabulary.json"):
            shutil.copy(shared / name, folder)
        (folder / "last_checkpoint").write_text("model_0000004.pth")
    again = [[*machines, "--machine-rank", n, *settings, *switches, "--resume"] for n in "01"]
    run_all(tmp_path / "again", *again)
    assert losses(tmp_path / "again") == losses(shared)
    assert_same_weights(tmp_path / "again", shared)
    train_here(tmp_path / "alone", *settings, resume=True)
    assert_near(losses(tmp_path / "alone"), losses(shared))


def train_here(folder, *overrides, resume=False):
    """In this process, to save the imports."""
    cfg = load_config(ROOT / CONFIG, [*overrides, f"train.output_dir={folder}"])
    Training.prepare(cfg, resume=resume, load_embeddings=None).run()


def assert_near(rows, wanted):
    assert rows.keys() == wanted.keys()
    for iteration, row in wanted.items():
        assert rows[iteration] == pytest.approx(row, rel=1e-4)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train.max_itr=3"], "did you mean 'max_iter'"),
        (["--eval-only"], "needs train.init_checkpoint"),
        (["train.init_checkpoint=nowhere.pth"], "there is no nowhere.pth"),
        (["train.amp.dtype=fp8"], "train.amp.dtype is 'fp8'"),
        (["optimizer.lr=1e-4x"], "cannot override optimizer.lr: expected a number"),
        (["train.max_iter=0"], "train.max_iter must be a whole number of at least 1, got 0"),
        (["model.new=4"], "unexpected keyword argument 'new'"),
        (["~train.log_period"], "log_period"),
        (["train.init_checkpoint=epoch=3 (1),.pth"], "there is no epoch=3 (1),.pth"),
        (["dataloader.train.poison=1"], "at iteration 0 process 0 has the losses"),
        (["--num-machines", "2"], "--dist-url"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(tmp_path, monkeypatch, capfd, arguments, message):
    """In this process, to save the imports; the test above saw the real exit code."""
    monkeypatch.setattr("detectron2.utils.logger.setup_logger", lambda *args, **kwargs: None)
    monkeypatch.setattr(sys, "argv", command(tmp_path / "out", *arguments)[1:])
    monkeypatch.setattr(logging.getLogger("cqdino_d2"), "propagate", False)  # as in the program
    monkeypatch.chdir(ROOT)
    with pytest.raises(SystemExit) as stop:
        train_net.main()
    assert stop.value.code == 2
    error = capfd.readouterr().err
    assert message in error and "Traceback" not in error


def test_complete_training_is_only_evaluated(tmp_path, monkeypatch, caplog):
    monkeypatch.chdir(ROOT)
    overrides = [f"train.output_dir={tmp_path}", "train.max_iter=2"]
    for _ in range(2):
        cfg = load_config(CONFIG, overrides)
        with caplog.at_level(logging.INFO, logger="cqdino_d2"):
            Training.prepare(cfg, resume=True, load_embeddings=None).run()
        (tmp_path / "results.json").unlink()
    assert "All 2 iterations were done before" in caplog.text


SMALL_FILES = """
import os, resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (4000, 4000))  # the kernel refuses more, as a full disk
os.execv(sys.argv[1], sys.argv[1:])
"""


def test_a_full_disk_is_one_line(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", SMALL_FILES, *command(tmp_path, "train.max_iter=3")],
        cwd=ROOT,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=300,
    )
    log = done.stdout + done.stderr
    assert done.returncode == 2, log
    assert log.count("File too large") == 1 and "Traceback" not in log, log


def test_results_that_cannot_be_written_are_one_line(tmp_path):
    weights = instantiate(load_config(ROOT / CONFIG).model).state_dict()
    torch.save({"state_dict": weights}, tmp_path / "epoch=3 (1),.pth")
    (tmp_path / "out/results.json").mkdir(parents=True)
    weights = f"train.init_checkpoint={tmp_path}/epoch=3 (1),.pth"
    log = run(tmp_path / "out", "--eval-only", weights, expect=2)
    assert "could not write" in log and "Traceback" not in log


def test_a_second_training_is_kept_out(tmp_path):
    lock = FolderLock(tmp_path)
    try:
        log = run(tmp_path, expect=2)
        assert f"is in use by process {os.getpid()} on" in log and "Traceback" not in log
        assert {path.name for path in tmp_path.iterdir()} == {".lock"}
    finally:
        lock.release()


def test_a_bug_keeps_its_traceback(tmp_path):
    log = run(tmp_path, "dataloader.train.delay=-1", expect=1)
    assert "Traceback" in log and "sleep length must be non-negative" in log
