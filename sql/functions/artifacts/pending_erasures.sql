-- What the log says is erased and the store still has: commands that were cut off between the two, as a rule none.
create or replace function artifacts.pending_erasures(p_ledger_id integer, p_limit integer) returns setof bytea
language sql stable security definer set search_path = pg_catalog, pg_temp as $$
  select distinct e.artifact_hash
    from artifacts.erasures e
    join artifacts.uploads u on u.ledger_id = e.ledger_id and u.artifact_hash = e.artifact_hash and u.erased_at is null
     and u.after_seq < e.seq and coalesce(e.agent_id, u.agent_id) = u.agent_id
   where e.ledger_id = p_ledger_id
   order by e.artifact_hash limit p_limit
$$;
comment on function artifacts.pending_erasures(integer, integer) is 'At most p_limit hashes whose erasure is in the log and not carried out: artifacts.apply_erasure is due.';
