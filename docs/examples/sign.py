#!/usr/bin/env python3
"""A signed GraphQL request from Python: RFC 9421 with PyNaCl (pip install pynacl blake3).

sign.py URL KEY.pem '{ me { agentId } balances { asset spendable } }' [VARIABLES-JSON [IDEMPOTENCY-KEY]]
KEY.pem is what `econ key new` wrote. Repeat a mutation with the same last argument and it happens once.
"""
import base64, hashlib, json, secrets, sys, time, urllib.error, urllib.request

import blake3, nacl.signing


def graphql(url, key, query, variables=None, idempotency_key=None):
    url = url.rstrip("/") + "/graphql"
    body = json.dumps({"query": query, "variables": variables or {}}).encode()
    headers = {
        "content-type": "application/json",
        "content-digest": f"sha-256=:{base64.b64encode(hashlib.sha256(body).digest()).decode()}:",
        "idempotency-key": f'"{idempotency_key or secrets.token_hex(16)}"',
    }
    covered = {"@method": "POST", "@target-uri": url, **headers}
    now = int(time.time())
    keyid = blake3.blake3(bytes(key.verify_key)).hexdigest()
    params = (
        "(" + " ".join(f'"{name}"' for name in covered) + ")"
        f';created={now};expires={now + 60};nonce="{secrets.token_hex(16)}";keyid="{keyid}";tag="econ"'
    )
    base = "\n".join([f'"{name}": {value}' for name, value in covered.items()] + [f'"@signature-params": {params}'])
    signature = base64.b64encode(key.sign(base.encode()).signature).decode()
    headers |= {"signature-input": f"econ={params}", "signature": f"econ=:{signature}:"}
    try:
        with urllib.request.urlopen(urllib.request.Request(url, body, headers)) as answer:
            return json.load(answer)
    except urllib.error.HTTPError as refusal:  # RFC 9457: code, detail, hint
        return json.load(refusal)


def load_key(path):
    pem = "".join(line for line in open(path).read().splitlines() if not line.startswith("-"))
    return nacl.signing.SigningKey(base64.b64decode(pem)[-32:])


if __name__ == "__main__":
    url, pem, query, *rest = sys.argv[1:]
    variables = json.loads(rest[0]) if rest else None
    print(json.dumps(graphql(url, load_key(pem), query, variables, *rest[1:2]), indent=2))
