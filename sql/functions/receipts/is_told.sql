-- Was this agent a party to the command: its sender, or told of its event?
create or replace function receipts.is_told(p_actor uuid, p_ledger_id integer, p_seq bigint, p_sender uuid) returns boolean
language sql stable security invoker parallel safe as $$
  select p_sender = p_actor
    or exists (select from market.feed_events f where f.ledger_id = p_ledger_id and f.agent_id = p_actor and f.seq = p_seq)
$$;
comment on function receipts.is_told(uuid, integer, bigint, uuid) is
  'true: p_actor sent the command or was told of it, so its receipt is p_actor''s to see. Not true without an actor.';
