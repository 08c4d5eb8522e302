#!/usr/bin/env bash
# Build xpdl and try it, as scripts/check_package.sh does, with each Python from 3.11 on that this machine has or can get:
#
#     scripts/check_pythons.sh [VERSION...]
#
# They are looked for on PATH, under pyenv, and with uv, which downloads one where it may. Those that are nowhere are listed,
# and are no failure; none at all is one.
set -uo pipefail

root=$(cd "$(dirname "$0")/.." && pwd)
versions=("${@:-}")
[ -n "${versions[0]}" ] || versions=(3.11 3.12 3.13 3.14)

# print the path of a Python of the version, if there is one
find_python() {
  local name
  for name in "python$1" "${PYENV_ROOT:-$HOME/.pyenv}"/versions/"$1"*/bin/python; do
    if command -v "$name" > /dev/null && "$name" -c 'import ensurepip, venv' 2> /dev/null; then
      command -v "$name"
      return
    fi
  done
  command -v uv > /dev/null && { uv python find -q "$1" 2> /dev/null || { uv python install -q "$1" && uv python find -q "$1"; }; } 2> /dev/null
}

passed=() failed=() missing=()
for version in "${versions[@]}"; do
  if ! python=$(find_python "$version") || [ -z "$python" ]; then
    missing+=("$version")
    continue
  fi
  printf '\n== Python %s: %s\n' "$version" "$python"
  if "$root/scripts/check_package.sh" "$python"; then passed+=("$version"); else failed+=("$version"); fi
done

printf '\npassed: %s; failed: %s; not on this machine: %s\n' "${passed[*]:-none}" "${failed[*]:-none}" "${missing[*]:-none}"
[ "${#failed[@]}" -eq 0 ] && [ "${#passed[@]}" -gt 0 ]
