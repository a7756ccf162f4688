-- A clearing account has no owner: its ref_id is the other ledger, written as a uuid that a person can read.
create or replace function ledger.peer_ref(p_peer_ledger_id integer) returns uuid
language sql immutable parallel safe as $$
  select ('00000000-0000-8000-8000-' || lpad(to_hex(p_peer_ledger_id), 12, '0'))::uuid
$$;
comment on function ledger.peer_ref(integer) is 'ref_id of the clearing accounts for a ledger: a UUIDv8 that ends in its number, hexadecimal.';
