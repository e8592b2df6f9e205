"""What an error means to who started the program: one line, or a traceback where it is a bug."""

from __future__ import annotations

import dis
import logging
import re
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import detectron2.data
from detectron2.utils import comm
from omegaconf.errors import OmegaConfBaseException

from ...files.atomic_file import DISK_IS_FULL
from ..trainer import NonFiniteError

BAD_INPUT = 2
INTERRUPTED = 128 + signal.SIGINT
LESS_MEMORY = (
    "less memory is used with fewer images at a time (dataloader.train.total_batch_size, or more "
    "parts by train.accumulate), fewer dataloader.*.num_workers, train.activation_checkpointing "
    "or, with several processes, train.shard_optimizer"
)
_OWN_CODE = (Path(__file__).parents[2], Path(detectron2.data.__file__).parent)
_WRONG_ARGUMENTS = re.compile(r"\w+\(\) (got an unexpected keyword|missing \d+ required)")
_DEAD_WORKER = re.compile(r"DataLoader worker \(pid.*?\) (exited unexpectedly|is killed by signal)")
_OUT_OF_MEMORY = re.compile(r"can't allocate memory|out of memory", re.IGNORECASE)
# the end of what torch makes of an error in a worker of a loader
_WORKER_ERROR = re.compile(
    r'File "(?P<file>[^"]*)", line \d+, in \S+\n\s+(?P<code>.*)\n(?:[\s^~]*\n)?'
    r"(?P<kind>[\w.]+)(?:: (?P<text>[\s\S]*))?$"
)
_SECONDS_FOR_THE_FIRST = 2.0


@contextmanager
def one_line_errors(*, traceback: bool, preparing: bool) -> Iterator[None]:
    """Ends the program with one line and exit code 2 for what is wrong in the input.

    An interrupt (Ctrl-C) is one line and exit code 130.
    Other errors, which are bugs, go through with their traceback.

    Args:
        traceback: show where an error in the input was found, too.
        preparing: the program only reads what it was given so far: every ``ValueError`` is about
            that. Later only those are that this package raises itself.
    """
    try:
        yield
    except KeyboardInterrupt:
        if not comm.get_local_rank():
            logging.getLogger("cqdino_d2").warning("interrupted: see --resume")
        raise SystemExit(INTERRUPTED) from None
    except Exception as error:
        text = explanation(error, preparing=preparing)
        if text is None:
            raise
        _say(text, error if traceback else None)
        _close_logs()
        raise SystemExit(BAD_INPUT) from error


def explanation(error: Exception, *, preparing: bool) -> str | None:
    """One line about an error in the input or the machine's means; None for a bug."""
    text = str(error) or type(error).__name__
    if isinstance(error, NonFiniteError):
        return text
    if isinstance(error, MemoryError) or _OUT_OF_MEMORY.search(text):
        return f"{text.splitlines()[0]}; {LESS_MEMORY}"
    if isinstance(error, RuntimeError) and (found := _DEAD_WORKER.search(text)):
        return f"{found[0]}: probably the system ended it because memory ran out; {LESS_MEMORY}"
    if "in DataLoader worker process" in text and (found := _WORKER_ERROR.search(text.strip())):
        own = _is_own(found["file"]) and found["code"].startswith("raise ")
        text = found["text"] or found["kind"]
    else:
        own = is_deliberate(error)
    if isinstance(error, OSError) and error.errno in DISK_IS_FULL and error.filename is None:
        text += ": a log, a checkpoint or a cache cannot be written (train.output_dir, ~/.cache)"
    if isinstance(error, OSError) or (isinstance(error, (ValueError, TypeError)) and own):
        return text
    return text if preparing and _is_about_the_config(error, text) else None


def _is_about_the_config(error: Exception, text: str) -> bool:
    if isinstance(error, TypeError):
        return _WRONG_ARGUMENTS.search(text) is not None
    return isinstance(error, (ValueError, ImportError, OmegaConfBaseException))


def is_deliberate(error: BaseException) -> bool:
    """Whether a ``raise`` statement of this package, or of Detectron2's readers, is its origin."""
    place = error.__traceback__
    if place is None:
        return False
    while place.tb_next is not None:
        place = place.tb_next
    code = place.tb_frame.f_code
    raised = code.co_code[place.tb_lasti] == dis.opmap["RAISE_VARARGS"]
    return raised and _is_own(code.co_filename)


def _is_own(file: str) -> bool:
    return any(folder in Path(file).parents for folder in _OWN_CODE)


def report_a_full_disk_once() -> None:
    """For a program: neither every line of its log nor threads that write tell of it, too.

    Writers of TensorBoard hand an error of their thread on to who uses them.
    """
    logging.raiseExceptions = False
    show = threading.excepthook

    def show_others(given: threading.ExceptHookArgs) -> None:
        if not isinstance(given.exc_value, OSError):
            show(given)

    threading.excepthook = show_others


def _close_logs() -> None:
    """Before the interpreter does, which would tell of a full disk once more for every file."""
    for name in ("detectron2", "fvcore", "cqdino_d2"):
        for handler in logging.getLogger(name).handlers:
            if isinstance(handler, logging.StreamHandler) and handler.stream not in (
                sys.stdout,
                sys.stderr,
            ):
                with suppress(OSError):  # it has been reported
                    handler.stream.close()


def _say(text: str, error: Exception | None) -> None:
    """The main process logs; another one only speaks if the main process has nothing to say."""
    if comm.get_local_rank():
        time.sleep(_SECONDS_FOR_THE_FIRST)  # where all fail alike, the launch ends this one now
        sys.stderr.write(f"process {comm.get_rank()}: {text}\n")
    logging.getLogger("cqdino_d2").error("%s", text, exc_info=error)
