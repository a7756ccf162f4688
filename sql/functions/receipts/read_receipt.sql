-- A receipt's exact bytes, for its parties: the command's actor, or an agent that was told of the command's event.
create or replace function receipts.read_receipt(p_actor uuid, p_ledger_id integer, p_seq bigint)
returns table (seq bigint, receipt_id bytea, subject_id uuid, prev bytea, envelope bytea)
language sql stable security definer set search_path = pg_catalog, pg_temp as $$
  select r.seq, r.receipt_id, r.subject_id, r.prev, r.envelope
    from receipts.receipts r join base.commands c on c.ledger_id = r.ledger_id and c.seq = r.seq
   where p_actor is not null and r.ledger_id = p_ledger_id and r.seq = p_seq
     and (receipts.is_told(p_actor, c.ledger_id, c.seq, c.actor_id) or receipts.reads_all(p_actor))
$$;
comment on function receipts.read_receipt(uuid, integer, bigint) is
  'The receipt''s exact envelope, for the command''s actor, whoever was told of it, the operator and the verifier; nothing for anybody else.';
