#!/usr/bin/env python3
"""Judges an evidence bundle as docs/RECEIPTS.md says, and from nothing else: `verify_bundle.py FILE [--key HEX]`.

Needs PyNaCl and blake3. Exit status 0: the evidence holds, 1: it does not, 2: this is no bundle. One function a check, in
the document's order; the first that fails ends it. Left to `econ verify bundle`: witnesses, what a GraphQL request asked
for, request_digest (log_hash covers the same bytes), the finer form of notes and of signature parameters."""
import argparse, base64, hashlib, json, re, sys, uuid
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
TAKEN_BY = {"genesis": "operator", "open_rfq": "buyer", "accept_offer": "buyer", "start_attempt": "provider",
            "record_metering": "provider", "report_output": "provider", "fail_attempt": "provider",
            "accept_output": "buyer", "reject_output": "buyer", "resolve_dispute": "verifier",
            "settle_order": "buyer service", "expire_order": "service"}
ROLES = {1: "creator", 2: "provider", 3: "operator", 4: "referrer"}
# Fields as name=number and type: u unsigned, i signed, b bytes, s text, else a message (of the field's name); * repeated.
SCHEMA = {part.split()[0]: {int(number): (field, many, kind or field) for field, number, many, kind in
                            re.findall(r"(\w+)=(\d+)(\*?)(\w*)", part)} for part in """
Bundle order_id=1b ledger_id=2u items=3*Item checkpoint=4s keys=5*Key origin=6s metering=7*Run forest=8Forest;
Item command=1Command receipt=2Stored inclusion=3Inclusion; Stored receipt_id=1b envelope=2b;
Command command_id=1b signature_base=2b signature=3b key_id=4b body=5b content_type=6s command_body=7b recorded_json=8s;
Inclusion leaf_index=1u tree_size=2u hashes=3*b; Forest inclusion=1Inclusion checkpoint=2s; Key public_key=1b purpose=2u;
Envelope payload_type=1s payload=2b signatures=3*Signature; Signature key_id=1b sig=2b;
Receipt ledger_id=1u seq=2u command_id=3b actor_id=4b key_id=5b kind=6s body_hash=8b code=9s subject_id=11b prev=12b
  ledger_time_us=13i facts_json=16s log_hash=18b include_by_us=19i;
Run rows=1*b head_envelope=2b; Row run_ticket_id=1b attempt_id=2b seq=3u prev_hash=4b work_units=17u;
Head run_ticket_id=1b attempt_id=2b last_seq=3u last_row_hash=4b;
ServiceCommand ledger_id=1u actor_id=2b idempotency_key=3s body=4b;
CommandBody genesis=1 register_agent=2 revoke_key=3 open_rfq=7 submit_offer=9 accept_offer=10 start_attempt=11
  record_metering=12 report_output=13 fail_attempt=14 accept_output=15 reject_output=16 resolve_dispute=17 settle_order=18
  expire_order=20;
genesis origin=1s keys=4*Key default_policy=5Policy; Policy shares=2*Share; Share role=1u share_ppm=2u;
register_agent key=1Key; revoke_key key_id=1b; record_metering runs=1*Run;
open_rfq rfq_id=1b work_units=5u asset_id=6u max_price=7s creator_id=10b referrer_id=11b;
submit_offer offer_id=1b rfq_id=2b price_per_unit=3s; accept_offer offer_id=1b spend_cap=2s;
start_attempt run_ticket_id=1b attempt_id=2b; report_output run_ticket_id=1b attempt_id=2b output_hash=3b;
fail_attempt run_ticket_id=1b; accept_output order_id=1b output_hash=2b; reject_output order_id=1b output_hash=2b;
resolve_dispute order_id=1b output_valid=2u; settle_order order_id=1b; expire_order order_id=1b
""".split(";")}

def need(holds, message):
    if not holds:
        raise ValueError(message)

def varint(data, at, strict):
    value = size = 0
    while size == 0 or data[at - 1] > 127:
        need(at < len(data) and size < 10, "a number is cut short or too long")
        value, at, size = value | (data[at] & 127) << 7 * size, at + 1, size + 1
    need(value < 1 << 64 and not (strict and size > 1 and data[at - 1] == 0), "a number is too large or too long")
    return value, at

def decode(name, data, strict=False):
    """Strict: of one message there is one form."""
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
            need(kind not in SCHEMA or many or not getattr(message, field), f"{field} stands twice")
            value = (decode(kind, value, strict) if kind in SCHEMA else value.decode() if kind == "s" else
                     value - (1 << 64) if kind == "i" and value >> 63 else value)
            need(not strict or many or value != absent.get(kind), "it states what is absent")
            getattr(message, field).append(value) if many else setattr(message, field, value)
    return message

def hash32(data): return blake3(data).digest()
def sha256(data): return hashlib.sha256(data).digest()
def uid(data): return str(uuid.UUID(bytes=data)) if data else ""
def framed(*parts): return hash32(b"".join(len(part).to_bytes(8, "big") + part for part in parts))
def depth(it): return 1 + max(map(depth, it.values() if type(it) is dict else it if type(it) is list else ()), default=0)
def by_id(keys): return {hash32(key.public_key): key.public_key for key in keys if usable(key.public_key)}

def whole(digits):
    need(re.fullmatch("[0-9]{1,28}", digits), "an amount is no whole number")
    return int(digits)

def usable(key):
    """libsodium takes keys, and in some versions R, of mixed order when it verifies: this refuses them."""
    return len(key) == 32 and crypto_core_ed25519_is_valid_point(key)

def verify(key, data, signature):
    need(len(signature) == 64 and usable(signature[:32]), "a signature is malformed")
    VerifyKey(key).verify(data, signature)

def agent_of(key):
    data = bytearray(hash32(b"econ agent v1" + key)[:16])
    data[6], data[8] = data[6] & 15 | 128, data[8] & 63 | 128
    return uid(bytes(data))

def pae(kind, payload):
    return b"DSSEv1 %d %s %d %s" % (len(kind.encode()), kind.encode(), len(payload), payload)

def open_envelope(data, message, key):
    """The payload, if this key signed it as this message."""
    envelope = decode("Envelope", data)
    by = [signature.sig for signature in envelope.signatures if signature.key_id == hash32(key)]
    need(envelope.payload_type == TYPE % message and len(by) == 1, "another message, or not signed once by the key")
    verify(key, pae(envelope.payload_type, envelope.payload), by[0])
    return envelope.payload

def read_note(note, name, key):
    """A checkpoint that `key` signed in this name, and when, in seconds; 0: it does not say."""
    body, _, lines = note.rpartition("\n\n")
    body, signatures, time_s = body + "\n", 0, 0
    for line in (line for line in lines.split("\n") if line.startswith(f"\u2014 {name} ")):
        data = base64.b64decode(line.split(" ")[2])
        need(line == f"\u2014 {name} {base64.b64encode(data).decode()}", "a signature line is malformed")
        if data[:4] == sha256(name.encode() + b"\n\x01" + key)[:4]:
            verify(key, body.encode(), data[4:])
            signatures += 1
        elif data[:4] == sha256(name.encode() + b"\n\x04" + key)[:4]:
            stated = int.from_bytes(data[4:12], "big")
            verify(key, f"cosignature/v1\ntime {stated}\n{body}".encode(), data[12:])
            time_s = max(time_s, stated)
    origin, size, root = body.split("\n")[:3]
    need(origin == name and signatures == 1 and str(int(size)) == size, "it is another log's, or not signed once")
    return Message(size=int(size), root=base64.b64decode(root), leaf=f"{origin}\n{size}\n{root}\n".encode(), time_s=time_s)

def included(leaf, proof, tree):
    """RFC 9162, section 2.1.3.2."""
    at, last, value = proof.leaf_index, tree.size - 1, sha256(b"\0" + leaf)
    need(at <= last and proof.tree_size == tree.size, "its proof is for another tree")
    for other in proof.hashes:
        need(len(other) == 32 and last, "its proof has the wrong length")
        value = sha256(b"\1" + (other + value if at & 1 or at == last else value + other))
        while at == last and not at & 1 and at:
            at, last = at >> 1, last >> 1
        at, last = at >> 1, last >> 1
    need(not last and value == tree.root, "its proof does not lead to the checkpoint's root")

def check_command(command, ledger_id, key):
    """That `key` signed this command for this ledger."""
    base, kind = command.signature_base, command.content_type
    verify(key, base, command.signature)
    if kind == TYPE % "ServiceCommand":
        payload = base.split(b" ", 4)[4]
        service = decode("ServiceCommand", payload, strict=True)
        return need(base == pae(kind, payload) and (service.ledger_id, uid(service.actor_id), service.body) == (
            ledger_id, agent_of(key), command.command_body), "another ledger's, another agent's, or not what was executed")
    lines = [re.fullmatch(r'"([a-z@-]+)": (.*)', line).groups() for line in base.decode("ascii").split("\n")]
    covered, params = dict(lines[:-1]), dict(lines)["@signature-params"]
    said = dict(re.findall(r';([a-z]+)=("[^"]*"|[0-9]+)', params))
    digest = base64.b64encode(sha256(command.body or command.command_body)).decode()
    uri, idempotency = covered["@target-uri"], covered["idempotency-key"]
    need(params.startswith("(%s);" % " ".join(f'"{name}"' for name, _ in lines[:-1])) and covered == {
        "@method": "POST", "@target-uri": uri, "content-type": kind, "content-digest": f"sha-256=:{digest}:",
        "idempotency-key": idempotency} and len(lines) == 6, "its signed bytes are not this command's")
    need(said["keyid"] == f'"{hash32(key).hex()}"' and said["tag"] == '"econ"', "it is another key's, or for another use")
    need(command.body or uri.split("/", 3)[3] == f"v1/ledgers/{ledger_id}/commands", "it is for another ledger")

def each(case):
    for item in case.items:
        case.place = f"seq {item.seq} {item.kind}"
        yield item

def trust(case):
    first = case.bundle.items[0].command if case.bundle.items else None
    case.genesis = decode("CommandBody", first.command_body).genesis if first else None
    named = next((key.public_key for key in case.genesis.keys if key.purpose == 7), b"") if case.genesis else b""
    case.key = case.key or named
    need(usable(case.key) and named in (b"", case.key), f"its genesis names receipt key {named.hex()}")

def checkpoint(case):
    origin = case.bundle.origin
    case.tree = read_note(case.bundle.checkpoint, origin, case.key)
    need(not case.genesis or case.genesis.origin == origin, "it is another log's")
    need(origin.endswith(f"/ledger/{case.bundle.ledger_id}"), "it is another ledger's")

def forest(case):
    if case.bundle.forest:
        name = case.bundle.forest.checkpoint.split("\n")[0]
        need(name.endswith("/forest"), "it is no forest")
        included(case.tree.leaf, case.bundle.forest.inclusion, read_note(case.bundle.forest.checkpoint, name, case.key))

def receipts(case):
    for source in case.bundle.items:
        payload = open_envelope(source.receipt.envelope, "Receipt", case.key)
        receipt = decode("Receipt", payload)
        facts = json.loads(receipt.facts_json, parse_constant=lambda name: need(False, name))
        need(hash32(payload) == source.receipt.receipt_id, f"seq {receipt.seq}: its id is not the hash of its bytes")
        need(isinstance(facts, dict) and depth(facts) <= 128, f"seq {receipt.seq}: its facts are no object, or too deep")
        case.items.append(Message(**vars(receipt), source=source, facts=facts, ok=receipt.code == "ok", moved="",
                                  about=receipt.subject_id == case.bundle.order_id, repeat=facts.get("exists") is True))

def ledger(case):
    first = before = case.items[0]
    need((first.seq, first.kind, first.ok) == (1, "genesis", True), "it does not begin with the ledger's genesis")
    for item in each(case):
        need(item.ledger_id == case.bundle.ledger_id, "it is another ledger's")
        need(item is first or before.seq < item.seq and before.ledger_time_us <= item.ledger_time_us, "out of order")
        before = item

def deadline(case):
    for item in each(case):
        due = item.include_by_us and case.tree.time_s and case.tree.time_s * 1000000 >= item.include_by_us
        need(not due or case.tree.size >= item.seq, "it was promised to be in this checkpoint, and is not")

def log(case):
    for item in each(case):
        need(item.source.inclusion.leaf_index == item.seq - 1, "its proof is for another leaf")
        included(item.source.receipt.envelope, item.source.inclusion, case.tree)

def commands(case):
    keys, revoked, used = by_id(case.bundle.keys), set(), set()
    for item in each(case):
        command, body = item.source.command, decode("CommandBody", item.source.command.command_body)
        (item.told, item.body), = ((kind, said) for kind, said in vars(body).items() if said)
        own = body.genesis.keys if body.genesis else [body.register_agent.key] if body.register_agent else []
        key = keys.get(command.key_id) or by_id(own)[command.key_id]
        check_command(command, case.bundle.ledger_id, key)
        need(agent_of(key) == uid(item.actor_id), "its receipt names another agent")
        need(command.signature_base not in used, "the signed request stands behind two receipts")
        need(not item.ok or command.key_id not in revoked, "its key had been revoked")
        used.add(command.signature_base)
        revoked |= {body.revoke_key.key_id} if item.ok and body.revoke_key else set()

def content(case):
    for item in each(case):
        command = item.source.command
        logged = framed(command.signature_base, command.signature, command.body, command.recorded_json.encode())
        need((item.command_id, item.key_id, item.body_hash, item.log_hash, item.kind) == (command.command_id, command.key_id,
             hash32(command.command_body), logged, item.told), "the receipt is about another command")

def links(case):
    before = b""
    for item in (item for item in each(case) if item.about):
        need(item.prev == before, "a receipt of this order before it is missing")
        before = item.source.receipt.receipt_id

def moves(case):
    states, order = {}, ("order", uid(case.bundle.order_id))
    for item in (item for item in each(case) if item.ok):
        for step in item.facts.get("transitions", []):
            subject, start = (step["machine"], step["id"]), step["from"]
            need(states.get(subject, "" if subject[0] == "order" else start) == start, f"{subject} was not {start!r}")
            states[subject] = step["to"]
            if subject == order:
                item.moved = "/".join((start, step["event"], step["to"]))
        event = item.kind
        if event == "resolve_dispute":
            event = "judge_valid" if item.body.output_valid else "judge_invalid"
        if item.about and (item.moved or event != "record_metering" and not item.repeat):
            need(item.moved in MOVES and item.moved.split("/")[1] == event, "it is no legal move of the order")

def order(case):
    made = [item for item in case.items if item.ok and item.about and item.kind == "accept_offer" and "held" in item.facts]
    need(made, "the accepted offer that made the order is missing")
    case.made, case.facts = made[0], made[0].facts
    case.price, case.units, case.held = (whole(case.facts[name]) for name in ("price_per_unit", "work_units", "held"))
    need(case.facts["order_id"] == uid(case.bundle.order_id), "its facts are about another order")

def terms(case):
    facts, accepted = case.facts, case.made.body
    done = [item for item in case.items if item.ok and not item.repeat]
    rfqs = [i.body for i in done if i.kind == "open_rfq" and uid(i.body.rfq_id) == facts["rfq_id"]]
    offers = [i for i in done if i.kind == "submit_offer" and i.body.offer_id == accepted.offer_id]
    need(rfqs and offers, "the request or the offer that the order came from is missing")
    case.rfq, offer, provider = rfqs[0], offers[0].body, uid(offers[0].actor_id)
    case.provider_key = by_id(case.bundle.keys)[offers[0].key_id]
    need((facts["provider_id"], facts["provider_key_id"], facts["offer_id"], facts["asset_id"], case.price, case.units) == (
        provider, offers[0].key_id.hex(), uid(accepted.offer_id), case.rfq.asset_id, whole(offer.price_per_unit),
        case.rfq.work_units) and offer.rfq_id == case.rfq.rfq_id and agent_of(case.provider_key) == provider
         and case.held <= min(whole(case.rfq.max_price), whole(accepted.spend_cap)), "not what its parties signed")

def steps(case):
    house = {name: [agent_of(key.public_key) for key in case.genesis.keys if key.purpose == purpose]
             for name, purpose in (("operator", 4), ("service", 5), ("verifier", 6))}
    parties = {**house, "buyer": [case.facts["buyer_id"]], "provider": [case.facts["provider_id"]]}
    attempts = [i.facts["attempt_id"] for i in case.items if i.ok and i.about and i.kind == "start_attempt"]
    case.operator, case.attempt, reported = house["operator"][0], attempts[0] if attempts else "", None
    for item in each(case):
        says = vars(item.body)
        need(item.about or item.ok and (item is case.items[0] or item.kind in ("register_agent", "revoke_key")
             or item.body == case.rfq or item.kind == "submit_offer" and uid(item.body.offer_id) == case.facts["offer_id"]),
             "it is no part of this order's story")
        if item.ok and (item.about or item.kind in ("genesis", "open_rfq")):
            may = [agent for party in TAKEN_BY.get(item.kind, "").split() for agent in parties[party]]
            need(uid(item.actor_id) in may, "this step is not this agent's to take")
            if item.kind == "report_output":
                reported = item.body.output_hash
                need(item.repeat or item.facts["output_hash"] == reported.hex(), "it reported another output")
            need(says.get("order_id", case.bundle.order_id) == case.bundle.order_id
                 and uid(says.get("run_ticket_id", b"")) in ("", case.facts["run_ticket_id"])
                 and uid(says.get("attempt_id", b"")) in ("", case.attempt)
                 and says.get("output_hash", reported) == reported, "it is about another order, attempt or output")

def metering(case):
    rows = {hash32(data): decode("Row", data) for run in case.bundle.metering for data in run.rows}
    ours, case.proven = (case.facts["run_ticket_id"], case.attempt), {}
    need(all((uid(row.run_ticket_id), uid(row.attempt_id)) == ours for row in rows.values()), "a row of another attempt")
    for run in (run for run in case.bundle.metering if run.head_envelope):
        head = decode("Head", open_envelope(run.head_envelope, "MeteringHead", case.provider_key))
        at, seq = head.last_row_hash, head.last_seq
        need((uid(head.run_ticket_id), uid(head.attempt_id)) == ours, "a head of another attempt")
        while at in rows and rows[at].seq == seq and at not in case.proven:
            case.proven[at], at, seq = rows[at].work_units, rows[at].prev_hash, seq - 1
    sent = [run for item in case.items if item.ok and item.kind == "record_metering" for run in item.body.runs]
    need(len(case.proven) == len(rows), "no signature of the provider covers one of the rows")
    need(all(hash32(data) in rows for run in sent for data in run.rows), "a row that the provider sent is missing")

def money(case):
    closed = [item for item in case.items if item.ok and item.about and item.moved.endswith(("/settled", "/refunded"))]
    need(case.price * case.units == case.held, "units by price are not what was held")
    for item, said in ((item, item.facts) for item in closed[-1:]):
        paid, refunded = whole(said["paid"]), whole(said["refunded"])
        need(paid + refunded == case.held and said["asset_id"] == case.facts["asset_id"], "not what was held came out")
        if item.kind != "settle_order":
            return need(paid == 0, "a refund kept something back")
        billed, counters = whole(said["billed_units"]), case.proven.values()
        stated = [i.facts["attempts"].get(case.attempt) for i in case.items if i.ok and i.kind == "record_metering"]
        stated = max((whole(units["work_units"]) for units in stated if units), default=0)
        need(paid == billed * case.price and min(stated, case.units) <= billed <= case.units, "not the metered units")
        need(not billed or billed in counters or billed == case.units < max(counters), "no row reports these units")
        legs = [(leg["role"], leg["payee_id"], whole(leg["amount"])) for leg in said["legs"]]
        need(said["policy_id"] == 1 and legs == shares(case, paid), "the shares are not those of the genesis' policy")

def shares(case, paid):
    holders = {"creator": uid(case.rfq.creator_id), "provider": case.facts["provider_id"], "operator": case.operator,
               "referrer": uid(case.rfq.referrer_id)}
    rows = [(ROLES[share.role], share.share_ppm) for share in case.genesis.default_policy.shares]
    unheld = sum(ppm for role, ppm in rows if not holders[role])
    rows = [(role, ppm + unheld * (role == "provider")) for role, ppm in rows if holders[role]]
    amounts = [paid * ppm // 1000000 for _, ppm in rows]
    rest = paid - sum(amounts)
    amounts = [amount + (n < rest) for n, amount in enumerate(amounts)]
    return [(role, holders[role], amount) for (role, _), amount in zip(rows, amounts) if amount]

def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("file", type=argparse.FileType("rb"))
    parser.add_argument("--key", type=bytes.fromhex, default=b"")
    given = parser.parse_args()
    data = given.file.read()
    try:
        need(data.startswith(MAGIC), 'it does not begin with "econ evidence 1"')
        case = Message(bundle=decode("Bundle", data[len(MAGIC):], strict=True), key=given.key, items=[], place="the bundle")
    except ValueError as error:
        sys.exit(print(f"this is no evidence bundle, or it is damaged: {error}", file=sys.stderr) or 2)
    for check in (trust, checkpoint, forest, receipts, ledger, deadline, log, commands, content, links, moves, order, terms,
                  steps, metering, money):
        try:
            check(case)
        except Exception as error:  # What cannot be read does not hold.
            sys.exit(print(f"BROKEN bundle.{check.__name__}: {case.place}: {error!r}") or 1)
        print(f"holds  bundle.{check.__name__}")

if __name__ == "__main__":
    main()
