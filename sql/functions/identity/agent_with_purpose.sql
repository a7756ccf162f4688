-- The house's own agents are found by the purpose of their key.
create or replace function identity.agent_with_purpose(p_purpose text) returns uuid
language plpgsql stable security invoker set search_path = pg_catalog, pg_temp as $$
begin
  return (
    select k.agent_id from identity.keys k where k.purpose = p_purpose and k.revoked_at is null order by k.seq, k.key_id limit 1);
end $$;
comment on function identity.agent_with_purpose(text) is 'The first agent with a valid key of this purpose; NULL when there is none.';
