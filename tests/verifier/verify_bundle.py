#!/usr/bin/env python3
"""Judges an evidence bundle as docs/RECEIPTS.md says, and from nothing else: `verify_bundle.py FILE [--key HEX]`.

Needs PyNaCl and blake3; bundle_bytes.py beside it reads and verifies the bytes. Exit status 0: the evidence holds, 1: it does
not, 2: this is no bundle. What a GraphQL request asked for is not derived again: that stays the market's word, and is so named."""
import json, sys

from bundle_bytes import (Message, agent_of, attempt, check_command, decode, encode, framed, hash32, included, natural, need, open_envelope,
                          read_command, read_note, text, uid, usable, whole)

MAGIC = b"econ evidence 1\n"
CHECKS = ("trust checkpoint receipts ledger log commands content links moves order terms steps metering money").split()
MOVES = {tuple(move.split("/")) for move in (
    "/accept_offer/ordered ordered/start_attempt/running ordered/expire_order/refunded ordered/fail_attempt/refunded "
    "running/report_output/reported running/fail_attempt/refunded running/expire_order/refunded reported/accept_output/accepted "
    "reported/reject_output/disputed reported/judge_valid/accepted reported/judge_invalid/refunded disputed/judge_valid/accepted "
    "disputed/judge_invalid/refunded accepted/settle_order/settled").split()}
ROLES = {1: "creator", 2: "provider", 3: "operator", 4: "referrer"}

def depth(value):
    return 1 + max(map(depth, value.values() if isinstance(value, dict) else value), default=0) if isinstance(value, (dict, list)) else 0

def read_facts(text):
    facts = json.loads(text, parse_constant=lambda name: need(False, name))
    need(isinstance(facts, dict) and depth(facts) <= 127, "no object, or too deep")
    return facts

def read_items(bundle, key, tree, note):
    for source in bundle.items:
        at = source.inclusion.leaf_index if source.inclusion else 0
        envelope = source.receipt and attempt(decode, "Envelope", source.receipt.envelope)
        receipt = envelope and attempt(decode, "Receipt", envelope.payload)
        if not receipt:
            note("receipts", f"seq {at + 1}", "its receipt is missing or damaged")
            continue
        payload = attempt(open_envelope, envelope, "Receipt", {hash32(key): key})
        if payload is None or hash32(payload) != source.receipt.receipt_id:
            note("receipts", f"seq {at + 1}", "it is not signed by the receipt key, or its id is not the hash of its bytes")
        facts = attempt(read_facts, receipt.facts_json)
        if facts is None:
            facts = note("receipts", f"seq {at + 1}", "its facts are no JSON object, or nested too deeply") or {}
        kind, body = source.command and attempt(read_command, source.command.command_body) or ("", Message())
        item = Message(source=source, receipt=receipt, facts=facts, kind=kind, body=body, place=f"seq {receipt.seq} {receipt.kind}",
                       ok=receipt.code == "ok", about=receipt.subject_id == bundle.order_id, repeat=facts.get("exists") is True)
        steps = facts.get("transitions") if item.ok and isinstance(facts.get("transitions"), list) else []
        item.steps = [[text(step, name) for name in ("machine", "id", "from", "event", "to")] for step in steps]
        item.moved = next((tuple(step[2:]) for step in item.steps if step[:2] == ["order", uid(bundle.order_id)]), None)
        if receipt.ledger_id != bundle.ledger_id:
            note("ledger", item.place, f"it is a receipt of ledger {receipt.ledger_id}")
        try:
            need(tree and source.inclusion, "there is no valid checkpoint, or no inclusion proof")
            need(at == receipt.seq - 1 < tree[0] == source.inclusion.tree_size, "its proof is for another leaf or another tree")
            included(source.receipt.envelope, at, tree[0] - 1, source.inclusion.hashes, tree[1])
        except ValueError as error:
            note("log", item.place, error)
        yield item

def check_items(items, bundle, keys, note, claims):
    if items and (items[0].receipt.seq, items[0].receipt.kind, items[0].ok) != (1, "genesis", True):
        note("ledger", "the bundle", "it does not begin with the ledger's genesis, seq 1")
    before, used, revoked = None, set(), set()
    for item in items:
        receipt, command = item.receipt, item.source.command
        if before and before.receipt.seq >= receipt.seq or before and before.receipt.ledger_time_us > receipt.ledger_time_us:
            note("ledger", item.place, "it is out of the log's order, or the ledger's time went back")
        before = item
        if not command:
            note("commands", item.place, "its command is missing")
            continue
        own = [item.body.key] if item.kind == "register_agent" else item.body.keys if item.kind == "genesis" else []
        own = {hash32(k.public_key): k.public_key for k in own if k and usable(k.public_key)}
        try:
            key = keys.get(command.key_id) or own.get(command.key_id)
            need(key, "the bundle lacks its public key")
            digest, follows = check_command(command, bundle.ledger_id, key)
        except ValueError as error:
            note("commands", item.place, error)
            continue
        if agent_of(key) != uid(receipt.actor_id) or command.signature_base in used:
            note("commands", item.place, "its receipt names another agent, or the signed request stands behind two receipts")
        used.add(command.signature_base)
        if item.ok and command.key_id in revoked:
            note("commands", item.place, "its key had been revoked before")
        if item.ok and item.kind == "revoke_key":
            revoked.add(item.body.key_id)
        if (receipt.command_id, receipt.key_id, receipt.body_hash, receipt.request_digest, receipt.log_hash, receipt.kind) != (
                command.command_id, command.key_id, hash32(command.command_body), digest,
                framed(b"", command.signature_base, command.signature, command.body, command.recorded_json.encode()), item.kind):
            note("content", item.place, "the receipt is about another command than the one beside it")
        elif not follows:
            claims.append(f"seq {receipt.seq} executes what its sender's GraphQL request asked for")

def check_chain(items, bundle, note):
    states, before = {}, b""
    for item in items:
        if item.about:
            if item.receipt.prev != before:
                note("links", item.place, "a receipt of this order before it is missing")
            before = item.source.receipt.receipt_id
        for machine, subject, start, _, end in item.steps:
            if states.get((machine, subject), "" if machine == "order" else start) != start:
                note("moves", item.place, f"{machine} {subject} was not {start!r}")
            states[machine, subject] = end
        event = item.receipt.kind
        if "resolve_dispute" in (event, item.kind):
            event = "judge_valid" if item.kind == "resolve_dispute" and item.body.output_valid else "judge_invalid" if event == "resolve_dispute" else event
        if item.ok and item.about and (item.moved not in MOVES or item.moved[1] != event if item.moved else
                                       event != "record_metering" and not item.repeat):
            note("moves", item.place, "it is no legal move of the order")
    return states.get(("order", uid(bundle.order_id)), "")

def check_order(items, bundle, genesis, keys, note):
    made = next((i for i in items if i.ok and i.receipt.kind == "accept_offer" and i.about and "held" in i.facts), None)
    facts = made.facts if made else {}
    price, units, held = (whole(facts.get(name)) for name in ("price_per_unit", "work_units", "held"))
    if None in (price, units, held) or not made or not uid(bundle.order_id) or text(facts, "order_id") != uid(bundle.order_id):
        return note("order", "the bundle", "the accepted offer that made the order is missing, or does not state it")
    buyer, provider, ticket, asset = text(facts, "buyer_id"), text(facts, "provider_id"), text(facts, "run_ticket_id"), natural(facts.get("asset_id")) or 0
    done = [i for i in items if i.ok and not i.repeat]
    rfq = next((i.body for i in done if i.kind == "open_rfq" and uid(i.body.rfq_id) == text(facts, "rfq_id")), None)
    offered = made.kind == "accept_offer" and next((i for i in done if i.kind == "submit_offer" and i.body.offer_id == made.body.offer_id), None)
    started = next((text(i.facts, "attempt_id") for i in items if i.ok and i.about and i.receipt.kind == "start_attempt"), None)
    key_id = attempt(bytes.fromhex, text(facts, "provider_key_id")) or b""
    agents = {purpose: [agent_of(k.public_key) for k in genesis.keys if k.purpose == purpose and usable(k.public_key)] for purpose in (4, 5, 6)} if genesis else {}
    # Terms: what buyer and provider signed.
    if not rfq or not offered:
        note("terms", "the bundle", "the request or the offer that the order came from is missing")
    elif ((whole(offered.body.price_per_unit), rfq.work_units, rfq.asset_id, uid(offered.receipt.actor_id), offered.receipt.key_id, offered.body.rfq_id)
          != (price, units, asset, provider, key_id, rfq.rfq_id) or text(facts, "offer_id") != uid(made.body.offer_id)
          or held > min(whole(rfq.max_price) or 0, whole(made.body.spend_cap) or 0) or key_id not in keys or agent_of(keys[key_id]) != provider):
        note("terms", made.place, "the order is not what its buyer and its provider signed")
    # Steps: by whom, and about what.
    reported = None
    for item in items:
        body, actor, right = item.body, uid(item.receipt.actor_id), True
        belongs = (item is items[0] if item.kind == "genesis" else body == rfq if item.kind == "open_rfq" else uid(body.offer_id) == text(facts, "offer_id")
                   if item.kind == "submit_offer" else item.kind in ("register_agent", "revoke_key"))
        if not item.about and not (belongs and item.ok):
            note("steps", item.place, "it is no part of this order's story")
        if not item.ok or not item.kind:
            continue
        if item.kind == "genesis" or item.kind == "open_rfq" and body == rfq:
            may = [buyer] if item.kind == "open_rfq" else agents.get(4, [])
        elif not item.about:
            continue
        else:
            may = ([buyer] if item.kind in ("accept_offer", "accept_output", "reject_output", "settle_order") else [provider] if item.kind in (
                "start_attempt", "record_metering", "report_output", "fail_attempt") else agents.get(6, []) if item.kind == "resolve_dispute" else [])
            may = may + (agents.get(5, []) if item.kind in ("settle_order", "expire_order") else [])
            if item.kind in ("start_attempt", "report_output", "fail_attempt"):
                right = uid(body.run_ticket_id) == ticket and (item.kind == "fail_attempt" or uid(body.attempt_id) == started)
            elif item.kind not in ("accept_offer", "record_metering"):
                right = getattr(body, "order_id", None) == bundle.order_id or not may
            if item.kind == "report_output":
                reported, right = body.output_hash, right and text(item.facts, "output_hash") == body.output_hash.hex() or item.repeat
            elif item.kind in ("accept_output", "reject_output"):
                right = right and body.output_hash == reported
        if actor not in may or not right:
            note("steps", item.place, "it is another agent's step, or about another order")
    counters = check_metering(items, bundle, ticket, started, {key_id: keys[key_id]} if key_id in keys else {}, note)
    # Money.
    closed = next((i for i in reversed(items) if i.ok and i.about and i.moved and i.moved[2] in ("settled", "refunded")), None)
    said = closed.facts if closed else {}
    paid, refunded, billed = (whole(said.get(name)) for name in ("paid", "refunded", "billed_units"))
    wrong = price * units != held or closed and natural(said.get("asset_id")) != asset
    if closed and closed.receipt.kind != "settle_order":
        wrong = wrong or (refunded, paid) != (held, 0)
    elif closed:
        stated = max((whole(text(i.facts.get("attempts", {}).get(started), "work_units")) or 0 for i in items
                      if i.ok and i.receipt.kind == "record_metering" and isinstance(i.facts.get("attempts"), dict)), default=0)
        legs = [(text(leg, "role"), text(leg, "payee_id"), whole(text(leg, "amount"))) for leg in said.get("legs") or []]
        wrong = (wrong or None in (paid, refunded, billed) or whole(said.get("held")) != held or paid + refunded != held or billed > units
                 or min(billed * price, held) != paid or min(stated, units) > billed or natural(said.get("policy_id")) != 1
                 or billed and not any(c == billed or c > billed == units for c in counters) or legs != shares(genesis, rfq, provider, agents, paid))
    if wrong:
        note("money", f"order {uid(bundle.order_id)}", "what was held, paid, refunded and shared out does not follow from price, units and policy")

def shares(genesis, rfq, provider, agents, paid):
    if not genesis or not genesis.default_policy or not rfq:
        return None
    holders = {"creator": uid(rfq.creator_id), "provider": provider, "operator": (agents[4] or [""])[0], "referrer": uid(rfq.referrer_id)}
    rows = [(ROLES.get(share.role, "referrer"), share.share_ppm) for share in genesis.default_policy.shares]
    unheld = sum(ppm for role, ppm in rows if not holders[role])
    rows = [(role, 0 if not holders[role] else ppm + unheld if role == "provider" else ppm) for role, ppm in rows]
    amounts = [paid * ppm // 1000000 for _, ppm in rows]
    for n, (_, ppm) in enumerate(rows):
        amounts[n] += 1 if ppm and sum(amounts) < paid else 0
    return [(role, holders[role], amount) for (role, _), amount in zip(rows, amounts) if amount] if sum(amounts) == paid else None

def check_metering(items, bundle, ticket, started, provider, note):
    rows, proven = {}, {}
    for data in (data for run in bundle.metering for data in run.rows):
        row = attempt(decode, "Row", data)
        if not row or (uid(row.run_ticket_id), uid(row.attempt_id)) != (ticket, started):
            note("metering", "a row", "it is damaged, or of another ticket or attempt")
        if row:
            rows[hash32(data)] = row
    for run in (run for run in bundle.metering if run.head_envelope):
        try:
            head = decode("Head", open_envelope(decode("Envelope", run.head_envelope), "MeteringHead", provider))
        except ValueError as error:
            note("metering", "a run's head", error)
            continue
        at, seq = head.last_row_hash, head.last_seq
        while (row := rows.get(at)) and at not in proven and (row.seq, row.run_ticket_id, row.attempt_id) == (seq, head.run_ticket_id, head.attempt_id):
            proven[at], at, seq = row.work_units, row.prev_hash, seq - 1
    sent = [i.body for i in items if i.ok and i.kind == "record_metering"]
    if set(rows) - set(proven) or any(hash32(data) not in rows for body in sent for run in body.runs for data in run.rows):
        note("metering", "the rows", "no signature of the provider covers one of them, or one that it sent is missing")
    return proven.values()

def judge(data, trusted):
    bundle, problems, claims = decode("Bundle", data), {}, ["the times, and that the work was done as metered"]
    need(encode("Bundle", bundle) == data, "it has bytes that are no part of it")
    plain = lambda said: "".join(c if c.isprintable() else "?" for c in str(said))  # It goes to terminals.
    note = lambda check, place, message: problems.setdefault(check, plain(f"{place}: {message}")) and None
    first = bundle.items and bundle.items[0].command and attempt(read_command, bundle.items[0].command.command_body)
    genesis = first[1] if first and first[0] == "genesis" else None
    named = next((k.public_key for k in genesis.keys if k.purpose == 7), b"") if genesis else b""
    named = named if usable(named) else None
    key, state = trusted or named, ""
    if not key or named and named != key:
        note("trust", "the bundle", "its genesis names no receipt key" if not key else f"its genesis names receipt key {named.hex()}, not yours")
    if key:
        claims += [] if trusted else [f"receipt key {key.hex()} is the market's: compare it with the published one"]
        tree = attempt(read_note, bundle.checkpoint, bundle.origin, key)
        if not tree or genesis and genesis.origin != bundle.origin:
            note("checkpoint", "the checkpoint", "it is not this log's, or not signed by its receipt key")
        keys = {hash32(k.public_key): k.public_key for k in bundle.keys if usable(k.public_key)}
        items = list(read_items(bundle, key, tree, note))
        check_items(items, bundle, keys, note, claims)
        state = check_chain(items, bundle, note)
        check_order(items, bundle, genesis, keys, note)
    return state, problems, claims

def main(arguments):
    try:
        trusted = bytes.fromhex(arguments.pop(arguments.index("--key") + 1)) if "--key" in arguments else None
        need(not trusted or usable(trusted), "the key is no usable Ed25519 key")
        with open(next(a for a in arguments if a != "--key"), "rb") as file:
            data = file.read(1 << 28)
        need(data.startswith(MAGIC), "it does not begin with \"econ evidence 1\"")
        state, problems, claims = judge(data[len(MAGIC):], trusted)
    except (ValueError, OSError, LookupError, StopIteration) as error:
        return print(f"this is no evidence bundle, or it cannot be read: {error}", file=sys.stderr) or 2
    print(f"the order is {state!r}")
    for check in CHECKS:
        print(f"BROKEN bundle.{check}: {problems[check]}" if check in problems else f"holds  bundle.{check}")
    print("\n".join(f"claimed: {claim}" for claim in claims))
    return 1 if problems else 0

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
