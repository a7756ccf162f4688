-- Transfers newest first: all of them for the operator; of one journal also for whoever owns one of its accounts.
create or replace function ledger.read_transfers(p_actor uuid, p_ledger_id integer, p_journal_id uuid, p_before_seq bigint,
  p_before_item integer, p_limit integer)
returns table (seq bigint, item integer, at timestamptz, effective_at timestamptz, transfer_id uuid, journal_id uuid, kind text,
  debit_account_id uuid, credit_account_id uuid, asset_id integer, asset_code text, scale smallint, amount numeric, pending_id uuid,
  timeout_at timestamptz, reverses_id uuid, flags smallint, reason text)
language sql stable security definer set search_path = pg_catalog, pg_temp as $$
  select t.seq, t.item, t.at, t.effective_at, t.transfer_id, t.journal_id, t.kind, t.debit_account_id, t.credit_account_id, t.asset_id,
         s.code, s.scale, t.amount, t.pending_id, t.timeout_at, t.reverses_id, t.flags, t.reason
    from ((select x.* from ledger.transfers x
            where p_journal_id is null and ledger.reads_all(p_actor) and x.ledger_id = p_ledger_id
              and x.seq <= coalesce(p_before_seq, 9223372036854775807) and (p_before_seq is null or (x.seq, x.item) < (p_before_seq, p_before_item))
            order by x.seq desc, x.item desc limit least(greatest(p_limit, 0), 1000))
          union all
          select x.* from ledger.journals j
            join ledger.transfers x on x.ledger_id = j.ledger_id and x.seq = j.seq and x.journal_id = j.journal_id
           where p_journal_id is not null and j.ledger_id = p_ledger_id and j.journal_id = p_journal_id
          -- Not UNION ALL: a transfer whose id is its journal's may have others in that journal, and then is in both.
          union
          select x.* from ledger.transfers x
           where p_journal_id is not null and x.ledger_id = p_ledger_id and x.transfer_id = p_journal_id and x.journal_id = p_journal_id) as t
    join ledger.assets s on s.asset_id = t.asset_id
   where p_actor is not null
     and (p_before_seq is null or (t.seq, t.item) < (p_before_seq, p_before_item))
     and (ledger.reads_all(p_actor) or exists (select from ledger.accounts a where a.ledger_id = p_ledger_id and a.owner_id = p_actor
            and a.account_id in (t.debit_account_id, t.credit_account_id)))
   order by t.seq desc, t.item desc limit least(greatest(p_limit, 0), 1000)
$$;
comment on function ledger.read_transfers(uuid, integer, uuid, bigint, integer, integer) is
  'Transfers, newest first, at most 1,000; go on with the last row''s (seq, item). p_journal_id NULL: every transfer, for the operator only; else those of one business event that the actor may see. amount: minor units.';
