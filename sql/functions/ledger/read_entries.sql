-- An agent's statement over all its accounts, newest first, paged by (seq, item): the newest entries of each account, merged and
-- cut.
create or replace function ledger.read_entries(p_actor uuid, p_ledger_id integer, p_asset_id integer, p_after_seq bigint,
  p_after_item integer, p_limit integer)
returns table (seq bigint, item integer, at timestamptz, transfer_id uuid, journal_id uuid, kind text, reason text, pending_id uuid,
  account_id uuid, purpose text, ref_id uuid, asset_id integer, asset_code text, scale smallint, side text, amount numeric)
language plpgsql stable security definer set search_path = pg_catalog, pg_temp as $$
#variable_conflict use_column
declare
  v_limit constant integer := least(greatest(coalesce(p_limit, 0), 0), 1000);
  v_seq constant bigint := coalesce(p_after_seq, 9223372036854775807);
  v_item constant integer := coalesce(p_after_item, 0);
  v_through constant bigint := coalesce((select w.through_seq from ledger.paged w where w.ledger_id = p_ledger_id), 0);
  v_accounts uuid[];
begin
  if p_actor is null then
    return;
  end if;
  v_accounts := array(select a.account_id from ledger.accounts a
    where a.ledger_id = p_ledger_id and a.owner_id = p_actor and (p_asset_id is null or a.asset_id = p_asset_id));
  return query
  with own as materialized (select unnest(v_accounts) as id),
  -- The tail once for all accounts; then the pages of each.
  found as (
    select t.* from ledger.transfers t
     where t.ledger_id = p_ledger_id and t.seq > v_through and t.seq <= v_seq and (t.seq < v_seq or t.item < v_item)
       and (t.debit_account_id in (select o.id from own o) or t.credit_account_id in (select o.id from own o))
    union
    select t.* from own o cross join lateral ledger.entries_paged(p_ledger_id, o.id, v_seq, v_item, v_limit) as t),
  -- A transfer between two accounts of the same agent has two entries here; both are on one page, or the cursor would lose one.
  cut as (select f.* from found f order by f.seq desc, f.item desc limit v_limit)
  select t.seq, t.item, t.at, t.transfer_id, t.journal_id, t.kind, t.reason, t.pending_id, a.account_id, a.purpose, a.ref_id,
         s.asset_id, s.code, s.scale, e.side, t.amount
    from cut t
    cross join lateral (values ('debit', t.debit_account_id), ('credit', t.credit_account_id)) as e (side, account_id)
    join own o on o.id = e.account_id
    join ledger.accounts a on a.ledger_id = p_ledger_id and a.account_id = e.account_id
    join ledger.assets s on s.asset_id = a.asset_id
   order by t.seq desc, t.item desc, e.side desc;
end $$;
comment on function ledger.read_entries(uuid, integer, integer, bigint, integer, integer) is
  'The actor''s entries, newest first: pass the last row''s (seq, item) to go on, NULLs to begin; those of at most 1,000 transfers, and two where both sides are the actor''s. p_asset_id NULL: every asset. amount: minor units; side: debit (left or was reserved) or credit. Nothing without an actor.';
