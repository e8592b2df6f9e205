# Sourced by run_tests.sh and quickstart.sh: sets ROOT, VENV and PY, and sees to the environment.
#
# The folder is $CQDINO_VENV, else .venv in the checkout. It is made or completed by install.sh,
# which takes a second when all is there. An environment that install.sh did not make is used as
# it is (run install.sh --venv on it to complete it); the checkout's own package comes first.
# shellcheck shell=bash

ROOT="$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)"
VENV="${CQDINO_VENV:-$ROOT/.venv}"

if [[ -x "$VENV/bin/python" && ! -d "$VENV/.cqdino" ]]; then
    printf '[environment] using %s as it is\n' "$VENV"
else
    bash "$ROOT/projects_tools/install.sh" --venv "$VENV"
fi
VENV="$(cd "$VENV" && pwd)"
# shellcheck disable=SC2034
PY="$VENV/bin/python"
export PYTHONPATH="$ROOT${PYTHONPATH:+:$PYTHONPATH}"
cd "$ROOT" || exit 1
