#!/usr/bin/env bash
# Makes .venv with what a group of commands needs: `scripts/setup.sh local` for running the system,
# `scripts/setup.sh dev` for its tests as well. Says nothing when there is nothing to do.
#
# Everything is installed from files that carry hashes. A stamp remembers them, so that a second run
# takes a few milliseconds. Only Python's venv package may be installed outside the checkout.
set -euo pipefail
cd "$(dirname "$0")/.."

group=${1:?usage: scripts/setup.sh local|dev}
lock=requirements/$group.txt
venv=.venv
[ -f "$lock" ] || { echo "There is no $lock." >&2; exit 1; }

fail() { # what, why, what to do: a line each
  printf '%s\n' "$@" >&2
  exit 1
}

stamp_of() { cat "requirements/$1.txt" requirements/build.txt requirements/uv.txt pyproject.toml | sha256sum; }
is_current() { [ -x $venv/bin/python ] && [ "$(cat "$venv/.forebay-$1" 2>/dev/null)" = "$(stamp_of "$1")" ]; }

# dev.txt holds all of local.txt, in the same versions.
if is_current "$group" || { [ "$group" = local ] && is_current dev; }; then exit 0; fi

find_python() {
  local candidate
  for candidate in "${FOREBAY_PYTHON:-}" python3 python3.11 python3.12 python3.13 python3.14; do
    [ -n "$candidate" ] || continue
    if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
      command -v "$candidate"
      return
    fi
  done
}

apt_install() { # as root, or by sudo if it asks no password or somebody can type one
  local root=()
  if [ "$(id -u)" != 0 ]; then
    command -v sudo >/dev/null && { sudo -n true 2>/dev/null || [ -t 0 ]; } || return 1
    root=(sudo)
  fi
  command -v apt-get >/dev/null || return 1
  local install=("${root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "$@")
  "${install[@]}" >.run/setup.log 2>&1 && return
  "${root[@]}" apt-get update -q >>.run/setup.log 2>&1
  "${install[@]}" >>.run/setup.log 2>&1
}

make_venv() {
  local python
  python=$(find_python)
  if [ -z "$python" ]; then
    echo "Installing python3 with apt-get ..."
    apt_install python3 python3-venv || fail "Python 3.11 or newer is missing and could not be installed." \
      "Install it, or name one: FOREBAY_PYTHON=/path/to/python3 make $group"
    python=$(find_python)
    [ -n "$python" ] || fail "The distribution's python3 is older than 3.11." \
      "Install a newer one and name it: FOREBAY_PYTHON=/path/to/python3"
  fi
  if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
    echo "Installing python3-venv with apt-get ..."
    apt_install python3-venv || fail "This Python cannot make virtual environments: python3-venv is missing." \
      "It could not be installed: not root, no sudo, or no network (see .run/setup.log)." \
      "As root: apt-get install python3-venv"
  fi
  echo "Making $venv with $("$python" --version) ..."
  "$python" -m venv "$venv" || fail "$venv could not be made with $python." "Remove it (rm -r $venv) and try again."
}

install_all() { # uv is quick; pip knows settings of its own (a mirror, a proxy) that uv does not read
  if $venv/bin/uv pip install -q --python $venv/bin/python --require-hashes "$@" 2>>.run/setup.log; then return; fi
  echo "  uv could not (see .run/setup.log); trying pip ..."
  $venv/bin/python -m pip install -q --disable-pip-version-check --require-hashes "$@" 2>>.run/setup.log
}

mkdir -p .run
: >.run/setup.log
[ -x $venv/bin/python ] || make_venv

echo "Installing Python packages of $lock into $venv (a minute at most on a quick line) ..."
$venv/bin/python -m pip install -q --disable-pip-version-check --require-hashes -r requirements/uv.txt 2>>.run/setup.log ||
  fail "pip could not install uv: $(tail -n 1 .run/setup.log)" \
    "Is the network there? Is a mirror set (pip config list)? All of it: .run/setup.log"
install_all -r "$lock" -r requirements/build.txt ||
  fail "The packages could not be installed: $(tail -n 1 .run/setup.log)" "All of it: .run/setup.log"
$venv/bin/uv pip install -q --python $venv/bin/python --no-deps --no-build-isolation -e . 2>>.run/setup.log ||
  $venv/bin/python -m pip install -q --disable-pip-version-check --no-deps --no-build-isolation -e . 2>>.run/setup.log ||
  fail "Forebay itself could not be installed: $(tail -n 1 .run/setup.log)" "All of it: .run/setup.log"

stamp_of "$group" >"$venv/.forebay-$group"
echo "Python is ready."
