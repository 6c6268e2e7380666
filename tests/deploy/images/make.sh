#!/usr/bin/env bash
# Makes, from Debian's packages and the Python environment's mongod, local images that stand in for the official ones:
#
#   forebay-python:bookworm (3.11), forebay-python:trixie (3.13)   for --build-arg PYTHON_IMAGE
#   rabbitmq:4.1-management                                        trixie's broker, 4.0
#   mongo:8.0                                                      the wheel's mongod, 6.0
#
# so that compose.yaml, the manifests and the tests run unchanged where no registry can be reached. The last two names
# are the official ones: a name that is taken is left alone. Needs root, Docker, debootstrap and .venv
# (scripts/setup.sh local).
#
#   FOREBAY_DEBIAN_MIRROR   for debootstrap, if not its own choice
#   FOREBAY_CA_BUNDLE       a file of certificates for pip, where a proxy signs anew
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../../.." && pwd)
work=$(mktemp -d)
trap 'rm -rf --one-file-system "$work"' EXIT

has() { docker image inspect "$1" >/dev/null 2>&1; }

debian() { # suite: its image's name, the image made if need be
  if ! has "forebay-debian:$1"; then
    debootstrap --variant=minbase "$1" "$work/$1" ${FOREBAY_DEBIAN_MIRROR:+"$FOREBAY_DEBIAN_MIRROR"} >"$work/$1.log" ||
      { tail "$work/$1.log" >&2; return 1; }
    rm -rf "$work/$1"/var/cache/apt/archives/*.deb "$work/$1"/var/lib/apt/lists/*
    tar -C "$work/$1" -c . | docker import - "forebay-debian:$1" >/dev/null
    rm -rf --one-file-system "${work:?}/$1"
  fi
  echo "forebay-debian:$1"
}

make() { # folder, image, suite
  if has "$2"; then
    echo "$2 is there and left as it is."
    return
  fi
  local base
  base=$(debian "$3")
  docker build --quiet --network host --build-arg "DEBIAN=$base" -t "$2" "$work/$1" >/dev/null
  echo "$2 made."
}

cp -r "$here/python" "$here/rabbitmq" "$here/mongo" "$work/"
cat "${FOREBAY_CA_BUNDLE:-/dev/null}" >"$work/python/ca-bundle.crt"
mongod=$(PYTHONPATH=$root/services "$root/.venv/bin/python" -c 'from forebay.local.mongodb import find_mongod; print(find_mongod())')
install -m 755 "$mongod" "$work/mongo/mongod"

make python forebay-python:bookworm bookworm
make python forebay-python:trixie trixie
make rabbitmq rabbitmq:4.1-management trixie
make mongo mongo:8.0 bookworm
