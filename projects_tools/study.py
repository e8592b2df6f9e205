"""Runs a study: trainings that answer a question, with a table at the end.

    python projects_tools/study.py NAME [arguments of that study; --help lists them]

claim            CQ-DINO against a classification head as the vocabulary grows
two_stage        the paper's two stages against one stage for the same time
open_vocabulary  what a detector finds of emoji that no training image showed
art_styles       whether several styles of art help with such emoji
finetuning       what fine-tuning on new names leaves of the old ones
few_shot         what few images of each of some sets give
long_tail        what RichSem's parts give to categories with few boxes
"""

from __future__ import annotations

import sys

from named_modules import run_named

MODULES = {
    "claim": "studies.claim.run",
    "long_tail": "studies.long_tail.run",
    **{
        name: f"studies.{name}"
        for name in ("two_stage", "open_vocabulary", "art_styles", "finetuning", "few_shot")
    },
}


def main() -> int:
    """Runs the study that the command line names; returns its exit code."""
    return run_named("study", MODULES, __doc__)


if __name__ == "__main__":
    sys.exit(main())
