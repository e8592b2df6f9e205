"""Runs a study: trainings that answer a question, with a table at the end.

    python projects_tools/study.py NAME [arguments of that study; --help lists them]

claim            CQ-DINO against a classification head as the vocabulary grows
two_stage        the paper's two stages against one stage for the same time
open_vocabulary  what a detector finds of emoji that no training image showed
art_styles       whether several styles of art help with such emoji
finetuning       what fine-tuning on new names leaves of the old ones
few_shot         what few images of each of some sets give
"""

from __future__ import annotations

import sys
from importlib import import_module

MODULES = {
    "claim": "studies.claim.run",
    **{
        name: f"studies.{name}"
        for name in ("two_stage", "open_vocabulary", "art_styles", "finetuning", "few_shot")
    },
}


def main() -> int:
    """Hands the rest of the command line to the study; returns its exit code."""
    name = sys.argv[1] if len(sys.argv) > 1 else "--help"
    if name in ("-h", "--help"):
        print(__doc__)
        return 0
    if name not in MODULES:
        print(f"there is no study {name!r}, only {', '.join(MODULES)}", file=sys.stderr)
        return 2
    sys.argv[:2] = [f"{sys.argv[0]} {name}"]
    return import_module(MODULES[name]).main() or 0


if __name__ == "__main__":
    sys.exit(main())
