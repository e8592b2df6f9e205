#!/usr/bin/env bash
# Lint, layout rules and all tests: bash projects_tools/run_tests.sh [pytest arguments]
# Makes its environment first if there is none (.venv, or the folder in $CQDINO_VENV).
set -euo pipefail

# shellcheck source=projects_tools/install/environment.sh
source "$(dirname "${BASH_SOURCE[0]}")/install/environment.sh"

printf '[run_tests] ruff check\n'
"$PY" -m ruff check .
printf '[run_tests] ruff format --check\n'
"$PY" -m ruff format --check .
printf '[run_tests] file and function budgets, import rules\n'
"$PY" -m pytest --durations=0 tests/test_style_budgets.py tests/test_import_rules.py
printf '[run_tests] pytest %s\n' "$*"
exec "$PY" -m pytest "$@"
