"""The short line of a training and the measured pace."""

import logging
import types

import pytest
from detectron2.utils.events import EventStorage

from cqdino_d2.engine import Training, duration, load_config, measure_pace, progress
from cqdino_d2.engine.progress import ProgressPrinter
from tests.runs import CONFIG, ROOT


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "0 s"), (59.4, "59 s"), (59.6, "1 min 00 s"), (185, "3 min 05 s"), (7800, "2 h 10 min")],
)
def test_durations(seconds, text):
    assert duration(seconds) == text


def lines(caplog, max_iter, iteration, **figures):
    caplog.clear()
    with caplog.at_level(logging.INFO, "cqdino_d2"), EventStorage(iteration) as storage:
        for name, values in figures.items():
            for value in values:
                storage.put_scalar(name, value)
        ProgressPrinter(max_iter, 3).write()
    return [record.message for record in caplog.records]


def test_the_line_tells_step_loss_pace_and_time_left(caplog):
    found = lines(
        caplog, 100, 39, total_loss=[90.0, 1.0, 2.0, 3.0], lr=[1e-3], time=[1.5, 1.5, 2.0]
    )
    assert found == ["step 40/100  loss 2.000  lr 1.0e-03  1.67 s a step, ETA 1 min 40 s"]


def test_the_line_does_without_what_is_not_known_yet(caplog):
    assert lines(caplog, 100, 0) == ["step 1/100"]
    assert lines(caplog, 100, 100, total_loss=[1.0]) == []  # the training is over


def test_a_training_prints_as_its_config_says(tmp_path, monkeypatch, caplog):
    monkeypatch.chdir(ROOT)
    given = [f"train.output_dir={tmp_path}", "train.max_iter=4"]
    cfg = load_config(CONFIG, [*given, "train.progress=short"])
    training = Training.prepare(cfg, resume=False, load_embeddings=None)
    with caplog.at_level(logging.INFO):
        training.run()
    steps = [record.message for record in caplog.records if record.message.startswith("step ")]
    assert [line.split()[1] for line in steps] == ["1/4", "2/4", "3/4", "4/4"]
    assert not [record for record in caplog.records if "eta:" in record.message]
    with pytest.raises(ValueError, match=r"train\.progress must be one of .*got 'all'"):
        Training.prepare(
            load_config(CONFIG, [*given, "train.progress=all"]), resume=False, load_embeddings=None
        )


def test_the_pace_is_that_of_steps_and_evaluation(tmp_path, monkeypatch):
    """By a clock that moves on by one with every reading: a step and a batch take one each."""
    monkeypatch.chdir(ROOT)
    cfg = load_config(CONFIG, [f"train.output_dir={tmp_path}"])
    training = Training.prepare(cfg, resume=False, load_embeddings=None)
    ticks = iter(range(10**6))
    clock = types.SimpleNamespace(perf_counter=lambda: float(next(ticks)))
    monkeypatch.setattr(progress, "time", clock)
    pace = measure_pace(training.trainer, training.evaluation)
    assert pace == progress.Pace(step=1.0, evaluation=len(training.evaluation.loader))
    assert len(training.evaluation.loader) > 1
