"""Trains or evaluates a detector from a lazy config.

    python train_net.py --config-file configs/emojidet/quickstart.py train.output_dir=output/small
    python train_net.py --config-file ... --resume
    python train_net.py --config-file ... --eval-only train.init_checkpoint=output/small/...

Runs on all that is asked for with --num-gpus, on the CPU where there is none. What is wrong in the
input is one line and exit code 2, a bug is a traceback and exit code 1; a process that was killed
ends the program with 128 + the number of the signal, so does Ctrl-C (130).
"""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # what takes seconds to import is imported once the command line is read
    from cqdino_d2.engine import Evaluation, Training


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config-file", required=True, metavar="FILE", help="a lazy config")
    parser.add_argument(
        "--resume", action="store_true", help="resume from the last checkpoint in train.output_dir"
    )
    parser.add_argument(
        "--eval-only", action="store_true", help="only evaluate train.init_checkpoint"
    )
    parser.add_argument(
        "--num-gpus", type=int, help="per machine; default: 1 if there is one, else 0 (CPU)"
    )
    parser.add_argument(
        "--num-cpu-processes",
        type=int,
        help="train on the CPU with N processes per machine",
        metavar="N",
    )
    parser.add_argument("--num-machines", type=int, default=1)
    parser.add_argument("--machine-rank", type=int, default=0)
    parser.add_argument(
        "--dist-url", default="auto", help="tcp://HOST:PORT of machine 0; auto: a free local port"
    )
    parser.add_argument(
        "--traceback", action="store_true", help="show where an error in the input was found"
    )
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="override the config")
    return parser


def prepare(args: argparse.Namespace) -> Training | Evaluation:
    """The job of one process, ready to run."""
    from detectron2.utils import comm
    from detectron2.utils.logger import setup_logger

    from cqdino_d2.data import load_category_embeddings, register_all
    from cqdino_d2.engine import Evaluation, FolderLock, Training, load_config
    from cqdino_d2.structures import show_records

    device = ["train.device=cpu"] if args.num_gpus == 0 else []
    cfg = load_config(args.config_file, [*args.overrides, *device])
    if comm.is_main_process():  # before a second run writes into the first one's log
        Path(cfg.train.output_dir).mkdir(parents=True, exist_ok=True)
        FolderLock(cfg.train.output_dir)
    for name in ("detectron2", "fvcore", "cqdino_d2"):
        setup_logger(cfg.train.output_dir, distributed_rank=comm.get_rank(), name=name)
        show_records(logging.getLogger(name))
    register_all(cfg.train.get("datasets_root"))
    if args.eval_only:
        return Evaluation.prepare(cfg)
    return Training.prepare(cfg, resume=args.resume, load_embeddings=load_category_embeddings)


def run_process(args: argparse.Namespace) -> None:
    """What each process does."""
    from cqdino_d2.engine import one_line_errors, report_a_full_disk_once

    report_a_full_disk_once()
    with one_line_errors(traceback=args.traceback, preparing=True):
        job = prepare(args)
    with one_line_errors(traceback=args.traceback, preparing=False):
        job.run()


def main() -> None:
    """Starts the processes and passes their exit code on."""
    parser = build_parser()
    args = parser.parse_intermixed_args()
    if args.num_gpus and args.num_cpu_processes:
        parser.error("--num-gpus and --num-cpu-processes exclude each other")
    import torch

    from cqdino_d2.engine import INTERRUPTED, LaunchError, ProcessFailedError, launch

    if args.num_gpus is None:
        args.num_gpus = 0 if args.num_cpu_processes else min(1, torch.cuda.device_count())
    try:
        launch(
            run_process,
            args=(args,),
            processes_per_machine=args.num_gpus or args.num_cpu_processes or 1,
            num_machines=args.num_machines,
            machine_rank=args.machine_rank,
            dist_url=args.dist_url,
            backend="nccl" if args.num_gpus else "gloo",
        )
    except LaunchError as error:
        parser.error(str(error))
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    except ProcessFailedError as error:
        if error.killed:
            logging.getLogger("cqdino_d2").error("%s", error)
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
