"""Killed processes, locks, and what becomes of an error."""

import os
import signal
import subprocess
import sys

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from torch.utils.data import DataLoader, Dataset

from cqdino_d2.engine import (
    FolderInUseError,
    FolderLock,
    NonFiniteError,
    ProcessFailedError,
    launch,
    one_line_errors,
)
from cqdino_d2.engine.processes.failures import explanation
from cqdino_d2.structures import Vocabulary, random_vocabulary
from tests.runs import ROOT, environment

HOLD = """
import os, sys, time
from cqdino_d2.engine.processes.folder_lock import FolderLock
FolderLock(sys.argv[1])
if os.fork() == 0:  # a worker, which outlives its parent for a while
    time.sleep(60)
print("held", flush=True)
time.sleep(60)
"""


def killed_rank(which, number):
    """One process dies of a signal, the others wait for it."""
    rank = torch.distributed.get_rank()
    if rank == which:
        os.kill(os.getpid(), number)
    torch.distributed.barrier()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV])
def test_a_killed_process_is_named_with_its_signal(number):
    with pytest.raises(ProcessFailedError) as failure:
        launch(killed_rank, args=(1, number), processes_per_machine=2)
    text = str(failure.value)
    assert failure.value.exit_code == 128 + number and failure.value.killed
    assert text.startswith("process 1 of 2 (pid ") and f"was killed by {number.name}" in text
    assert ("memory" in text) == (number == signal.SIGKILL)


class TestFolderLock:
    def hold(self, folder):
        holder = subprocess.Popen(
            [sys.executable, "-c", HOLD, str(folder)],
            cwd=ROOT,
            env=environment() | {"PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        assert holder.stdout.readline() == "held\n"
        return holder

    def test_a_killed_process_keeps_none_though_its_workers_live(self, tmp_path):
        holder = self.hold(tmp_path)
        try:
            with pytest.raises(FolderInUseError, match=f"in use by process {holder.pid} on "):
                FolderLock(tmp_path)
            holder.kill()
            holder.wait()
            FolderLock(tmp_path).release()
        finally:
            os.killpg(holder.pid, signal.SIGKILL)
            holder.wait()
            holder.stdout.close()

    def test_one_process_may_take_it_again(self, tmp_path):
        first, second = FolderLock(tmp_path), FolderLock(tmp_path)
        second.release()
        first.release()
        FolderLock(tmp_path).release()


def of(function, *args):
    """The error that a call ends with."""
    with pytest.raises((OSError, ValueError, TypeError, OmegaConfBaseException)) as error:
        function(*args)
    return error.value


class Images(Dataset):
    """Its one image is missing, refused by this package, or hits a bug."""

    def __init__(self, kind):
        self.kind = kind

    def __len__(self):
        return 1

    def __getitem__(self, index):
        if self.kind == "missing":
            return open("/nowhere/image.png")
        if self.kind == "refused":
            return Vocabulary(("a",), (1, 2), random_vocabulary(1).hierarchy)
        return np.zeros(2) + np.zeros(3)


def first_image(kind, workers):
    return next(iter(DataLoader(Images(kind), num_workers=workers)))


@pytest.mark.parametrize("workers", [0, 1])
class TestExplanation:
    def test_what_lies_in_files_is_one_line(self, workers):
        text = explanation(of(first_image, "missing", workers), preparing=False)
        assert text == "[Errno 2] No such file or directory: '/nowhere/image.png'"
        text = explanation(of(first_image, "refused", workers), preparing=False)
        assert text == str(of(Images("refused").__getitem__, 0))

    def test_a_bug_is_none_in_a_run(self, workers):
        error = of(first_image, "bug", workers)
        assert isinstance(error, ValueError)
        assert explanation(error, preparing=False) is None
        assert "could not be broadcast" in explanation(error, preparing=True)


def test_explanations_of_other_errors():
    wrong = of(lambda: random_vocabulary(categories=3))
    assert "unexpected keyword argument 'categories'" in explanation(wrong, preparing=True)
    assert explanation(wrong, preparing=False) is None
    cfg = OmegaConf.create({"a": "${b}"})
    assert "'b' not found" in explanation(of(lambda: cfg.a), preparing=True)
    assert explanation(KeyError("x"), preparing=True) is None
    assert explanation(TypeError("unhashable"), preparing=True) is None
    assert explanation(ImportError("no os.nothing"), preparing=True) == "no os.nothing"
    assert explanation(ImportError("no os.nothing"), preparing=False) is None
    assert explanation(NonFiniteError("at iteration 3"), preparing=False) == "at iteration 3"
    assert "accumulate" in explanation(MemoryError("the curves need 3 GB"), preparing=False)
    assert "accumulate" in explanation(RuntimeError("CUDA out of memory. Tried"), preparing=False)
    worker = RuntimeError("DataLoader worker (pid(s) 12, 13) exited unexpectedly")
    assert "(pid(s) 12, 13) exited" in explanation(worker, preparing=False)
    assert "num_workers" in explanation(worker, preparing=False)


def test_one_line_errors(caplog):
    with pytest.raises(SystemExit) as stop, one_line_errors(traceback=False, preparing=False):
        raise OSError(28, "No space left on device")
    assert stop.value.code == 2
    (record,) = caplog.records
    assert (
        record.getMessage().startswith("[Errno 28] No space left on device: a log")
        and not record.exc_info
    )
    with pytest.raises(SystemExit), one_line_errors(traceback=True, preparing=False):
        raise OSError(28, "No space left on device")
    assert caplog.records[-1].exc_info
    with pytest.raises(RuntimeError, match="a bug"), one_line_errors(traceback=0, preparing=True):
        raise RuntimeError("a bug")
