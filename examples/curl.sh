#!/bin/sh
# The same without any library: submit, wait, take the result. Needs curl and jq.
set -eu
URL=${FOREBAY_URL:-http://127.0.0.1:8080}
set -- --silent --show-error --fail-with-body --retry 5 --header "Content-Type: application/json"
if [ -n "${FOREBAY_API_KEY:-}" ]; then
  set -- "$@" --header "Authorization: Bearer $FOREBAY_API_KEY"
fi

# The key makes a repeat the same job, also when the first answer was lost.
id=$(curl "$@" "$URL/v1/search" --header "Idempotency-Key: example-$$" \
  --data '{"query": "hydro power", "limit": 1}' | jq --raw-output .id)
echo "accepted: $id"

# Held open until the job is done, 20 seconds at most; then ask again.
until curl "$@" "$URL/v1/jobs/$id?wait=20" | jq --exit-status .done >/dev/null; do :; done

curl "$@" "$URL/v1/jobs/$id/result" | jq --raw-output '.results[].title'

# Prints:
#   accepted: job_01a202f712bc7275b1f091bef1bd892a
#   hydro power: the measured intake and its tailrace
