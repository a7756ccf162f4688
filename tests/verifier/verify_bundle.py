#!/usr/bin/env python3
"""Judges an evidence bundle as docs/RECEIPTS.md says, and from nothing else: `verify_bundle.py FILE [--key HEX]`.

Needs PyNaCl and blake3. Exit status 0: it holds, 1: it does not, 2: no bundle. The first thing wrong ends it, even an
error of Python's. trust has checkpoint and forest in it, receipts has ledger, deadline, log and links, commands has
content, terms has order. Left to `econ verify bundle`: witnesses, what a GraphQL request asked for, request_digest and
a report's hash in facts, the finer form of notes and signature parameters, commands with a message told in parts."""
import base64, hashlib, json, re, sys, uuid
from types import SimpleNamespace as Message
from blake3 import blake3
from nacl.bindings import crypto_core_ed25519_is_valid_point
from nacl.signing import VerifyKey

MAGIC = b"econ evidence 1\n"
TYPE = "application/vnd.openagents.econ.v1.%s+protobuf"
MOVES = """/accept_offer/ordered ordered/start_attempt/running ordered/expire_order/refunded
    ordered/fail_attempt/refunded running/report_output/reported running/fail_attempt/refunded
    running/expire_order/refunded reported/accept_output/accepted reported/reject_output/disputed
    reported/judge_valid/accepted reported/judge_invalid/refunded disputed/judge_valid/accepted
    disputed/judge_invalid/refunded accepted/settle_order/settled""".split()
# Whose step it is: a party in the facts, or the keys of a purpose in the genesis.
STEPS = {"buyer_id": "open_rfq accept_offer accept_output reject_output settle_order", 4: "genesis",
         "provider_id": "start_attempt record_metering report_output fail_attempt", 5: "settle_order expire_order",
         6: "resolve_dispute"}
# Fields as name=number and type: u unsigned, i signed, b bytes, s text, else a message (as the field); * repeated.
SCHEMA = {part.split()[0]: {int(number): (field, many, kind or field) for field, number, many, kind in
                            re.findall(r"(\w+)=(\d+)(\*?)(\w*)", part)} for part in """
Bundle order_id=1b ledger_id=2u items=3*Item checkpoint=4s keys=5*Key origin=6s metering=7*Run forest=8Forest; Item
command=1Command receipt=2Stored inclusion=3Proof; Command command_id=1b signature_base=2b signature=3b key_id=4b
body=5b content_type=6s command_body=7b recorded_json=8s; Stored receipt_id=1b envelope=2b; Proof leaf_index=1u
tree_size=2u hashes=3*b; Forest inclusion=1Proof checkpoint=2s; Key public_key=1b purpose=2u; Run rows=1*b
head_envelope=2b; Envelope payload_type=1s payload=2b signatures=3*Signature; Signature key_id=1b sig=2b; Receipt
ledger_id=1u seq=2u command_id=3b actor_id=4b key_id=5b kind=6s body_hash=8b code=9s subject_id=11b prev=12b
ledger_time_us=13i facts_json=16s log_hash=18b include_by_us=19i; Row run_ticket_id=1b attempt_id=2b seq=3u prev_hash=4b
work_units=17u; Head run_ticket_id=1b attempt_id=2b last_seq=3u last_row_hash=4b; ServiceCommand ledger_id=1u
actor_id=2b idempotency_key=3s body=4b; CommandBody genesis=1 register_agent=2 revoke_key=3 open_rfq=7 submit_offer=9
accept_offer=10 start_attempt=11 record_metering=12 report_output=13 fail_attempt=14 accept_output=15 reject_output=16
resolve_dispute=17 settle_order=18 expire_order=20; genesis origin=1s keys=4*Key default_policy=5Policy; Policy
shares=2*Share; Share role=1u share_ppm=2u; register_agent key=1Key; revoke_key key_id=1b; open_rfq rfq_id=1b
work_units=5u asset_id=6u max_price=7s creator_id=10b referrer_id=11b; submit_offer offer_id=1b rfq_id=2b
price_per_unit=3s; accept_offer offer_id=1b spend_cap=2s; start_attempt run_ticket_id=1b attempt_id=2b; record_metering
runs=1*Run; report_output run_ticket_id=1b attempt_id=2b output_hash=3b; fail_attempt run_ticket_id=1b; accept_output
order_id=1b output_hash=2b; reject_output order_id=1b output_hash=2b; resolve_dispute order_id=1b output_valid=2u;
settle_order order_id=1b; expire_order order_id=1b
""".split(";")}

def need(holds, message):
    if not holds:
        raise ValueError(message)

def varint(data, at, strict):
    value = size = 0
    while size == 0 or data[at - 1] > 127:
        value, at, size = value | (data[at] & 127) << 7 * size, at + 1, size + 1
    need(value < 1 << 64 and not (strict and size > 1 and data[at - 1] == 0), "a number is too large or too long")
    return value, at

def decode(name, data, strict=False):  # Strict: of one message there is one form.
    absent, last, at = {"u": 0, "i": 0, "b": b"", "s": ""}, 0, 0
    message = Message(**{field: [] if many else absent.get(kind) for field, many, kind in SCHEMA[name].values()})
    while at < len(data):
        tag, at = varint(data, at, strict)
        value, at = varint(data, at, strict)
        need(tag > 7 and tag & 7 in (0, 2), "a field is malformed")
        if tag & 7 == 2:
            need(value <= len(data) - at, "a field is longer than its message")
            value, at = data[at:at + value], at + value
        field, many, kind = SCHEMA[name].get(tag >> 3, ("", "", ""))
        need(not strict or field and tag >> 3 >= last + (not many), "it has bytes that are no part of it")
        last = tag >> 3
        if field:
            need(tag & 7 == (0 if kind in "ui" else 2), f"{field} has another wire type")
            value = (decode(kind, value, strict) if kind in SCHEMA else value.decode() if kind == "s" else
                     value - (1 << 64) if kind == "i" and value >> 63 else value)
            need(not strict or many or value != absent.get(kind), "it states what is absent")
            getattr(message, field).append(value) if many else setattr(message, field, value)
    return message

def hash32(data): return blake3(data).digest()
def sha256(data): return hashlib.sha256(data).digest()
def uid(data): return str(uuid.UUID(bytes=data)) if data else ""
def whole(digits): return int(re.fullmatch("[0-9]{1,28}", digits)[0])
def depth(v): return 1 + max(map(depth, v.values() if type(v) is dict else v if type(v) is list else ()), default=0)
def pae(kind, payload): return b"DSSEv1 %d %b %d %b" % (len(kind.encode()), kind.encode(), len(payload), payload)
# libsodium takes keys, and in some versions R, of mixed order when it verifies.
def usable(key): return len(key) == 32 and crypto_core_ed25519_is_valid_point(key)
def by_id(keys): return {hash32(key.public_key): key.public_key for key in keys if usable(key.public_key)}

def verify(key, data, signature):
    need(len(signature) == 64 and usable(signature[:32]), "a signature is malformed")
    VerifyKey(key).verify(data, signature)

def agent_of(key):
    data = bytearray(hash32(b"econ agent v1" + key)[:16])
    data[6], data[8] = data[6] & 15 | 128, data[8] & 63 | 128
    return uid(bytes(data))

def open_envelope(data, message, key):  # The payload, if this key signed it as this message.
    envelope = decode("Envelope", data)
    by = [signature.sig for signature in envelope.signatures if signature.key_id == hash32(key)]
    need(envelope.payload_type == TYPE % message and len(by) == 1, "another message, or not signed once by the key")
    verify(key, pae(envelope.payload_type, envelope.payload), by[0])
    return envelope.payload

def read_note(note, name, key):
    """A checkpoint that `key` signed in this name, and when, in seconds; 0: it does not say."""
    text, _, lines = note.rpartition("\n\n")
    text, signatures, time_s = text + "\n", 0, 0
    for line in (line for line in lines.split("\n") if line.startswith(f"\u2014 {name} ")):
        data = base64.b64decode(line.split(" ")[2])
        need(line == f"\u2014 {name} {base64.b64encode(data).decode()}", "a signature line is malformed")
        if data[:4] == sha256(name.encode() + b"\n\x01" + key)[:4]:
            verify(key, text.encode(), data[4:])
            signatures += 1
        elif data[:4] == sha256(name.encode() + b"\n\x04" + key)[:4]:
            stated = int.from_bytes(data[4:12], "big")
            verify(key, f"cosignature/v1\ntime {stated}\n{text}".encode(), data[12:])
            time_s = max(time_s, stated)
    origin, size, root = rows = text.split("\n")[:3]
    need(origin == name and signatures == 1 and str(int(size)) == size, "the note is another log's, or not signed once")
    return Message(size=int(size), root=base64.b64decode(root), leaf="\n".join([*rows, ""]).encode(), time_s=time_s)

def included(leaf, proof, tree):  # RFC 9162, section 2.1.3.2
    at, last, value = proof.leaf_index, tree.size - 1, sha256(b"\0" + leaf)
    need(at <= last and proof.tree_size == tree.size, "its proof is for another tree")
    for other in proof.hashes:
        need(len(other) == 32 and last, "its proof has the wrong length")
        value = sha256(b"\1" + (other + value if at & 1 or at == last else value + other))
        while at == last and not at & 1 and at:
            at, last = at >> 1, last >> 1
        at, last = at >> 1, last >> 1
    need(not last and value == tree.root, "its proof does not lead to the checkpoint's root")

def check_command(command, ledger_id, key):  # That this key signed it for this ledger.
    base, kind = command.signature_base, command.content_type
    verify(key, base, command.signature)
    if kind == TYPE % "ServiceCommand":
        payload = base.split(b" ", 4)[4]
        said = decode("ServiceCommand", payload, strict=True)
        return need(base == pae(kind, payload) and said.body == command.command_body and said.ledger_id == ledger_id
                    and uid(said.actor_id) == agent_of(key), "it is another ledger's, agent's or command's")
    *lines, params = base.decode("ascii").split("\n")
    said, digest = dict(line.split(": ", 1) for line in lines), sha256(command.body or command.command_body)
    need(len(said) == 5 and params.startswith('"@signature-params": (%s);' % " ".join(said)), "it is no signature base")
    need(said['"@method"'] == "POST" and said['"idempotency-key"'] and said['"content-type"'] == kind
         and said['"content-digest"'] == f"sha-256=:{base64.b64encode(digest).decode()}:"
         and f';keyid="{hash32(key).hex()}";' in params + ";" and ';tag="econ"' in params, "it is signed for other use")
    need(command.body or said['"@target-uri"'].split("/", 3)[3] == f"v1/ledgers/{ledger_id}/commands", "another ledger")

def trust(case):
    bundle = case.bundle
    case.genesis = decode("CommandBody", bundle.items[0].command.command_body).genesis
    named = [key.public_key for key in case.genesis.keys if key.purpose == 7][0]
    case.key = case.key or named
    need(usable(case.key) and named == case.key, f"its genesis names receipt key {named.hex()}")
    case.tree = read_note(bundle.checkpoint, bundle.origin, case.key)
    need(bundle.origin == case.genesis.origin and bundle.origin.endswith(f"/ledger/{bundle.ledger_id}"), "other log")
    if bundle.forest:
        name = bundle.forest.checkpoint.split("\n")[0]
        need(name.endswith("/forest"), "it is no forest")
        included(case.tree.leaf, bundle.forest.inclusion, read_note(bundle.forest.checkpoint, name, case.key))

def receipts(case):
    tree, before, prev = case.tree, Message(seq=0, ledger_time_us=-1 << 63), b""
    for source in case.bundle.items:
        payload = open_envelope(source.receipt.envelope, "Receipt", case.key)
        item = decode("Receipt", payload)
        item.source, item.place, item.ok = source, f"seq {item.seq} {item.kind}: ", item.code == "ok"
        item.facts = json.loads(item.facts_json, parse_constant=lambda name: need(False, name))
        need(hash32(payload) == source.receipt.receipt_id, item.place + "its id is not the hash of its bytes")
        need(type(item.facts) is dict and depth(item.facts) <= 128, item.place + "its facts are no object, or too deep")
        need(before.seq or (item.seq, item.kind, item.ok) == (1, "genesis", True), "it does not begin with the genesis")
        need(item.ledger_id == case.bundle.ledger_id and before.seq < item.seq
             and before.ledger_time_us <= item.ledger_time_us, item.place + "it is another ledger's, or out of order")
        due = item.include_by_us and tree.time_s and tree.time_s * 1000000 >= item.include_by_us
        need(not due or tree.size >= item.seq, item.place + "the market promised it in this checkpoint")
        need(source.inclusion.leaf_index == item.seq - 1, item.place + "its proof is for another leaf")
        included(source.receipt.envelope, source.inclusion, tree)
        item.about, item.again = item.subject_id == case.bundle.order_id, item.facts.get("exists") is True
        need(not item.about or item.prev == prev, item.place + "a receipt of this order before it is missing")
        before, prev = item, source.receipt.receipt_id if item.about else prev
        case.items.append(item)

def commands(case):
    keys, revoked, used = by_id(case.bundle.keys), set(), set()
    for item in case.items:
        command, body = item.source.command, decode("CommandBody", item.source.command.command_body)
        (told, item.body), = ((kind, said) for kind, said in vars(body).items() if said)
        own = body.genesis.keys if body.genesis else [body.register_agent.key] if body.register_agent else []
        key = keys.get(command.key_id) or by_id(own)[command.key_id]
        check_command(command, case.bundle.ledger_id, key)
        need(agent_of(key) == uid(item.actor_id), item.place + "its receipt names another agent")
        need(command.signature_base not in used, item.place + "its signed request stands behind another receipt too")
        need(not item.ok or command.key_id not in revoked, item.place + "its key had been revoked")
        used.add(command.signature_base)
        revoked |= {body.revoke_key.key_id} if item.ok and body.revoke_key else set()
        logged = (command.signature_base, command.signature, command.body, command.recorded_json.encode())
        logged = hash32(b"".join(len(part).to_bytes(8, "big") + part for part in logged))
        need((item.command_id, item.key_id, item.kind) == (command.command_id, command.key_id, told)
             and item.log_hash == logged and item.body_hash == hash32(command.command_body), item.place + "another's")

def moves(case):
    states, case.closed = {}, None
    for item in (item for item in case.items if item.ok):
        verdict = "judge_valid" if item.kind == "resolve_dispute" and item.body.output_valid else "judge_invalid"
        moved, event = "", verdict if item.kind == "resolve_dispute" else item.kind
        for step in item.facts.get("transitions", []):
            subject, start = (step["machine"], step["id"]), step["from"]
            need(states.get(subject, "" if subject[0] == "order" else start) == start, f"{subject} was not {start!r}")
            states[subject] = step["to"]
            if subject == ("order", uid(case.bundle.order_id)):
                moved = f"{start}/{step['event']}/{step['to']}"
        if item.about and (moved or event != "record_metering" and not item.again):
            need(moved in MOVES and moved.split("/")[1] == event, item.place + "it is no legal move of the order")
            case.closed = item if moved.endswith(("/settled", "/refunded")) else case.closed

def terms(case):
    done = [item for item in case.items if item.ok and not item.again]
    made = [item for item in done if item.about and item.kind == "accept_offer" and "held" in item.facts][0]
    case.facts, accepted = made.facts, made.body
    case.price, case.units, case.held = (whole(case.facts[name]) for name in ("price_per_unit", "work_units", "held"))
    rfq = [i.body for i in done if i.kind == "open_rfq" and uid(i.body.rfq_id) == case.facts["rfq_id"]][0]
    offered = [i for i in done if i.kind == "submit_offer" and i.body.offer_id == accepted.offer_id][0]
    case.rfq, offer, case.provider_key = rfq, offered.body, by_id(case.bundle.keys)[offered.key_id]
    need([case.facts[name] for name in ("order_id", "provider_id", "provider_key_id", "offer_id", "asset_id")] == [
        uid(case.bundle.order_id), uid(offered.actor_id), offered.key_id.hex(), uid(accepted.offer_id), rfq.asset_id],
        "its facts are not what its parties signed")
    need((case.price, case.units, offer.rfq_id) == (whole(offer.price_per_unit), rfq.work_units, rfq.rfq_id)
         and case.held <= min(whole(rfq.max_price), whole(accepted.spend_cap)), "price, units or sum were not signed")

def steps(case):
    attempts = [i.facts["attempt_id"] for i in case.items if i.ok and i.about and i.kind == "start_attempt"]
    case.attempt, reported = attempts[0] if attempts else "", None
    ours = {"order_id": uid(case.bundle.order_id), "attempt_id": case.attempt}
    ours["run_ticket_id"] = case.facts["run_ticket_id"]
    for item in case.items:
        said, of_offer = vars(item.body), uid(vars(item.body).get("offer_id")) == case.facts["offer_id"]
        need(item.about or item.ok and (item is case.items[0] or item.kind in ("register_agent", "revoke_key")
             or item.body == case.rfq or item.kind == "submit_offer" and of_offer), item.place + "no part of the order")
        if item.ok and (item.about or item.kind in ("genesis", "open_rfq")):
            may = [agent_of(k.public_key) for k in case.genesis.keys if item.kind in STEPS.get(k.purpose, "").split()]
            may += [case.facts[name] for name in ("buyer_id", "provider_id") if item.kind in STEPS[name].split()]
            reported = said["output_hash"] if item.kind == "report_output" else reported
            named = {name: uid(said[name]) for name in ours if name in said}
            need(uid(item.actor_id) in may and named.items() <= ours.items() and said.get("output_hash", reported)
                 == reported, item.place + "it is not this agent's step, or about another order or output")

def metering(case):
    rows, case.proven = {hash32(data): decode("Row", data) for run in case.bundle.metering for data in run.rows}, {}
    for run in (run for run in case.bundle.metering if run.head_envelope):
        head = decode("Head", open_envelope(run.head_envelope, "MeteringHead", case.provider_key))
        ours, at, seq = (case.facts["run_ticket_id"], case.attempt), head.last_row_hash, head.last_seq
        while (row := rows.get(at)) and at not in case.proven and row.seq == seq:
            need((uid(row.run_ticket_id), uid(row.attempt_id)) == ours, "a row is of another attempt")
            case.proven[at], at, seq = row.work_units, row.prev_hash, seq - 1
    need(len(case.proven) == len(rows), "no signature of the provider covers one of the rows")
    need(all(hash32(data) in rows for item in case.items if item.ok and item.kind == "record_metering"
             for run in item.body.runs for data in run.rows), "a row that the provider sent is missing")

def money(case):
    need(case.price * case.units == case.held, "units by price are not what was held")
    if case.closed:
        facts, counters = case.closed.facts, case.proven.values()
        paid, settled, asset = whole(facts["paid"]), case.closed.kind == "settle_order", facts["asset_id"]
        need(paid + whole(facts["refunded"]) == case.held and asset == case.rfq.asset_id and (settled or not paid),
             "not what was held came out, or a refund kept something back")
    if case.closed and settled:
        billed = whole(facts["billed_units"])
        stated = [i.facts["attempts"] for i in case.items if i.ok and i.kind == "record_metering"]
        stated = max((whole(units[case.attempt]["work_units"]) for units in stated if case.attempt in units), default=0)
        need(paid == billed * case.price and min(stated, case.units) <= billed <= case.units, "not the units metered")
        need(not billed or billed in counters or billed == case.units < max(counters), "no row reports these units")
        operators = [agent_of(key.public_key) for key in case.genesis.keys if key.purpose == 4]
        holders = [("creator", uid(case.rfq.creator_id)), ("provider", case.facts["provider_id"]),
                   ("operator", operators[0]), ("referrer", uid(case.rfq.referrer_id))]
        shares = [(*holders[share.role - 1], share.share_ppm) for share in case.genesis.default_policy.shares]
        unheld = sum(ppm for _, holder, ppm in shares if not holder)
        shares = [(role, holder, ppm + unheld * (role == "provider")) for role, holder, ppm in shares if holder]
        rest = paid - sum(paid * ppm // 1000000 for _, _, ppm in shares)
        legs = [(role, holder, paid * ppm // 1000000 + (n < rest)) for n, (role, holder, ppm) in enumerate(shares)]
        need(facts["policy_id"] == 1 and [leg for leg in legs if leg[2]] == [
            (leg["role"], leg["payee_id"], whole(leg["amount"])) for leg in facts["legs"]], "not the policy's shares")

def main(file, *key):
    try:
        data = open(file, "rb").read()
        need(data.startswith(MAGIC), 'it does not begin with "econ evidence 1"')
        case = Message(bundle=decode("Bundle", data[16:], strict=True), key=bytes.fromhex("".join(key[1:])), items=[])
    except (ValueError, LookupError, OSError) as error:
        return print(f"this is no evidence bundle, or it is damaged: {error}", file=sys.stderr) or 2
    for check in (trust, receipts, commands, moves, terms, steps, metering, money):
        try:
            check(case)
        except Exception as error:  # What cannot be read does not hold.
            return print(f"BROKEN bundle.{check.__name__}: {error!r}") or 1
    return print("The evidence holds.") or 0

if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
