-- Told to those who could have read it at the time, and to nobody else: that these bytes were erased. Whoever withdrew its own
-- upload before, or sent the same bytes after, learns nothing of what others had; nor does a counterpart of theirs.
create or replace function artifacts.was_erased(p_actor uuid, p_ledger_id integer, p_hash bytea) returns boolean
language plpgsql stable security definer set search_path = pg_catalog, pg_temp as $$
begin
  return exists (
    select from artifacts.erasures e
     where e.ledger_id = p_ledger_id and e.artifact_hash = p_hash
       and (exists (select from identity.keys k where k.agent_id = p_actor and k.purpose = 'verifier' and k.revoked_at is null)
         or exists (
           select from artifacts.uploads u
            where u.ledger_id = e.ledger_id and u.artifact_hash = e.artifact_hash and u.after_seq < e.seq
              and coalesce(e.agent_id, u.agent_id) = u.agent_id and (u.erased_at is null or u.erased_at >= e.at)
              and (u.agent_id = p_actor
                or exists (select from market.orders o
                            where o.ledger_id = e.ledger_id and o.input_hash = e.artifact_hash and o.provider_id = p_actor and o.buyer_id = u.agent_id)
                or exists (select from market.orders o
                            where o.ledger_id = e.ledger_id and o.output_hash = e.artifact_hash and o.buyer_id = p_actor and o.provider_id = u.agent_id)))))
    and artifacts.may_read_related(p_actor, p_ledger_id, p_hash, false);
end $$;
comment on function artifacts.was_erased(uuid, integer, bytea) is
  'true: an upload of this artifact was erased at some time, and it was p_actor''s own or that of the other party of an order that names it, or p_actor is a verifier. Whether it has come back since is may_read''s to say.';
