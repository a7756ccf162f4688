-- Closes the accounting period that ends at a moment of the past. From then on nothing may be told with an event time before
-- it. What is recorded now happens now, at or after that moment, so closing never stands in the way of work.
create or replace function ledger.close_period(p_ctx base.command_context, p_args jsonb) returns base.outcome
language plpgsql volatile security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_ends_at timestamptz := case when jsonb_typeof(p_args -> 'ends_at_us') = 'number' and p_args ->> 'ends_at_us' ~ '^[1-9][0-9]{0,15}$'
    then base.from_us((p_args ->> 'ends_at_us')::bigint) end;
  v_period ledger.periods;
begin
  if v_ends_at is null then
    return base.refusal('UL104', 'agent', p_ctx.actor_id, 'ends_at_us must be a moment after 1970 in Unix microseconds');
  end if;
  select * into v_period from ledger.periods p where p.ledger_id = p_ctx.ledger_id and p.ends_at = v_ends_at;
  if found then
    return row('ok', 'ledger', p_ctx.actor_id, ledger.close_period_facts(v_period) || '{"exists": true}', null)::base.outcome;
  end if;
  if v_ends_at > p_ctx.at then
    return base.refusal('UL602', 'agent', p_ctx.actor_id, 'ends_at_us is ahead of ledger time: close the period when it has ended');
  end if;
  select * into v_period from ledger.periods p where p.ledger_id = p_ctx.ledger_id order by p.ends_at desc limit 1;
  if v_ends_at < v_period.ends_at then
    return base.refusal('UL603', 'agent', p_ctx.actor_id, format('the books are closed up to %s already: periods end one after the other', base.us(v_period.ends_at)));
  end if;
  insert into ledger.periods (ledger_id, ends_at, seq, closed_at) values (p_ctx.ledger_id, v_ends_at, p_ctx.seq, p_ctx.at)
  returning * into v_period;
  return row('ok', 'ledger', p_ctx.actor_id, ledger.close_period_facts(v_period), null)::base.outcome;
end $$;
comment on function ledger.close_period(base.command_context, jsonb) is
  'Handler of kind close_period (ends_at_us). ok with "exists" when that very period is closed. Refuses UL104 malformed, UL602 not ended yet, UL603 before the end of the last closed period.';

create or replace function ledger.close_period_facts(p_period ledger.periods) returns jsonb
language sql stable parallel safe as $$
  select jsonb_build_object('ends_at_us', base.us(p_period.ends_at), 'closed_at_us', base.us(p_period.closed_at))
$$;
comment on function ledger.close_period_facts(ledger.periods) is 'Facts of a closed period''s receipt.';
