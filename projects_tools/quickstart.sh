#!/usr/bin/env bash
# Installs what is needed, then trains, evaluates and predicts on a small EmojiDet:
# bash projects_tools/quickstart.sh [arguments of quickstart.py; --help lists them]
# The environment is .venv in the checkout, or the folder in $CQDINO_VENV.
set -euo pipefail

# Help and wrong options need no installation.
python="${PYTHON:-python3}" tools="$(dirname "${BASH_SOURCE[0]}")"
for argument in "$@"; do
    if [[ "$argument" == -h || "$argument" == --help ]]; then
        exec "$python" "$tools/quickstart.py" --help
    fi
done
load="$(PYTHONPATH="$tools" "$python" -c 'import sys, quickstart
quickstart.parse_arguments(sys.argv[1:])
load = quickstart.load_average()
print("" if load is None else load)' "$@")"
export CQDINO_QUICKSTART_LOAD="$load"  # of before the installation, which keeps the cores busy

# shellcheck source=projects_tools/install/environment.sh
source "$tools/install/environment.sh"

exec "$PY" projects_tools/quickstart.py "$@"
