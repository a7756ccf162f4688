-- How many transfers a command has posted so far: the index on (ledger_id, seq) makes it a probe that finds nothing for the
-- first posting of a command, which is nearly every one.
create or replace function ledger.items_of(p_ledger_id integer, p_seq bigint) returns integer
language sql stable security invoker parallel safe as $$
  select coalesce(max(t.item), 0) from ledger.transfers t where t.ledger_id = p_ledger_id and t.seq = p_seq
$$;
comment on function ledger.items_of(integer, bigint) is 'Number of the newest transfer within a command; 0: none yet.';
