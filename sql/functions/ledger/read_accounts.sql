-- Accounts with their balances now: the actor's own, or all for the operator. Paged by account id. One account, one owner's and
-- all of them are found by different indexes, so each has its branch; whoever is asked for, everybody but the operator looks
-- among their own.
create or replace function ledger.read_accounts(p_actor uuid, p_ledger_id integer, p_account_id uuid, p_purpose text, p_owner_id uuid,
  p_after uuid, p_limit integer)
returns table (account_id uuid, asset_id integer, asset_code text, scale smallint, purpose text, owner_id uuid, ref_id uuid,
  debits_pending numeric, debits_posted numeric, credits_pending numeric, credits_posted numeric, spendable numeric,
  debits_must_not_exceed_credits boolean, credits_must_not_exceed_debits boolean, closed boolean, closed_by uuid, opened_at timestamptz)
language sql stable security definer set search_path = pg_catalog, pg_temp as $$
  select a.account_id, a.asset_id, s.code, s.scale, a.purpose, a.owner_id, a.ref_id, a.debits_pending, a.debits_posted, a.credits_pending,
         a.credits_posted, ledger.spendable(a.ledger_id, a.account_id, l.last_time), a.debits_must_not_exceed_credits,
         a.credits_must_not_exceed_debits, a.closed, a.closed_by, a.opened_at
    from base.ledgers l
    cross join lateral (
      select x.* from ledger.accounts x
       where p_account_id is not null and x.ledger_id = p_ledger_id and x.account_id = p_account_id
      union all
      select x.* from ledger.accounts x
       where p_account_id is null and x.ledger_id = p_ledger_id
         and x.owner_id = case when ledger.reads_all(p_actor) then p_owner_id else p_actor end
      union all
      (select x.* from ledger.accounts x
        where p_account_id is null and p_owner_id is null and ledger.reads_all(p_actor) and x.ledger_id = p_ledger_id
          and (p_purpose is null or x.purpose = p_purpose) and (p_after is null or x.account_id > p_after)
        order by x.account_id limit least(greatest(p_limit, 0), 1000))) as a
    join ledger.assets s on s.asset_id = a.asset_id
   where l.ledger_id = p_ledger_id and p_actor is not null and (a.owner_id = p_actor or ledger.reads_all(p_actor))
     and (p_purpose is null or a.purpose = p_purpose) and (p_owner_id is null or a.owner_id = p_owner_id)
     and (p_after is null or a.account_id > p_after)
   order by a.account_id limit least(greatest(p_limit, 0), 1000)
$$;
comment on function ledger.read_accounts(uuid, integer, uuid, text, uuid, uuid, integer) is
  'Accounts by id, at most 1,000; p_after: the last id of the page before; p_account_id, p_purpose, p_owner_id NULL: any. Minor units; spendable counts expired holds as free. Nothing without an actor, others'' accounts for the operator only.';
