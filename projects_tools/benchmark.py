"""Runs a benchmark, or makes the data of one.

    python projects_tools/benchmark.py NAME [arguments of that benchmark; --help lists them]

ops                     the operators against grid_sample
categories              the category part as the vocabulary grows
model                   whole-model inference against its plain formulation
profile_model           what each stage costs as the vocabulary grows
cpu_room                what each part that only makes CPUs faster gains
serving                 the HTTP API at 1, 8 and 32 clients, with and without batches
text_prompts            our Grounding DINO against that of transformers
export                  eager mode, compiled, onnxruntime, OpenVINO and 8 bits
edge                    the light form of Grounding DINO against Swin-T
text_training           training steps by words against CQ-DINO's
time_model              steps of training and prediction of one config
data                    loading, mapping and ancestors against Detectron2's
evaluation              scoring against other evaluators
make_synthetic_results  the sets that `evaluation` reads
synthetic_v3det         the set that `data` makes for itself
"""

from __future__ import annotations

import sys
from importlib import import_module

NAMES = (
    "ops",
    "categories",
    "model",
    "profile_model",
    "cpu_room",
    "serving",
    "text_prompts",
    "export",
    "edge",
    "text_training",
    "time_model",
    "data",
    "evaluation",
    "make_synthetic_results",
    "synthetic_v3det",
)


def main() -> int:
    """Hands the rest of the command line to the benchmark; returns its exit code."""
    name = sys.argv[1] if len(sys.argv) > 1 else "--help"
    if name in ("-h", "--help"):
        print(__doc__)
        return 0
    if name not in NAMES:
        print(f"there is no benchmark {name!r}, only {', '.join(NAMES)}", file=sys.stderr)
        return 2
    sys.argv[:2] = [f"{sys.argv[0]} {name}"]
    return import_module(f"benchmarks.{name}").main() or 0


if __name__ == "__main__":
    sys.exit(main())
