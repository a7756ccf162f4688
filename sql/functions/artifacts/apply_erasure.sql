-- Marks what the log says of one artifact. Uploads that came after an erasure are none of its business. Upkeep, like
-- record_erasure: the caller has removed the bytes before, where artifacts.erases_bytes says so, and may repeat both.
create or replace function artifacts.apply_erasure(p_ledger_id integer, p_hash bytea, p_at timestamptz) returns void
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
begin
  update artifacts.uploads u set erased_at = p_at
   where u.ledger_id = p_ledger_id and u.artifact_hash = p_hash and u.erased_at is null
     and exists (select from artifacts.erasures e
                  where e.ledger_id = u.ledger_id and e.artifact_hash = u.artifact_hash and e.seq > u.after_seq
                    and coalesce(e.agent_id, u.agent_id) = u.agent_id);
end $$;
comment on function artifacts.apply_erasure(integer, bytea, timestamptz) is
  'Marks erased the uploads that an erasure in the log concerns: it is carried out, and artifacts.pending_erasures names it no more.';
