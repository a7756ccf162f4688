-- An agent's own balances, summed over its accounts of one purpose (a buyer has an escrow account per order).
create or replace function ledger.read_balances(p_actor uuid, p_ledger_id integer)
returns table (asset_id integer, asset_code text, scale smallint, purpose text, posted numeric, pending_out numeric, pending_in numeric, spendable numeric)
language sql stable security definer set search_path = pg_catalog, pg_temp as $$
  select s.asset_id, s.code, s.scale, a.purpose,
         sum(a.credits_posted - a.debits_posted), sum(a.debits_pending), sum(a.credits_pending),
         sum(case when a.debits_pending = 0 then a.credits_posted - a.debits_posted
                  else ledger.spendable(a.ledger_id, a.account_id, l.last_time) end)
    from base.ledgers l
    join ledger.accounts a on a.ledger_id = l.ledger_id and a.owner_id = p_actor
    join ledger.assets s on s.asset_id = a.asset_id
   where l.ledger_id = p_ledger_id and p_actor is not null
   group by s.asset_id, s.code, s.scale, a.purpose
   order by s.asset_id, a.purpose
$$;
comment on function ledger.read_balances(uuid, integer) is
  'The actor''s balances per asset and purpose, minor units. posted: credits less debits; pending_out, pending_in: reserved to leave, to arrive; spendable: posted less pending_out, with holds expired at the newest ledger time counted as free. Nothing without an actor.';
