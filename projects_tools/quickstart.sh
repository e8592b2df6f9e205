#!/usr/bin/env bash
# Installs what is needed, then trains, evaluates and predicts on a small EmojiDet:
# bash projects_tools/quickstart.sh [arguments of quickstart.py; --help lists them]
# The environment is .venv in the checkout, or the folder in $CQDINO_VENV.
set -euo pipefail

# Help needs no installation.
for argument in "$@"; do
    if [[ "$argument" == -h || "$argument" == --help ]]; then
        exec "${PYTHON:-python3}" "$(dirname "${BASH_SOURCE[0]}")/quickstart.py" --help
    fi
done

# shellcheck source=projects_tools/install/environment.sh
source "$(dirname "${BASH_SOURCE[0]}")/install/environment.sh"

exec "$PY" projects_tools/quickstart.py "$@"
