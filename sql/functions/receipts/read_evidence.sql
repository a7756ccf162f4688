-- Everything signed that made one order what it is, for its buyer, its provider, the operator and verifiers: the ledger's
-- genesis, what registered (or revoked) the keys of its parties, the steps of its RFQ, offer and order, and every receipt
-- about the order itself, refusals included. A metering command that carried other orders' rows too is not among them,
-- because those are not this order's to show: its rows come from receipts.read_evidence_rows, under their own signatures.
create or replace function receipts.read_evidence(p_actor uuid, p_ledger_id integer, p_order_id uuid)
returns table (seq bigint, command_id uuid, signature_base bytea, signature bytea, key_id bytea, signed_body bytea, content_type text,
  body bytea, recorded text, receipt_id bytea, envelope bytea)
language plpgsql stable security definer set search_path = pg_catalog, pg_temp as $$
#variable_conflict use_column
declare
  v_order market.orders;
  v_parties uuid[];
begin
  select * into v_order from market.orders o
   where o.ledger_id = p_ledger_id and o.order_id = p_order_id
     and (p_actor in (o.buyer_id, o.provider_id)
       or exists (select from identity.keys k where k.agent_id = p_actor and k.purpose in ('operator', 'verifier') and k.revoked_at is null));
  if not found then
    return;
  end if;
  select array[r.buyer_id, v_order.provider_id, r.creator_id, r.referrer_id] into v_parties
    from market.rfqs r where r.ledger_id = p_ledger_id and r.rfq_id = v_order.rfq_id;
  return query
  with recursive about_order as (
    select r.seq, r.prev from receipts.subject_heads h
      join receipts.receipts r on r.ledger_id = h.ledger_id and r.seq = h.seq
     where h.ledger_id = p_ledger_id and h.subject_id = p_order_id
    union all
    select r.seq, r.prev from about_order a
      join receipts.receipts r on r.ledger_id = p_ledger_id and r.receipt_id = a.prev
  ), wanted as (
    select 1::bigint as seq
    union select a.seq from about_order a
    union select t.seq from base.transitions t
     where t.ledger_id = p_ledger_id and t.subject_id in (v_order.rfq_id, v_order.offer_id, p_order_id)
    union select k.seq from identity.keys k where k.ledger_id = p_ledger_id and k.agent_id = any (v_parties)
    union select k.revoked_seq from identity.keys k
     where k.ledger_id = p_ledger_id and k.agent_id = any (v_parties) and k.revoked_seq is not null
  )
  select c.seq, c.command_id, c.signature_base, c.signature, c.key_id, c.signed_body, c.content_type, c.body, c.recorded::text,
    r.receipt_id, r.envelope
    from wanted w
    join base.commands c on c.ledger_id = p_ledger_id and c.seq = w.seq
    join receipts.receipts r on r.ledger_id = c.ledger_id and r.seq = c.seq
   order by c.seq;
end $$;
comment on function receipts.read_evidence(uuid, integer, uuid) is
  'Commands and receipts that prove an order, by seq; only for its buyer, its provider, the operator and verifiers, nothing for anybody else. recorded is JSON text.';
