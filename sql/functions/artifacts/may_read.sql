-- Who may fetch an artifact: whoever uploaded it, the other party of an order that names it, and a verifier for any order's.
-- The order's counterpart must have uploaded it itself: naming a stranger's hash in an RFQ opens nothing.
create or replace function artifacts.may_read(p_actor uuid, p_ledger_id integer, p_hash bytea) returns boolean
language plpgsql stable security definer set search_path = pg_catalog, pg_temp as $$
begin
  if p_actor is null then
    return false;
  end if;
  return exists (
      select from artifacts.uploads u
       where u.ledger_id = p_ledger_id and u.artifact_hash = p_hash and u.agent_id = p_actor and u.erased_at is null)
    or exists (
      select from market.orders o
        join artifacts.uploads u on u.ledger_id = o.ledger_id and u.artifact_hash = o.input_hash and u.agent_id = o.buyer_id and u.erased_at is null
       where o.ledger_id = p_ledger_id and o.input_hash = p_hash and o.provider_id = p_actor)
    or exists (
      select from market.orders o
        join artifacts.uploads u on u.ledger_id = o.ledger_id and u.artifact_hash = o.output_hash and u.agent_id = o.provider_id and u.erased_at is null
       where o.ledger_id = p_ledger_id and o.output_hash = p_hash and o.buyer_id = p_actor)
    or (exists (select from identity.keys k where k.agent_id = p_actor and k.purpose = 'verifier' and k.revoked_at is null)
      and (exists (select from market.orders o where o.ledger_id = p_ledger_id and o.input_hash = p_hash)
        or exists (select from market.orders o where o.ledger_id = p_ledger_id and o.output_hash = p_hash)));
end $$;
comment on function artifacts.may_read(uuid, integer, bytea) is
  'true: p_actor uploaded the artifact, or is the other party of an order with that input or output, or a verifier and some order names it. false without an actor.';
