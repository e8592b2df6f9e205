"""Starts the processes of a training, on GPUs (NCCL) or on CPUs (gloo)."""

from __future__ import annotations

import logging
import signal
import socket
from collections.abc import Callable, Sequence
from multiprocessing.process import BaseProcess
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from detectron2.utils import comm

from .failures import LESS_MEMORY

_SHELL_OFFSET = 128  # what shells add to the number of the signal that ended a process


class ProcessFailedError(RuntimeError):
    """A process of a training ended before its work was done.

    Attributes:
        exit_code: to end with: the process's own, or 128 + the signal that killed it.
        killed: whether a signal ended it, so that it could say nothing itself.
    """

    def __init__(self, message: str, exit_code: int, *, killed: bool = False) -> None:
        super().__init__(message)
        self.exit_code, self.killed = exit_code, killed


class LaunchError(ValueError):
    """The processes that were asked for cannot be started here."""


def launch(
    main: Callable[..., None],
    *,
    args: Sequence[Any] = (),
    processes_per_machine: int = 1,
    num_machines: int = 1,
    machine_rank: int = 0,
    dist_url: str = "auto",
    backend: str = "gloo",
) -> None:
    """Runs ``main(*args)`` in every process of a training.

    Detectron2's own ``launch`` insists on CUDA; this one also serves CPU processes. Inside
    ``main`` the functions of ``detectron2.utils.comm`` work as usual.

    Args:
        main: a function that can be pickled.
        args: its arguments.
        processes_per_machine: on this machine and on each of the others.
        num_machines: machines that take part.
        machine_rank: 0..num_machines - 1.
        dist_url: meeting point, for example ``tcp://host:port``; ``auto`` finds a free port.
        backend: ``nccl`` (one GPU per process) or ``gloo``.

    Raises:
        LaunchError: ``auto`` for several machines, no process, more processes than GPUs.
        ProcessFailedError: one of several processes ended by itself or was killed; the others
            are stopped.
        torch.multiprocessing.ProcessRaisedException: an error in one of several processes.
    """
    world_size = processes_per_machine * num_machines
    if processes_per_machine < 1 or not 0 <= machine_rank < num_machines:
        raise LaunchError(
            f"expected at least one process and a machine rank below {num_machines}, got "
            f"{processes_per_machine} processes and rank {machine_rank}"
        )
    if backend == "nccl" and processes_per_machine > torch.cuda.device_count():
        raise LaunchError(
            f"{processes_per_machine} GPUs were asked for, "
            f"this machine shows {torch.cuda.device_count()}"
        )
    if world_size == 1:
        main(*args)
        return
    if dist_url == "auto":
        if num_machines > 1:
            raise LaunchError("several machines need a --dist-url like tcp://host:port")
        dist_url = f"tcp://127.0.0.1:{_free_port()}"
    layout = (processes_per_machine, num_machines, machine_rank)
    _spawn((main, tuple(args), layout, dist_url, backend), processes_per_machine)


def _spawn(arguments: tuple[Any, ...], count: int) -> None:
    context = mp.spawn(_run_process, arguments, count, join=False)
    logging.getLogger("torch.multiprocessing.spawn").setLevel(logging.ERROR)  # who it stops
    try:
        while not context.join():
            pass
    except mp.ProcessExitedException as error:
        raise _failure(context.processes, error.error_index) from error
    except mp.ProcessRaisedException as error:
        if (killed := _killed_rank(context.processes)) is not None:
            raise _failure(context.processes, killed) from error
        raise


def _killed_rank(processes: Sequence[BaseProcess]) -> int | None:
    """The local rank of a process that a signal ended, other than that by which others stop.

    Processes that lose the connection to a killed one fail, too, and may be seen first.
    """
    codes = [process.exitcode or 0 for process in processes]
    return next((n for n, code in enumerate(codes) if code < 0 and -code != signal.SIGTERM), None)


def _failure(processes: Sequence[BaseProcess], index: int) -> ProcessFailedError:
    killed = _killed_rank(processes)
    index = index if killed is None else killed
    code, pid = processes[index].exitcode, processes[index].pid
    if code >= 0:
        return ProcessFailedError(f"process {index} (pid {pid}) ended with exit code {code}", code)
    name = signal.Signals(-code).name
    text = f"process {index} of {len(processes)} (pid {pid}) was killed by {name}"
    if -code == signal.SIGKILL:
        text += (
            ". Linux does so when memory runs out (dmesg tells); then, "
            f"{LESS_MEMORY}. --resume starts from the last checkpoint"
        )
    return ProcessFailedError(text, _SHELL_OFFSET - code, killed=True)


def _free_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _run_process(
    local_rank: int,
    main: Callable[..., None],
    args: tuple[Any, ...],
    layout: tuple[int, int, int],
    dist_url: str,
    backend: str,
) -> None:
    per_machine, num_machines, machine_rank = layout
    if backend == "nccl":
        torch.cuda.set_device(local_rank)
    dist.init_process_group(
        backend,
        init_method=dist_url,
        world_size=per_machine * num_machines,
        rank=machine_rank * per_machine + local_rank,
    )
    _set_local_group(per_machine, num_machines, machine_rank)
    try:
        comm.synchronize()
        main(*args)
        comm.synchronize()  # nobody closes the connection that another still uses
    finally:
        # Detectron2 keeps a reference to the group; its threads must end before the interpreter's
        comm._get_global_gloo_group.cache_clear()
        dist.destroy_process_group()


def _set_local_group(per_machine: int, num_machines: int, machine_rank: int) -> None:
    """Tells detectron2 which processes share a machine; every process makes every group."""
    if hasattr(comm, "create_local_process_group"):
        comm.create_local_process_group(per_machine)
        return
    for machine in range(num_machines):
        first = machine * per_machine
        group = dist.new_group(list(range(first, first + per_machine)))
        if machine == machine_rank:
            comm._LOCAL_PROCESS_GROUP = group
