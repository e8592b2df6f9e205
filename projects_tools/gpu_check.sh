#!/usr/bin/env bash
# All checks that need an NVIDIA GPU, on a machine that has one:
#   PY=python3 bash projects_tools/gpu_check.sh [OUTPUT_FOLDER]
# Builds the operators in place, runs the tests marked "cuda", the operators' tests under
# compute-sanitizer, the operators' benchmark, and full-size training and prediction in bfloat16.
# PY needs torch, numpy, pytest, ninja, Detectron2 and timm. Logs go to OUTPUT_FOLDER (default
# output/gpu_check); a table comes last. The exit code is 1 if anything failed.
set -uo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1
PY="${PY:-python3}"
output="${1:-output/gpu_check}"
mkdir -p "$output" || exit 1
export PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}"
rows=()
failed=0

# check NAME COMMAND...: its output goes to NAME.log, its end into the table.
check() {
    local name="$1" begun=$SECONDS result=passed
    shift
    printf '[gpu_check] %s ...\n' "$name"
    if ! "$@" >"$output/$name.log" 2>&1; then
        result=FAILED
        failed=1
        tail -n 20 "$output/$name.log"
    fi
    rows+=("$(printf '%-11s %-7s %4d s  %s' "$name" "$result" $((SECONDS - begun)) \
        "$(tail -n 1 "$output/$name.log" | cut -c 1-90)")")
}

build() {
    FORCE_CUDA=1 CQDINO_REQUIRE_EXTENSION=1 "$PY" setup.py build_ext --inplace &&
        "$PY" -W ignore -c 'from cqdino_d2 import ops; assert ops.backend("cuda") == "compiled"'
}

sanitize() {
    if ! command -v compute-sanitizer >/dev/null; then
        printf 'compute-sanitizer is not on the PATH\n'
        return 1
    fi
    compute-sanitizer --tool "$1" --error-exitcode 9 --target-processes all \
        "$PY" -m pytest -p no:cacheprovider -m "cuda and not slow" tests/ops \
        -k "definition or gradients or outside or beside"
}

model() {
    "$PY" -W ignore projects_tools/benchmark.py time_model --config configs/v3det/cqdino_tree_swinb22k.py \
        --size 800 1216 --batch 2 --categories 13204 --steps 10 --device cuda "$@"
}

check build build
if ((failed == 0)); then
    check tests "$PY" -m pytest -m cuda tests
    check memcheck sanitize memcheck
    check racecheck sanitize racecheck
    check benchmark "$PY" -W ignore projects_tools/benchmark.py ops --device cuda \
        --json "$output/benchmark.json"
    check model model
    check bfloat16 model --autocast
fi
printf '\n'
printf '%s\n' "${rows[@]}"
if [[ -f "$output/benchmark.log" ]]; then cat "$output/benchmark.log"; fi
exit "$failed"
