#!/usr/bin/env bash
# Looks for mistakes and known weaknesses in what is shipped besides Python code.
#
#   scripts/scan.sh quick   yamllint, hadolint, shellcheck: a few seconds, part of `make check`
#   scripts/scan.sh         the same, then checkov on the Dockerfile and on every rendered overlay,
#                           and pip-audit on what the image installs
#
# checkov and pip-audit live in an environment of their own under .run/, because they bring a hundred packages.
# Exceptions, each with its reason, are in .yamllint.yaml and .checkov.yaml; hadolint and shellcheck need none.
# Exit codes: 0 clean, 1 something was found, 2 something could not be looked at.
set -uo pipefail
cd "$(dirname "$0")/.." || exit

venv=.run/scan
found=0 unseen=0

judge() { # name, command...: runs it and remembers how it went
  local name=$1
  shift
  if "$@"; then echo "$name: clean"; else
    echo "$name: see above" >&2
    found=1
  fi
}

quick() {
  mapfile -t yaml < <(find . \( -name .venv -o -name .run -o -name .git \) -prune -o -name '*.y*ml' -print)
  mapfile -t shell < <(find scripts tests -name '*.sh')
  judge "yamllint, ${#yaml[@]} files" .venv/bin/yamllint --strict -c .yamllint.yaml "${yaml[@]}"
  judge "hadolint" .venv/bin/hadolint Dockerfile
  judge "shellcheck, $((${#shell[@]} + 1)) files" .venv/bin/shellcheck "${shell[@]}" .ci/run
}

install() { # from hashes, when the lock file is another one than at the last time
  [ "$(cat $venv/.lock 2>/dev/null)" = "$(sha256sum requirements/scan.txt)" ] && return
  echo "Installing checkov and pip-audit into $venv ..."
  .venv/bin/python -m venv --clear --without-pip $venv || return
  .venv/bin/uv pip install -q --python $venv/bin/python --require-hashes -r requirements/scan.txt || return
  sha256sum requirements/scan.txt >$venv/.lock
}

manifests() { # what a cluster and an image builder would get
  local folder=.run/scanned overlay
  rm -rf $folder
  mkdir -p $folder
  cp Dockerfile $folder/
  for overlay in deploy/k8s/overlays/*/; do
    .venv/bin/kubectl kustomize "$overlay" >"$folder/$(basename "$overlay").yaml" || return
  done
  # It would ask a service of its makers for nicer words; nothing of ours leaves this machine.
  $venv/bin/checkov --config-file .checkov.yaml --directory $folder
}

packages() { # by the advisories that the package index serves with each release
  local report=.run/scanned/packages.json
  $venv/bin/pip-audit --requirement requirements/runtime.txt --no-deps --disable-pip --progress-spinner off \
    --format json --output $report 2>.run/scanned/pip-audit.log
  local code=$?
  $venv/bin/python - $report <<'PYTHON'
import json, pathlib, sys

report = pathlib.Path(sys.argv[1])
packages = json.loads(report.read_text())["dependencies"] if report.exists() else []
unseen = [one["name"] for one in packages if "skip_reason" in one]
weak = {one["name"]: [each["id"] for each in one["vulns"]] for one in packages if one.get("vulns")}
for name, ids in sorted(weak.items()):
    print(f"{name}: {', '.join(ids)}")
if weak:
    sys.exit(1)
if unseen or not packages:
    print(f"The package index told of no advisories for {len(unseen)} of {len(packages)} packages.")
    sys.exit(2)
PYTHON
  local verdict=$?
  [ $code -gt 1 ] && verdict=2
  case $verdict in
    0) echo "pip-audit: clean" ;;
    1) found=1 ;;
    *)
      echo "pip-audit: NOT DONE, see .run/scanned/pip-audit.log; it needs an index that serves advisories" >&2
      unseen=1
      ;;
  esac
}

quick
if [ "${1:-}" != quick ]; then
  if install; then
    judge "checkov" manifests
    packages
  else
    echo "checkov and pip-audit could not be installed" >&2
    unseen=1
  fi
fi
[ $found = 0 ] || exit 1
[ $unseen = 0 ] || exit 2
