-- Whose receipts are these? Operators and verifiers read them all; everybody else reads those of its own doings.
create or replace function receipts.reads_all(p_actor uuid) returns boolean
language sql stable security invoker parallel safe as $$
  select exists (select from identity.keys k where k.agent_id = p_actor and k.purpose in ('operator', 'verifier') and k.revoked_at is null)
$$;
comment on function receipts.reads_all(uuid) is
  'true: the agent has a valid operator or verifier key and may read every receipt. NULL: false.';
