"""The bytes of an evidence bundle, as docs/RECEIPTS.md says: protobuf, hashes, signatures, notes, proofs, signed commands.

Each function raises ValueError with what is wrong. Needs PyNaCl and blake3."""
import base64, hashlib, re, uuid
from types import SimpleNamespace as Message

from blake3 import blake3
from nacl.bindings import crypto_core_ed25519_is_valid_point as of_prime_order
from nacl.exceptions import CryptoError
from nacl.signing import VerifyKey

TYPE = "application/vnd.openagents.econ.v1.%s+protobuf"
KINDS = ("genesis register_agent revoke_key deposit publish_capability record_presence open_rfq cancel_rfq submit_offer accept_offer "
         "start_attempt record_metering report_output fail_attempt accept_output reject_output resolve_dispute settle_order expire_rfq "
         "expire_order reserve_payout confirm_payout fail_payout post_transfers exchange close_period send_across receive_across").split()
# Fields as name=number and type: u unsigned, U the low 32 bits of it, b bytes, s text, else a message; * repeated.
SCHEMA = {part.split()[0]: [re.fullmatch(r"(\w+)=(\d+)(\*?)(\w+)", field).groups() for field in part.split()[1:]] for part in """
Bundle order_id=1b ledger_id=2U items=3*Item checkpoint=4s keys=5*Key origin=6s metering=7*Run forest=8Forest; Run rows=1*b head_envelope=2b;
Item command=1Command receipt=2Stored inclusion=3Inclusion; Stored receipt_id=1b envelope=2b; Inclusion leaf_index=1u tree_size=2u hashes=3*b;
Command command_id=1b signature_base=2b signature=3b key_id=4b body=5b content_type=6s command_body=7b recorded_json=8s;
Forest inclusion=1Inclusion checkpoint=2s; Key public_key=1b purpose=2U; Signature key_id=1b sig=2b;
Envelope payload_type=1s payload=2b signatures=3*Signature; ServiceCommand ledger_id=1U actor_id=2b idempotency_key=3s body=4b;
Receipt ledger_id=1U seq=2u command_id=3b actor_id=4b key_id=5b kind=6s request_digest=7b body_hash=8b code=9s subject_kind=10s
subject_id=11b prev=12b ledger_time_us=13u simulated=14u rules_version=15U facts_json=16s accepted_at_us=17u log_hash=18b;
Row run_ticket_id=1b attempt_id=2b seq=3U prev_hash=4b work_units=17u; Head run_ticket_id=1b attempt_id=2b last_seq=3U last_row_hash=4b;
genesis origin=1s keys=4*Key default_policy=5Policy; Policy shares=2*Share; Share role=1U share_ppm=2U; register_agent key=1Key; revoke_key key_id=1b;
open_rfq rfq_id=1b work_units=5u asset_id=6U max_price=7s creator_id=10b referrer_id=11b; record_metering runs=1*Run;
submit_offer offer_id=1b rfq_id=2b price_per_unit=3s; accept_offer offer_id=1b spend_cap=2s; settle_order order_id=1b; expire_order order_id=1b;
start_attempt run_ticket_id=1b attempt_id=2b; report_output run_ticket_id=1b attempt_id=2b output_hash=3b; fail_attempt run_ticket_id=1b;
accept_output order_id=1b output_hash=2b; reject_output order_id=1b output_hash=2b; resolve_dispute order_id=1b output_valid=2u
""".split(";")}

def need(holds, message):
    if not holds:
        raise ValueError(message)

def varint(data, at):
    value = 0
    for n in range(10):
        need(at + n < len(data), "a number is cut short")
        value |= (data[at + n] & 127) << 7 * n
        if data[at + n] < 128:
            need(value < 1 << 64, "a number is too large")
            return value, at + n + 1
    raise ValueError("a number is too long")

def fields(data):
    at = 0
    while at < len(data):
        tag, at = varint(data, at)
        need(8 <= tag < 1 << 32 and tag & 7 in (0, 1, 2, 5), "a field is malformed")
        length, at = (0, at) if not tag & 7 else varint(data, at) if tag & 7 == 2 else ({1: 8, 5: 4}[tag & 7], at)
        need(length <= len(data) - at, "a field is longer than its message")
        value, at = (data[at:at + length], at + length) if tag & 7 else varint(data, at)
        yield tag >> 3, tag & 7, value

def decode(name, data):
    message, known, parts = Message(), {}, {}
    for field, number, many, kind in SCHEMA[name]:
        known[int(number)] = field, many, kind
        setattr(message, field, [] if many else {"u": 0, "U": 0, "b": b"", "s": ""}.get(kind))
    for number, wire, value in fields(data):
        if number in known:
            field, many, kind = known[number]
            need(wire == (0 if kind in "uU" else 2), f"{field} has another wire type")
            if kind in SCHEMA:  # A message told in parts is the sum of them.
                parts[field] = value = value if many else parts.get(field, b"") + value
                value = decode(kind, value)
            value = value.decode() if kind == "s" else value & 0xFFFFFFFF if kind == "U" else value
            getattr(message, field).append(value) if many else setattr(message, field, value)
    return message

def encode(name, message):
    number = lambda n: bytes([n]) if n < 128 else bytes([n & 127 | 128]) + number(n >> 7)
    out = b""
    for field, at, many, kind in SCHEMA[name]:
        for value in getattr(message, field) if many else [getattr(message, field)]:
            if many or value not in (0, b"", "", None):
                data = value if kind in "buU" else value.encode() if kind == "s" else encode(kind, value)
                out += number(int(at) << 3) + number(value) if kind in "uU" else number(int(at) << 3 | 2) + number(len(data)) + data
    return out

def read_command(data):
    kind, raw = "", b""
    for number, wire, value in fields(data):
        if 1 <= number <= len(KINDS):
            need(wire == 2, "a command has another wire type")
            kind, raw = KINDS[number - 1], (raw if kind == KINDS[number - 1] else b"") + value
    return kind, decode(kind, raw) if kind in SCHEMA else Message()

def attempt(what, *args):
    try:
        return what(*args)
    except (ValueError, CryptoError, RecursionError):
        return None

def hash32(data): return blake3(data).digest()
def uid(data): return str(uuid.UUID(bytes=data)) if len(data) == 16 else ""
def text(facts, name): return facts[name] if isinstance(facts, dict) and isinstance(facts.get(name), str) else ""
def whole(value): return int(value) if isinstance(value, str) and re.fullmatch("[0-9]{1,28}", value) else None
def natural(value): return value if type(value) is int and 0 <= value < 1 << 64 else None
def framed(prefix, *parts): return hash32(prefix + b"".join(len(part).to_bytes(8, "big") + part for part in parts))
# What libsodium lacks of being strict: it takes keys of mixed order, and some versions of it R of mixed order.
def usable(key): return len(key) == 32 and of_prime_order(key)

def signed(key, data, signature):
    return len(signature) == 64 and usable(signature[:32]) and attempt(VerifyKey(key).verify, data, signature) is not None

def agent_of(key):
    data = bytearray(hash32(b"econ agent v1" + key)[:16])
    data[6], data[8] = data[6] & 15 | 128, data[8] & 63 | 128
    return uid(bytes(data))

def unbase64(value):
    data = base64.b64decode(value, validate=True)
    need(base64.b64encode(data).decode() == value, "its base64 is not canonical")
    return data

def pae(payload_type, payload):
    return b"DSSEv1 %d %s %d %s" % (len(payload_type.encode()), payload_type.encode(), len(payload), payload)

def open_envelope(envelope, message, keys):
    """The payload, if exactly one of these keys (by id) signed it as this message."""
    ids = [signature.key_id for signature in envelope.signatures]
    need(envelope.payload_type == TYPE % message, "it is signed as another message")
    need(len(ids) <= 16 and all(len(i) == 32 for i in ids) and len(set(ids)) == len(ids), "its signatures are malformed")
    by = [signature for signature in envelope.signatures if signature.key_id in keys]
    need(len(by) == 1, "not exactly one known key has signed it")
    need(signed(keys[by[0].key_id], pae(envelope.payload_type, envelope.payload), by[0].sig), "its signature does not verify")
    return envelope.payload

def read_note(note, origin, key):
    """Size and root of a checkpoint (C2SP signed-note and tlog-checkpoint)."""
    need(re.fullmatch(r'[^\s+"\x00-\x1f\x7f-\x9f]{1,255}', origin) and len(origin.encode()) <= 255, "the log's name is none")
    body, blank, lines = note.rpartition("\n\n")
    need(blank and lines[-1:] == "\n" and len(note.encode()) <= 65536 and not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]", note), "it is no note")
    body, found, hint = body + "\n", [], hashlib.sha256(origin.encode() + b"\n\x01" + key).digest()[:4]
    for line in lines[:-1].split("\n"):
        parts = re.fullmatch("\u2014 ([^ ]*) (.*)", line)
        data = unbase64(parts[2]) if parts else b""
        need(len(data) >= 4, "a signature line is malformed")
        found += [data[4:]] if parts[1] == origin and data[:4] == hint else []
    need(len(found) == 1 and signed(key, body.encode(), found[0]), "it is not signed, once and well, by the receipt key")
    rows = body.split("\n")[:-1]
    need(len(rows) >= 3 and rows[0] == origin and "" not in rows[3:], "it is another log's")
    root = unbase64(rows[2])
    need(re.fullmatch("0|[1-9][0-9]{0,19}", rows[1]) and int(rows[1]) < 1 << 64 and len(root) == 32, "it states no tree")
    return int(rows[1]), root

def included(leaf, at, last, path, root):
    """RFC 9162, section 2.1.3.2; `last` is the tree's last leaf."""
    value = hashlib.sha256(b"\0" + leaf).digest()
    for other in path:
        need(len(other) == 32 and last, "its proof has the wrong length")
        value = hashlib.sha256(b"\1" + (other + value if at & 1 or at == last else value + other)).digest()
        while at == last and not at & 1 and at:
            at, last = at >> 1, last >> 1
        at, last = at >> 1, last >> 1
    need(not last and value == root, "its proof does not lead to the checkpoint's root")

def check_command(command, ledger, key):
    """That `key` signed this command for this ledger: the request's digest, and whether the signed bytes are the command's own."""
    base, target = command.signature_base, f"/v1/ledgers/{ledger}/commands"
    need(signed(key, base, command.signature), "its signature does not verify")
    if command.content_type.startswith(TYPE[:-9] % "ServiceCommand"):
        payload = re.sub(rb"\ADSSEv1 [0-9]+ [^ ]* [0-9]+ ", b"", base, count=1)
        need(command.content_type == TYPE % "ServiceCommand" and base == pae(command.content_type, payload), "it is signed as something else")
        service = decode("ServiceCommand", payload)
        need(service.ledger_id == ledger and uid(service.actor_id) == agent_of(key), "it is for another ledger, or of another agent")
        need(encode("ServiceCommand", service) == payload and service.body == command.command_body, "it is not what was executed")
        return framed(b"econ request v1", b"SERVICE", target.encode(), command.content_type.encode(), hashlib.sha256(payload).digest()), True
    *lines, params = base.decode("ascii").split("\n")
    quoted = r'"(?:[ !#-\[\]-~]|\\["\\])*"'
    shape = re.fullmatch(r'"@signature-params": \(([^()]*)\)((?:;[a-z]+=(?:%s|0|[1-9][0-9]{0,14}))*)' % quoted, params)
    rows = [re.fullmatch(r'"([a-z@-]+)": (.*)', line) for line in lines]
    need(shape and all(rows) and " ".join(f'"{row[1]}"' for row in rows) == shape[1], "its signed bytes are no signature base")
    covered, given = dict(row.groups() for row in rows), re.findall(r";([a-z]+)=(%s|[0-9]+)" % quoted, shape[2])
    said = dict(given)
    need(len(covered) == len(rows) and len(said) == len(given), "its signed bytes say something twice")
    need(set(covered) <= {"@method", "@target-uri", "content-type", "content-digest", "idempotency-key"}
         and {"created", "expires", "nonce", "keyid", "tag"} <= set(said) <= {"created", "expires", "nonce", "keyid", "tag", "alg"}
         and said["tag"] == '"econ"' and said.get("alg", '"ed25519"') == '"ed25519"' and re.fullmatch('"[!-~]{16,}"', said["nonce"])
         and said["created"].isdigit() and said["expires"].isdigit() and int(said["created"]) <= int(said["expires"]), "its parameters are not ours")
    need(covered.get("@method") == "POST" and "idempotency-key" in covered, "its signed bytes are not a command's")
    need(said["keyid"] == f'"{hash32(key).hex()}"', "its signed bytes name another key")
    uri = re.fullmatch(r'(?:https?|wss?)://[^/#]+(/[!"$-~]*)?', covered.get("@target-uri", ""))
    need(uri and covered.get("content-type") == command.content_type, "its target or its content type is another")
    digest = hashlib.sha256(command.body or command.command_body).digest()
    need(covered.get("content-digest") == f"sha-256=:{base64.b64encode(digest).decode()}:", "its body is not the one that was signed")
    need(command.body or uri[1] == target, "it is for another ledger")
    return framed(b"econ request v1", b"POST", (uri[1] or "/").encode(), command.content_type.encode(), digest), not command.body
