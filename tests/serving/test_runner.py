"""Requests are put together, none waits for another that fails, and the end is clean."""

import threading
from concurrent.futures import CancelledError

import numpy as np
import pytest

from cqdino_d2.prediction.loading import Question
from cqdino_d2.prediction.question_batches import Answer
from cqdino_d2.serving.runner import Batching, Busy, ModelFailed, Runner

IMAGE = np.zeros((4, 4, 3), np.uint8)
SLOW = 30  # seconds that a test waits before it fails


class Model:
    """Answers with the questions' words, when it is let; refuses one of them."""

    def __init__(self):
        self.batches, self.may_run = [], threading.Event()
        self.runs = threading.Event()

    def __call__(self, images, questions):
        self.runs.set()
        assert self.may_run.wait(SLOW)
        words = [question.wanted for question in questions]
        self.batches.append(words)
        if "bad" in words:
            raise RuntimeError("this one is bad")
        return [Answer({"words": word}, None, None) for word in words]


@pytest.fixture
def make():
    runners = []

    def make(names=("a",), observe=None, **batching):
        runner = Runner({}, Batching(**batching), observe)
        runner._models = {name: Model() for name in names}
        runners.append(runner)
        return runner

    yield make
    for runner in runners:
        for model in runner._models.values():
            model.may_run.set()
        runner.close()


def ask(runner, word, name="a"):
    return runner.submit(name, IMAGE, Question(wanted=word))


def wait_until_busy(runner, name="a"):
    """A first request is under way, so that others wait."""
    first = ask(runner, "first", name)
    assert runner._models[name].runs.wait(SLOW)
    return first


def words_of(futures):
    return [future.result(SLOW).answer.result["words"] for future in futures]


def test_what_waits_goes_together(make):
    seen = []
    runner = make(observe=lambda *one: seen.append(one[:2]), most=3, wait_seconds=0.0)
    first = wait_until_busy(runner)
    others = [ask(runner, str(i)) for i in range(5)]
    assert len(runner) == 5
    runner._models["a"].may_run.set()
    assert words_of([first, *others]) == ["first", *"01234"]
    assert runner._models["a"].batches == [["first"], ["0", "1", "2"], ["3", "4"]]
    assert [one.result().batch_size for one in others] == [3, 3, 3, 2, 2]
    assert seen == [("a", 1), ("a", 3), ("a", 2)] and len(runner) == 0


def test_the_first_waits_for_others(make):
    runner = make(most=2, wait_seconds=10.0)
    runner._models["a"].may_run.set()
    futures = [ask(runner, "x"), ask(runner, "y")]  # the second ends the wait
    assert words_of(futures) == ["x", "y"] and runner._models["a"].batches == [["x", "y"]]


def test_models_do_not_share_batches_and_none_is_overtaken(make):
    runner = make(names=("a", "b"), most=8, wait_seconds=0.0)
    wait_until_busy(runner)
    futures = [ask(runner, "1", "b"), ask(runner, "2"), ask(runner, "3", "b")]
    for model in runner._models.values():
        model.may_run.set()
    assert words_of(futures) == ["1", "2", "3"]
    assert runner._models["b"].batches == [["1", "3"]]
    assert runner._models["a"].batches == [["first"], ["2"]]


def test_a_failure_is_that_of_one_request(make, caplog):
    runner = make(most=3, wait_seconds=0.0)
    wait_until_busy(runner)
    futures = [ask(runner, word) for word in ("x", "bad", "y")]
    runner._models["a"].may_run.set()
    assert words_of([futures[0], futures[2]]) == ["x", "y"]
    with pytest.raises(ModelFailed):
        futures[1].result(SLOW)
    assert words_of([ask(runner, "z")]) == ["z"]  # the thread lives on
    assert "one by one" in caplog.text


def test_a_full_queue_refuses_and_a_cancelled_request_is_not_run(make):
    runner = make(most=1, queue=2)
    first = wait_until_busy(runner)
    second, third = ask(runner, "2"), ask(runner, "3")
    with pytest.raises(Busy):
        ask(runner, "4")
    assert second.cancel()
    runner._models["a"].may_run.set()
    assert words_of([first, third]) == ["first", "3"]
    assert runner._models["a"].batches == [["first"], ["3"]]


def test_the_end(make):
    runner = make(most=1)
    first, second = wait_until_busy(runner), ask(runner, "2")
    ends = threading.Thread(target=runner.close)
    ends.start()
    with pytest.raises(CancelledError):
        second.result(SLOW)
    runner._models["a"].may_run.set()
    ends.join(SLOW)
    assert not ends.is_alive() and words_of([first]) == ["first"]
    with pytest.raises(Busy):
        ask(runner, "3")


@pytest.mark.parametrize(
    "wrong", [{"most": 0}, {"queue": 0}, {"wait_seconds": -1}, {"wait_seconds": float("nan")}]
)
def test_batching_of_nothing_is_refused(wrong):
    with pytest.raises(ValueError, match="1 or more"):
        Batching(**wrong)
