#!/usr/bin/env bash
# A signed GraphQL request from a shell: RFC 9421 with openssl and curl.
#   sign.sh URL KEY.pem '{"query": "{ me { agentId } balances { asset spendable } }"}' [IDEMPOTENCY-KEY]
# KEY.pem is what `econ key new` wrote. Repeat a mutation with the same last argument and it happens once.
set -euo pipefail
url="${1%/}/graphql" pem="$2" body="$3" idempotency="${4:-$(openssl rand -hex 16)}"

keyid="$(econ key show "$pem" --json | sed 's/.*"key_id":"\([0-9a-f]*\)".*/\1/')"   # BLAKE3 of the public key
digest="sha-256=:$(printf %s "$body" | openssl dgst -sha256 -binary | base64 -w0):"
created="$(date +%s)"
params="(\"@method\" \"@target-uri\" \"content-type\" \"content-digest\" \"idempotency-key\")"
params="$params;created=$created;expires=$((created + 60));nonce=\"$(openssl rand -hex 16)\";keyid=\"$keyid\";tag=\"econ\""

base="$(mktemp)"
trap 'rm -f "$base"' EXIT
printf '%s\n' "\"@method\": POST" "\"@target-uri\": $url" "\"content-type\": application/json" \
  "\"content-digest\": $digest" "\"idempotency-key\": \"$idempotency\"" >"$base"
printf '%s' "\"@signature-params\": $params" >>"$base"
signature="$(openssl pkeyutl -sign -inkey "$pem" -rawin -in "$base" | base64 -w0)"

curl -sS "$url" --data-binary "$body" \
  -H "content-type: application/json" -H "content-digest: $digest" -H "idempotency-key: \"$idempotency\"" \
  -H "signature-input: econ=$params" -H "signature: econ=:$signature:"
