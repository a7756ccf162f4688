-- Who may fetch an artifact: whoever uploaded it, the other party of an order that names it, and a verifier for any order's.
-- The order's counterpart must have uploaded it itself: naming a stranger's hash in an RFQ opens nothing.
create or replace function artifacts.may_read(p_actor uuid, p_ledger_id integer, p_hash bytea) returns boolean
language plpgsql stable security definer set search_path = pg_catalog, pg_temp as $$
begin
  return artifacts.may_read_related(p_actor, p_ledger_id, p_hash, true);
end $$;
comment on function artifacts.may_read(uuid, integer, bytea) is
  'true: p_actor uploaded the artifact, or is the other party of an order with that input or output, or a verifier and some order names it. false without an actor, and from the command on that erased it.';

-- The same of uploads that are stored, or of all that ever were.
create or replace function artifacts.may_read_related(p_actor uuid, p_ledger_id integer, p_hash bytea, p_stored boolean) returns boolean
language plpgsql stable security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_holders uuid[];
begin
  if p_actor is null then
    return false;
  end if;
  select array_agg(u.agent_id) into v_holders from artifacts.uploads u
   where u.ledger_id = p_ledger_id and u.artifact_hash = p_hash
     and (not p_stored or (u.erased_at is null and not exists (
       select from artifacts.erasures e
        where e.ledger_id = u.ledger_id and e.artifact_hash = u.artifact_hash and e.seq > u.after_seq and coalesce(e.agent_id, u.agent_id) = u.agent_id)));
  return p_actor = any (coalesce(v_holders, '{}'))
    or exists (
      select from market.orders o
       where o.ledger_id = p_ledger_id and o.input_hash = p_hash and o.provider_id = p_actor and o.buyer_id = any (v_holders))
    or exists (
      select from market.orders o
       where o.ledger_id = p_ledger_id and o.output_hash = p_hash and o.buyer_id = p_actor and o.provider_id = any (v_holders))
    or (exists (select from identity.keys k where k.agent_id = p_actor and k.purpose = 'verifier' and k.revoked_at is null)
      and (exists (select from market.orders o where o.ledger_id = p_ledger_id and o.input_hash = p_hash)
        or exists (select from market.orders o where o.ledger_id = p_ledger_id and o.output_hash = p_hash)));
end $$;
comment on function artifacts.may_read_related(uuid, integer, bytea, boolean) is
  'Whether p_actor holds the artifact, is its holder''s counterpart, or may judge it. p_stored: only uploads that are stored count, not those withdrawn or erased.';
