-- An agent's statement: each transfer as seen from its accounts, newest first, paged by (seq, item). Two index scans merged
-- and cut: the page costs the same however long the history is.
create or replace function ledger.read_entries(p_actor uuid, p_ledger_id integer, p_asset_id integer, p_after_seq bigint,
  p_after_item integer, p_limit integer)
returns table (seq bigint, item integer, at timestamptz, transfer_id uuid, journal_id uuid, kind text, reason text, pending_id uuid,
  account_id uuid, purpose text, ref_id uuid, asset_id integer, asset_code text, scale smallint, side text, amount numeric)
language sql stable security definer set search_path = pg_catalog, pg_temp as $$
  -- A transfer between two accounts of the same agent has two entries here; WITH TIES keeps both on one page, or the cursor
  -- would lose one.
  select * from (
    select t.seq, t.item, t.at, t.transfer_id, t.journal_id, t.kind, t.reason, t.pending_id, a.account_id, a.purpose, a.ref_id,
           s.asset_id, s.code, s.scale, t.side, t.amount
      from ledger.accounts a
      join ledger.assets s on s.asset_id = a.asset_id
      cross join lateral (
        (select 'debit' as side, d.* from ledger.transfers d
          where d.ledger_id = a.ledger_id and d.debit_account_id = a.account_id
            and d.seq <= coalesce(p_after_seq, 9223372036854775807)
            and (p_after_seq is null or (d.seq, d.item) < (p_after_seq, p_after_item))
          order by d.seq desc, d.item desc limit least(greatest(p_limit, 0), 1000))
        union all
        (select 'credit', c.* from ledger.transfers c
          where c.ledger_id = a.ledger_id and c.credit_account_id = a.account_id
            and c.seq <= coalesce(p_after_seq, 9223372036854775807)
            and (p_after_seq is null or (c.seq, c.item) < (p_after_seq, p_after_item))
          order by c.seq desc, c.item desc limit least(greatest(p_limit, 0), 1000))) as t
     where a.ledger_id = p_ledger_id and a.owner_id = p_actor and p_actor is not null
       and (p_asset_id is null or a.asset_id = p_asset_id)
     order by t.seq desc, t.item desc
     fetch first (least(greatest(p_limit, 0), 1000)) rows with ties) as page
   order by page.seq desc, page.item desc, page.side desc
$$;
comment on function ledger.read_entries(uuid, integer, integer, bigint, integer, integer) is
  'The actor''s entries, newest first: pass the last row''s (seq, item) to go on, NULLs to begin; at most 1,000, and one more when the last transfer has both sides here. p_asset_id NULL: every asset. amount: minor units; side: debit (left or was reserved) or credit. Nothing without an actor.';
