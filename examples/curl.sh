#!/bin/sh
# The same without any library: submit, wait, take the result. Needs curl alone.
set -eu
URL=${FOREBAY_URL:-http://127.0.0.1:8080}
set -- --silent --show-error --fail-with-body --retry 5 --header "Content-Type: application/json"
if [ -n "${FOREBAY_API_KEY:-}" ]; then
  set -- "$@" --header "Authorization: Bearer $FOREBAY_API_KEY"
fi

# The key makes a repeat the same job, also when the first answer was lost.
id=$(curl "$@" "$URL/v1/search" --header "Idempotency-Key: example-$$" \
  --data '{"query": "hydro power", "limit": 1}' | sed 's/.*"id":"\(job_[0-9a-f]*\)".*/\1/')
echo "accepted: $id"

# Held open until the job is done, 20 seconds at most; then ask again.
job=
until echo "$job" | grep --quiet '"done":true'; do
  job=$(curl "$@" "$URL/v1/jobs/$id?wait=20")
done

result=$(curl "$@" "$URL/v1/jobs/$id/result")
echo "first: $(echo "$result" | sed 's/.*"title":"\([^"]*\)".*/\1/')"

# Prints:
#   accepted: job_01a202f712bc7275b1f091bef1bd892a
#   first: hydro power: the measured intake and its tailrace
