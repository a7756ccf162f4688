-- The newest transfers of one account before a place in the log: from the tail, which is read by seq, and from the account's
-- pages. Costs the tail (bounded by the pager) and one lookup per transfer returned, however long the history is.
create or replace function ledger.entries_before(p_ledger_id integer, p_account_id uuid, p_seq bigint, p_item integer, p_limit integer)
returns setof ledger.transfers
language sql stable security invoker parallel safe as $$
  select * from (
    (select t.* from ledger.transfers t
      where t.ledger_id = p_ledger_id and t.seq > coalesce((select w.through_seq from ledger.paged w where w.ledger_id = p_ledger_id), 0)
        and t.seq <= p_seq and (t.seq < p_seq or t.item < p_item)
        and (t.debit_account_id = p_account_id or t.credit_account_id = p_account_id)
      order by t.seq desc, t.item desc limit p_limit)
    union all
    select p.* from ledger.entries_paged(p_ledger_id, p_account_id, p_seq, p_item, p_limit) as p) as e
  order by e.seq desc, e.item desc limit p_limit
$$;
comment on function ledger.entries_before(integer, uuid, bigint, integer, integer) is
  'Up to p_limit transfers that touch an account, newest first, strictly before (p_seq, p_item); the largest bigint and 0 begin at the newest. Raises nothing.';
