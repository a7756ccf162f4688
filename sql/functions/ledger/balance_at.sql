-- An account's four balances as they were recorded after a command: the closing balances of the last page that ended by then,
-- and the entries since. The newest state is the account's own row.
create or replace function ledger.balance_at(p_ledger_id integer, p_account_id uuid, p_seq bigint,
  out debits_pending numeric, out debits_posted numeric, out credits_pending numeric, out credits_posted numeric)
language plpgsql stable security invoker parallel safe as $$
declare
  v_through constant bigint := coalesce((select w.through_seq from ledger.paged w where w.ledger_id = p_ledger_id), 0);
  v_from bigint;
begin
  if p_seq >= (select l.last_seq from base.ledgers l where l.ledger_id = p_ledger_id) then
    select a.debits_pending, a.debits_posted, a.credits_pending, a.credits_posted
      into debits_pending, debits_posted, credits_pending, credits_posted
      from ledger.accounts a where a.ledger_id = p_ledger_id and a.account_id = p_account_id;
    return;
  end if;
  select p.debits_pending, p.debits_posted, p.credits_pending, p.credits_posted, p.last_seq
    into debits_pending, debits_posted, credits_pending, credits_posted, v_from
    from ledger.entry_pages p
   where p.ledger_id = p_ledger_id and p.account_id = p_account_id and p.last_seq <= p_seq
   order by p.ledger_id desc, p.account_id desc, p.last_seq desc, p.last_item desc limit 1;
  -- A page may end inside a command: what follows in it comes in by the entries.
  select coalesce(debits_pending, 0) + coalesce(sum(m.dp), 0), coalesce(debits_posted, 0) + coalesce(sum(m.dpo), 0),
         coalesce(credits_pending, 0) + coalesce(sum(m.cp), 0), coalesce(credits_posted, 0) + coalesce(sum(m.cpo), 0)
    into debits_pending, debits_posted, credits_pending, credits_posted
    from (select t.* from (select p.transfer_ids from ledger.entry_pages p
                            where p.ledger_id = p_ledger_id and p.account_id = p_account_id and p.last_seq > p_seq
                            order by p.ledger_id, p.account_id, p.last_seq, p.last_item limit 1) as g
            cross join lateral unnest(g.transfer_ids) as i (id)
            join ledger.transfers t on t.ledger_id = p_ledger_id and t.transfer_id = i.id
           where t.seq <= p_seq
          union all
          select t.* from ledger.transfers t
           where t.ledger_id = p_ledger_id and t.seq > v_through and t.seq <= p_seq
             and (t.debit_account_id = p_account_id or t.credit_account_id = p_account_id)) as t
    cross join lateral ledger.move_of(t, p_account_id) as m;
end $$;
comment on function ledger.balance_at(integer, uuid, bigint) is
  'The account''s balances after command p_seq, minor units, as recorded (an expired hold counts until its expiry is written); zeros before its first transfer.';
