-- An account's statement, newest first, with the balance after each entry, on either axis: by record time (as the books were
-- written: seq, item) or by event time (as things happened: event time, then seq, item; posted movements only).
-- A page begins strictly before the place given; all NULL: at the newest.
create or replace function ledger.statement(p_ledger_id integer, p_account_id uuid, p_by text, p_before_at timestamptz,
  p_before_seq bigint, p_before_item integer, p_limit integer)
returns table (seq bigint, item integer, at timestamptz, event_at timestamptz, transfer_id uuid, journal_id uuid, kind text, reason text,
  pending_id uuid, reverses_id uuid, counter_account_id uuid, side text, amount numeric, balance numeric, pending_out numeric, pending_in numeric)
language plpgsql stable security invoker as $$
#variable_conflict use_column
declare
  v_rows ledger.transfers[];
  v_base record;
begin
  if p_by = 'event' then
    v_rows := ledger.statement_event_rows(p_ledger_id, p_account_id, p_before_at, p_before_seq, p_before_item, p_limit);
    select b.balance, null::numeric as pending_out, null::numeric as pending_in into v_base
      from ledger.statement_event_balance(p_ledger_id, p_account_id, v_rows[1]) as b (balance);
  else
    v_rows := array(select e from ledger.entries_before(p_ledger_id, p_account_id, coalesce(p_before_seq, 9223372036854775807),
      coalesce(p_before_item, 0), p_limit) as e);
    -- The balance after the page's first entry: that of its command, less what follows in the command.
    select b.credits_posted - b.debits_posted - coalesce(sum(m.cpo - m.dpo), 0) as balance,
           b.debits_pending - coalesce(sum(m.dp), 0) as pending_out, b.credits_pending - coalesce(sum(m.cp), 0) as pending_in into v_base
      from ledger.balance_at(p_ledger_id, p_account_id, v_rows[1].seq) as b
      left join (ledger.transfers t cross join lateral ledger.move_of(t, p_account_id) as m)
        on t.ledger_id = p_ledger_id and t.seq = v_rows[1].seq and t.item > v_rows[1].item
           and (t.debit_account_id = p_account_id or t.credit_account_id = p_account_id)
     group by b.credits_posted, b.debits_posted, b.debits_pending, b.credits_pending;
  end if;
  return query
  select t.seq, t.item, t.at, coalesce(t.effective_at, t.at), t.transfer_id, t.journal_id, t.kind, t.reason, t.pending_id, t.reverses_id,
         case when t.debit_account_id = p_account_id then t.credit_account_id else t.debit_account_id end,
         case when t.debit_account_id = p_account_id then 'debit' else 'credit' end, t.amount,
         v_base.balance - (sum(m.cpo - m.dpo) over w - (m.cpo - m.dpo)),
         v_base.pending_out - (sum(m.dp) over w - m.dp), v_base.pending_in - (sum(m.cp) over w - m.cp)
    from unnest(v_rows) with ordinality as t (ledger_id, transfer_id, kind, debit_account_id, credit_account_id, asset_id, amount, pending_id,
           timeout_at, journal_id, reason, seq, item, at, flags, reverses_id, effective_at, n)
    cross join lateral ledger.move_of(v_rows[t.n], p_account_id) as m
  window w as (order by t.n)
   order by t.n;
end $$;
comment on function ledger.statement(integer, uuid, text, timestamptz, bigint, integer, integer) is
  'Up to p_limit entries of an account, newest first. p_by record or event; go on with the last row''s (event_at for event,) seq and item. balance: credits less debits posted after the entry; pending_out, pending_in: reserved then, by record only. Minor units.';

-- Late-told entries come from their own indexes, all others in record order, which for them is event order.
create or replace function ledger.statement_event_rows(p_ledger_id integer, p_account_id uuid, p_at timestamptz, p_seq bigint, p_item integer,
  p_limit integer)
returns ledger.transfers[]
language plpgsql stable security invoker as $$
declare
  v_at constant timestamptz := coalesce(p_at, 'infinity');
  v_seq constant bigint := coalesce(p_seq, 9223372036854775807);
  v_item constant integer := coalesce(p_item, 0);
  v_from constant bigint := case when p_at is null then 9223372036854775807 else ledger.seq_at(p_ledger_id, p_at) + 1 end;
  v_take integer := p_limit;
  v_read integer;
  v_rows ledger.transfers[];
begin
  loop
    select array_agg(e), count(*) into v_rows, v_read from ledger.entries_before(p_ledger_id, p_account_id, v_from, 0, v_take) as e;
    v_rows := array(select t from unnest(v_rows) as t
      where t.kind in ('plain', 'post_pending') and t.effective_at is null and (t.at, t.seq, t.item) < (v_at, v_seq, v_item));
    exit when v_read < v_take or cardinality(v_rows) >= p_limit;
    v_take := v_take * 4;
  end loop;
  return array(
    select t from (
      select * from unnest(v_rows)
      union all
      (select d.* from ledger.transfers d where d.ledger_id = p_ledger_id and d.debit_account_id = p_account_id and d.effective_at is not null
          and d.effective_at <= v_at and (d.effective_at, d.seq, d.item) < (v_at, v_seq, v_item)
        order by d.effective_at desc, d.seq desc, d.item desc limit p_limit)
      union all
      (select c.* from ledger.transfers c where c.ledger_id = p_ledger_id and c.credit_account_id = p_account_id and c.effective_at is not null
          and c.effective_at <= v_at and (c.effective_at, c.seq, c.item) < (v_at, v_seq, v_item)
        order by c.effective_at desc, c.seq desc, c.item desc limit p_limit)) as x,
      lateral (select x::ledger.transfers as t) as y
     order by coalesce(x.effective_at, x.at) desc, x.seq desc, x.item desc limit p_limit);
end $$;
comment on function ledger.statement_event_rows(integer, uuid, timestamptz, bigint, integer, integer) is
  'Posted transfers of an account before (event time, seq, item), newest event first.';

-- The posted balance by event time after one of the account's transfers: what was recorded up to its event, without the late-told
-- part of that, and the late-told entries that happened by then.
create or replace function ledger.statement_event_balance(p_ledger_id integer, p_account_id uuid, p_row ledger.transfers) returns numeric
language plpgsql stable security invoker as $$
declare
  v_event constant timestamptz := coalesce(p_row.effective_at, p_row.at);
  v_seq constant bigint := case when p_row.effective_at is null then p_row.seq else ledger.seq_at(p_ledger_id, p_row.effective_at) end;
  v_item constant integer := case when p_row.effective_at is null then p_row.item else 2147483647 end;
begin
  return (
    select b.credits_posted - b.debits_posted
           - coalesce((select sum(m.cpo - m.dpo) from ledger.transfers t cross join lateral ledger.move_of(t, p_account_id) as m
                        where t.ledger_id = p_ledger_id and t.seq = v_seq and t.item > v_item
                          and (t.debit_account_id = p_account_id or t.credit_account_id = p_account_id)), 0)
           + coalesce((select sum(case when t.credit_account_id = p_account_id then t.amount else -t.amount end
                                * (case when (t.effective_at, t.seq, t.item) <= (v_event, p_row.seq, p_row.item) then 1 else 0 end
                                   - case when (t.seq, t.item) <= (v_seq, v_item) then 1 else 0 end))
                         from (select d.* from ledger.transfers d
                                where d.ledger_id = p_ledger_id and d.debit_account_id = p_account_id and d.effective_at is not null
                               union all
                               select c.* from ledger.transfers c
                                where c.ledger_id = p_ledger_id and c.credit_account_id = p_account_id and c.effective_at is not null) as t), 0)
      from ledger.balance_at(p_ledger_id, p_account_id, v_seq) as b);
end $$;
comment on function ledger.statement_event_balance(integer, uuid, ledger.transfers) is
  'Credits less debits posted, by event time, up to and including a transfer of the account. Minor units.';
