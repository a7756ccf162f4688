-- The paged part of ledger.entries_before: the page that the place is in, and as many before it as hold enough entries.
create or replace function ledger.entries_paged(p_ledger_id integer, p_account_id uuid, p_seq bigint, p_item integer, p_limit integer)
returns setof ledger.transfers
language sql stable security invoker parallel safe as $$
  select t.*
    from ((select p.transfer_ids from ledger.entry_pages p
            where p.ledger_id = p_ledger_id and p.account_id = p_account_id and (p.last_seq, p.last_item) >= (p_seq, p_item)
            order by p.ledger_id, p.account_id, p.last_seq, p.last_item limit 1)
          union all
          select q.transfer_ids
            from (select p.transfer_ids, sum(p.entries) over (order by p.last_seq desc, p.last_item desc) - p.entries as newer
                    from (select p.transfer_ids, p.entries, p.last_seq, p.last_item from ledger.entry_pages p
                           where p.ledger_id = p_ledger_id and p.account_id = p_account_id and (p.last_seq, p.last_item) < (p_seq, p_item)
                           order by p.ledger_id desc, p.account_id desc, p.last_seq desc, p.last_item desc limit p_limit) as p) as q
           where q.newer < p_limit) as g
    cross join lateral unnest(g.transfer_ids) as i (id)
    -- LIMIT keeps this a lookup by key: a planner without statistics would read the whole ledger into a hash table.
    cross join lateral (select x.* from ledger.transfers x where x.ledger_id = p_ledger_id and x.transfer_id = i.id limit 1) as t
   where t.seq <= p_seq and (t.seq < p_seq or t.item < p_item)
   order by t.seq desc, t.item desc limit p_limit
$$;
comment on function ledger.entries_paged(integer, uuid, bigint, integer, integer) is
  'Up to p_limit paged transfers of an account, newest first, strictly before (p_seq, p_item).';
