"""Runs a benchmark, or makes the data of one.

    python projects_tools/benchmark.py NAME [arguments of that benchmark; --help lists them]

all                     all areas of docs/benchmarks.md, one after the other
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
throughput              a folder of photographs, against other libraries' detectors
growth                  time and memory along one axis
training_steps          stages of a training step against transformers' models
time_model              steps of training and prediction of one config
data                    loading, mapping and ancestors against Detectron2's
evaluation              scoring against other evaluators
make_synthetic_results  the sets that `evaluation` reads
synthetic_v3det         the set that `data` makes for itself
"""

from __future__ import annotations

import sys

from named_modules import run_named

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
    "throughput",
    "training_steps",
    "time_model",
    "data",
    "evaluation",
    "make_synthetic_results",
    "synthetic_v3det",
)
MODULES = {name: f"benchmarks.{name}" for name in NAMES}
MODULES |= {"all": "benchmarks.rerun.command", "growth": "benchmarks.rerun.growth"}


def main() -> int:
    """Runs the benchmark that the command line names; returns its exit code."""
    return run_named("benchmark", MODULES, __doc__)


if __name__ == "__main__":
    sys.exit(main())
