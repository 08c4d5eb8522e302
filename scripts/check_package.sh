#!/usr/bin/env bash
# Build the sdist and from it the wheel, check their metadata, and try the wheel in an environment that has nothing else:
#
#     scripts/check_package.sh [PYTHON]
#
# The tools are those of .ci/package.lock, made by
#
#     printf 'build\nhatchling\ntwine\n' | uv pip compile - --generate-hashes -c .ci/constraints.txt \
#         --python-version 3.11 --no-annotate --no-header -o .ci/package.lock
set -euo pipefail

root=$(cd "$(dirname "$0")/.." && pwd)
python=${1:-python3}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_CONSTRAINT="$root/.ci/constraints.txt"
# else the checkout would be imported, and a run might have its backend chosen for it
unset PYTHONPATH XPDL_BACKEND

"$python" -m venv "$work/tools"
"$work/tools/bin/pip" install -q --no-compile --require-hashes -r "$root/.ci/package.lock"
"$work/tools/bin/python" -m build --no-isolation --outdir "$work/dist" "$root"
"$work/tools/bin/twine" check --strict "$work"/dist/*

"$python" -m venv "$work/empty"
"$work/empty/bin/pip" install -q "$work"/dist/*.whl
cd "$work"
"$work/empty/bin/pip" check
"$work/empty/bin/python" -W error "$root/scripts/smoke.py" "$root"
"$work/empty/bin/xpdl" --version
"$work/empty/bin/xpdl" info
