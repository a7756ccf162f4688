-- Whose books are these? The operator reads them all; everybody else reads what is theirs.
create or replace function ledger.reads_all(p_actor uuid) returns boolean
language sql stable security invoker parallel safe as $$
  select exists (select from identity.keys k where k.agent_id = p_actor and k.purpose = 'operator' and k.revoked_at is null)
$$;
comment on function ledger.reads_all(uuid) is 'true: the agent has a valid operator key and may read every account. NULL: false.';
