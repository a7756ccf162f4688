-- One account's statement, for its owner and the operator.
create or replace function ledger.read_statement(p_actor uuid, p_ledger_id integer, p_account_id uuid, p_by text, p_before_at timestamptz,
  p_before_seq bigint, p_before_item integer, p_limit integer)
returns table (seq bigint, item integer, at timestamptz, event_at timestamptz, transfer_id uuid, journal_id uuid, kind text, reason text,
  pending_id uuid, reverses_id uuid, counter_account_id uuid, side text, amount numeric, balance numeric, pending_out numeric, pending_in numeric)
language sql stable security definer set search_path = pg_catalog, pg_temp as $$
  select s.*
    from ledger.accounts a
    cross join lateral ledger.statement(p_ledger_id, a.account_id, p_by, p_before_at, p_before_seq, p_before_item,
      least(greatest(p_limit, 0), 1000)) as s
   where a.ledger_id = p_ledger_id and a.account_id = p_account_id and p_actor is not null
     and (a.owner_id = p_actor or ledger.reads_all(p_actor))
$$;
comment on function ledger.read_statement(uuid, integer, uuid, text, timestamptz, bigint, integer, integer) is
  'ledger.statement of an account that the actor owns, or any for the operator; at most 1,000 entries. Nothing otherwise.';
