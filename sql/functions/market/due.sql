-- What timers, verifier and settler should act on. Each branch reads a partial index that holds only what still waits, so
-- asking costs little however long the history is. Reading it changes nothing; the command judges again. Index scans only,
-- for the reason that market.route gives.
create or replace function market.due(p_ledger_id integer, p_at timestamptz, p_limit integer)
returns table (action text, subject_id uuid)
language plpgsql stable security definer set search_path = pg_catalog, pg_temp set enable_bitmapscan = off set enable_seqscan = off as $$
#variable_conflict use_column
declare
  v_grace interval;
begin
  select market.ms(s.ticket_grace_ms) into v_grace from market.settings s where s.ledger_id = p_ledger_id;
  return query (
    select 'expire_rfq', r.rfq_id from market.rfqs r
     where r.ledger_id = p_ledger_id and r.state = 'open' and r.expires_at <= p_at order by r.expires_at limit p_limit)
  union all (
    select 'expire_order', o.order_id from market.orders o
     where o.ledger_id = p_ledger_id and o.state in ('ordered', 'running') and o.ticket_expires_at < p_at - v_grace
     order by o.ticket_expires_at limit p_limit)
  union all (
    -- judge_by is when the buyer's time ends; a dispute waits for nothing.
    select 'judge', o.order_id from market.orders o
     where o.ledger_id = p_ledger_id and o.state in ('reported', 'disputed') and (o.state = 'disputed' or o.judge_by < p_at)
     order by o.judge_by limit p_limit)
  union all (
    select 'settle', o.order_id from market.orders o
     where o.ledger_id = p_ledger_id and o.state = 'accepted' order by o.judged_at limit p_limit);
end $$;
comment on function market.due(integer, timestamptz, integer) is
  'Subjects due at p_at, up to p_limit of each action, oldest first: expire_rfq (rfq), expire_order, judge and settle (order).';
