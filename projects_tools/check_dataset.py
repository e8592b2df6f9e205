"""Checks the data of a config before a long run.

Examples:
    python projects_tools/check_dataset.py --config-file configs/v3det/cqdino_tree_swinb22k.py
    python projects_tools/check_dataset.py --config-file C --images all --output output/check

Looks at the annotations of all training, image-level and test sets, opens images (a sample, or
all), maps some training samples as the training would, compares vocabularies, tree and category
embeddings, and writes two figures: contact_sheet.png (training samples with their boxes) and
category_frequency.png. The exit code is 0 if a training can start, 1 if something is wrong, 2 if
the config cannot be used.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from cqdino_d2.structures import log_to_terminal, one_line

if TYPE_CHECKING:  # what takes seconds to import is imported once the command line is read
    from omegaconf import DictConfig

    from cqdino_d2.data.checks import Findings


def check(cfg: DictConfig, given: argparse.Namespace, findings: Findings) -> None:
    """All checks of a config, and the two figures."""
    from detectron2.config import instantiate

    from cqdino_d2.data.checks import ImageChoice, check_mapper, check_sets
    from cqdino_d2.data.image_level.checks import check_image_level_sets
    from cqdino_d2.data.prompting.checks import check_prompted_sets, is_prompted
    from cqdino_d2.visualization.dataset_pictures import draw_contact_sheet, draw_frequencies

    count = None if given.images == "all" else int(given.images)
    choice = ImageChoice(count, given.workers, cfg.train.seed)
    frequencies = (check_prompted_sets if is_prompted(cfg) else check_sets)(cfg, choice, findings)
    if len(frequencies):
        draw_frequencies(frequencies, given.output / "category_frequency.png")
        findings.say(f"{given.output / 'category_frequency.png'}")
    check_image_level_sets(cfg, choice, findings)
    if findings.problems:
        return
    samples = check_mapper(cfg, given.samples, findings)
    draw_contact_sheet(samples, instantiate(cfg.vocabulary), given.output / "contact_sheet.png")
    findings.say(f"{given.output / 'contact_sheet.png'}")


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config-file", required=True, metavar="FILE", help="a lazy config")
    parser.add_argument("--images", default="1000", help="images to open per set: a number or all")
    parser.add_argument("--samples", type=int, default=16, help="on the contact sheet")
    parser.add_argument("--workers", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--output", type=Path, help="folder of the figures (default: the run's)")
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="override the config")
    given = parser.parse_args(arguments)
    if given.images != "all" and not given.images.isdigit():
        parser.error(f"--images is a number or 'all', got {given.images!r}")
    return given


def main(arguments: Sequence[str] | None = None) -> int:
    """Checks; returns the exit code."""
    log_to_terminal("%(message)s", logging.ERROR)
    given = parse_arguments(arguments)
    from omegaconf import OmegaConf

    from cqdino_d2.data import register_all
    from cqdino_d2.data.checks import Findings
    from cqdino_d2.engine import load_config

    findings = Findings(lambda line: print(line, flush=True))
    try:
        cfg = load_config(given.config_file, given.overrides)
        register_all(cfg.train.get("datasets_root"))
        OmegaConf.resolve(cfg.train)
        given.output = given.output or Path(cfg.train.output_dir) / "check"
        given.output.mkdir(parents=True, exist_ok=True)
        check(cfg, given, findings)
    except (ValueError, OSError) as error:
        print(f"check_dataset: {one_line(str(error))}", file=sys.stderr)
        return 2
    print(f"{len(findings.problems)} problems")
    return 1 if findings.problems else 0


if __name__ == "__main__":
    sys.exit(main())
