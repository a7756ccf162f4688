-- Appends to an agent's feed. The row is part of the command's transaction, so a subscriber that reads in order of seq
-- sees exactly what was committed, in log order.
create or replace function market.tell(p_ctx base.command_context, p_agent uuid, p_n smallint, p_kind text, p_subject uuid) returns void
language plpgsql volatile security invoker set search_path = pg_catalog, pg_temp as $$
begin
  insert into market.feed_events (ledger_id, agent_id, seq, n, kind, subject_id, at)
  values (p_ctx.ledger_id, p_agent, p_ctx.seq, p_n, p_kind, p_subject, p_ctx.at);
end $$;
comment on function market.tell(base.command_context, uuid, smallint, text, uuid) is
  'Appends one event to the feed of p_agent; p_n orders the events of one command and must differ per agent.';
