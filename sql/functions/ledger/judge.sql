-- State lives in arrays while the items are judged (plpgsql keeps them expanded: reading or setting one element is
-- cheap), and each touched account is written once, at the end. One function, because arrays passed on are copied.
--   a_*  one element per account (its "slot"): flags, the four balances, and what its expired holds would free
--   f_*  rows that were there before: transfers that items repeat, post, void or reverse, and ids spent by a failure
--   o_*  transfers to be written, in order; o_pending and o_posted are what each adds to the balances on both its sides
create or replace function ledger.judge(p_ctx base.command_context, p_items ledger.transfer_input[]) returns ledger.judged
-- Generic plans: with an array's true length before it the planner would plan anew at every call, which costs more than
-- running these lookups by key.
language plpgsql volatile security invoker set search_path = pg_catalog, pg_temp set plan_cache_mode = force_generic_plan as $$
declare
  v_n constant integer := coalesce(cardinality(p_items), 0);
  -- Up to here array_position finds a slot sooner than a join; beyond, judge_slots finds all of them at once.
  v_small constant boolean := v_n <= 64;
  v_nil constant uuid := '00000000-0000-0000-0000-000000000000';
  v_max constant numeric := 9999999999999999999999999999;
  r text[] := '{}';
  v_open_from timestamptz;
  v_item ledger.transfer_input;
  v_ids uuid[];
  v_named_ids uuid[];
  s_debit integer[]; s_credit integer[]; s_first integer[]; s_pending_first integer[]; s_found integer[]; s_pending_found integer[];
  a_id uuid[]; a_asset integer[]; a_closed boolean[]; a_closed_by uuid[]; a_debit_limit boolean[]; a_credit_limit boolean[];
  a_dp numeric[]; a_do numeric[]; a_cp numeric[]; a_co numeric[]; a_debit_due numeric[] := '{}'; a_credit_due numeric[] := '{}';
  f_id uuid[]; f_row ledger.transfers[]; f_state text[]; v_reversed uuid[] := '{}';
  o_id uuid[] := '{}'; o_kind text[] := '{}'; o_debit integer[] := '{}'; o_credit integer[] := '{}'; o_amount numeric[] := '{}';
  o_pending_id uuid[] := '{}'; o_timeout_at timestamptz[] := '{}'; o_journal uuid[] := '{}'; o_reason text[] := '{}';
  o_n integer[] := '{}'; o_flags smallint[] := '{}'; o_reverses uuid[] := '{}'; o_effective timestamptz[] := '{}';
  o_pending numeric[] := '{}'; o_posted numeric[] := '{}'; o_state text[] := '{}'; o_first integer[] := '{}';
  o_ends_out integer[] := '{}'; o_ends_found integer[] := '{}';
  v_out integer := 0;
  v_done integer[] := array_fill(null::integer, array[v_n]);
  v_spent boolean[] := array_fill(false, array[v_n]);
  v_failed_ids uuid[] := '{}'; v_failed_results text[] := '{}';
  v_expired uuid[] := '{}';
  v_chain integer; v_chain_out integer; v_broken boolean := false; v_linked boolean;
  v_result text; v_first integer; v_found integer; v_po integer; v_pf integer; d integer; c integer; k integer;
  v_old ledger.transfers; v_hold ledger.transfers; v_state text; v_flags smallint; v_debit_limited boolean; v_credit_limited boolean; v_judged ledger.judged;
  v_amount numeric; v_pending numeric; v_posted numeric; v_timeout_at timestamptz; v_reason text;
  v_need_debit boolean; v_need_credit boolean; v_due record; v_account ledger.accounts; v_id uuid; d2 integer; c2 integer;
  v_any_pending boolean := false; v_any_end boolean := false; v_any_closing boolean := false; v_reversals integer := 0; v_any_reversal boolean; v_any_effective boolean;
begin
  select array_agg(i.transfer_id),
         array_agg(i.pending_id) filter (where i.pending_id is not null)
           || array_agg(i.reverses_id) filter (where i.reverses_id is not null),
         array_agg(i.debit_account_id) || array_agg(i.credit_account_id),
         bool_or(i.reverses_id is not null), bool_or(i.effective_at is not null)
    into v_ids, v_named_ids, a_id, v_any_reversal, v_any_effective
    from unnest(p_items) as i;
  select array_agg(x.transfer_id), array_agg(x.t), array_agg(x.state) into f_id, f_row, f_state
    from (select t.transfer_id, t, (select h.state from ledger.holds h
                                     where h.ledger_id = t.ledger_id and h.transfer_id = t.transfer_id and t.kind = 'pending') as state
            from ledger.transfers t where t.ledger_id = p_ctx.ledger_id and t.transfer_id = any (v_ids || v_named_ids)
          union all
          select l.transfer_id, null::ledger.transfers, 'failed'
            from ledger.failed_transfers l where l.ledger_id = p_ctx.ledger_id and l.transfer_id = any (v_ids)) as x;
  if f_id is not null then
    a_id := a_id || array(select t.debit_account_id from unnest(f_row) as t union all select t.credit_account_id from unnest(f_row) as t);
  end if;
  select array_agg(a.account_id), array_agg(a.asset_id), array_agg(a.closed), array_agg(a.closed_by), array_agg(a.debits_must_not_exceed_credits),
         array_agg(a.credits_must_not_exceed_debits), array_agg(a.debits_pending), array_agg(a.debits_posted),
         array_agg(a.credits_pending), array_agg(a.credits_posted)
    into a_id, a_asset, a_closed, a_closed_by, a_debit_limit, a_credit_limit, a_dp, a_do, a_cp, a_co
    from ledger.accounts a where a.ledger_id = p_ctx.ledger_id and a.account_id = any (a_id);
  if v_any_reversal then
    v_reversed := array(select x.reversed_id from ledger.reversals x
      where x.ledger_id = p_ctx.ledger_id and x.reversed_id in (select i.reverses_id from unnest(p_items) as i));
  end if;
  if v_any_effective then
    v_open_from := (select p.ends_at from ledger.periods p where p.ledger_id = p_ctx.ledger_id order by p.ends_at desc limit 1);
  end if;
  if not v_small then
    select s.debits, s.credits, s.firsts, s.pending_firsts, s.founds, s.pending_founds
      into s_debit, s_credit, s_first, s_pending_first, s_found, s_pending_found
      from ledger.judge_slots(p_items, a_id, f_id) as s;
  end if;

  for i in 1 .. v_n loop
    v_item := p_items[i];
    if v_item.pending_id = v_nil then
      v_item.pending_id := null;
    end if;
    if v_item.reverses_id = v_nil then
      v_item.reverses_id := null;
    end if;
    v_flags := coalesce(v_item.flags, 0);
    v_linked := coalesce(v_item.linked, false);
    if v_linked and v_chain is null then
      v_chain := i;
      v_chain_out := v_out;
    end if;
    <<judge>>
    begin
      if v_linked and i = v_n then
        v_result := 'linked_event_chain_open';
        exit judge;
      elsif v_broken then
        v_result := 'linked_event_failed';
        exit judge;
      end if;
      v_result := ledger.judge_id(v_item.kind, v_flags, v_item.transfer_id);
      exit judge when v_result <> 'ok';

      -- Which transfer does this item end, if any; which transfer had its id before?
      v_hold := null;
      v_state := null;
      v_po := null;
      v_pf := null;
      if v_item.pending_id is not null then
        if v_small then
          v_po := v_done[array_position(v_ids, v_item.pending_id)];
          v_pf := array_position(f_id, v_item.pending_id);
        else
          v_po := v_done[s_pending_first[i]];
          v_pf := s_pending_found[i];
        end if;
        if v_po is not null then
          v_hold.kind := o_kind[v_po];
          v_hold.debit_account_id := a_id[o_debit[v_po]];
          v_hold.credit_account_id := a_id[o_credit[v_po]];
          v_hold.asset_id := a_asset[o_debit[v_po]];
          v_hold.amount := o_amount[v_po];
          v_hold.timeout_at := o_timeout_at[v_po];
          v_hold.reason := o_reason[v_po];
          v_hold.flags := o_flags[v_po];
          v_state := o_state[v_po];
        elsif v_pf is not null then
          v_hold := f_row[v_pf];
          v_state := f_state[v_pf];
        end if;
      end if;
      v_first := case when v_small then array_position(v_ids, v_item.transfer_id) else s_first[i] end;
      k := v_done[v_first];
      if k is not null then
        v_old := null;
        v_old.kind := o_kind[k];
        v_old.debit_account_id := a_id[o_debit[k]];
        v_old.credit_account_id := a_id[o_credit[k]];
        v_old.asset_id := a_asset[o_debit[k]];
        v_old.amount := o_amount[k];
        v_old.pending_id := o_pending_id[k];
        v_old.timeout_at := o_timeout_at[k];
        v_old.reason := o_reason[k];
        v_old.at := p_ctx.at;
        v_old.flags := o_flags[k];
        v_old.reverses_id := o_reverses[k];
        v_old.effective_at := o_effective[k];
        v_result := ledger.judge_exists(v_item, v_old, v_hold.amount, v_hold.reason);
        exit judge;
      elsif f_id is not null then
        v_found := case when v_small then array_position(f_id, v_item.transfer_id) else s_found[i] end;
        if v_found is not null then
          v_result := case when f_state[v_found] = 'failed' then 'id_already_failed'
            else ledger.judge_exists(v_item, f_row[v_found], v_hold.amount, v_hold.reason) end;
          exit judge;
        end if;
      end if;
      if v_spent[v_first] then
        v_result := 'id_already_failed';
        exit judge;
      end if;
      if not base.id_in_window(v_item.transfer_id, p_ctx.at) then
        v_result := 'id_time_out_of_range';
        exit judge;
      end if;
      v_result := ledger.judge_form(v_item, p_ctx.at, v_open_from);
      exit judge when v_result <> 'ok';

      if v_item.kind in ('post_pending', 'void_pending') then
        v_amount := coalesce(v_item.amount, v_hold.amount);
        v_result := ledger.judge_end(v_item.kind, nullif(v_item.debit_account_id, v_nil), nullif(v_item.credit_account_id, v_nil),
          v_item.asset_id, v_amount, v_hold.kind, v_hold.debit_account_id, v_hold.credit_account_id, v_hold.asset_id,
          v_hold.amount, v_state, v_hold.timeout_at <= p_ctx.at);
        exit judge when v_result <> 'ok';
        if v_po is not null then
          d := o_debit[v_po];
          c := o_credit[v_po];
        else
          d := array_position(a_id, v_hold.debit_account_id);
          c := array_position(a_id, v_hold.credit_account_id);
        end if;
        if v_item.kind = 'post_pending' and (a_closed[d] or a_closed[c]) then
          v_result := case when a_closed[d] then 'debit_account_already_closed' else 'credit_account_already_closed' end;
          exit judge;
        end if;
        v_pending := -v_hold.amount;
        v_posted := case v_item.kind when 'post_pending' then v_amount else 0 end;
        v_reason := coalesce(nullif(v_item.reason, ''), v_hold.reason);
        v_timeout_at := null;
        v_any_end := true;
        if v_hold.flags & 12 <> 0 then
          -- Only a void comes here: a post meets the closed account above.
          v_any_closing := true;
          if v_hold.flags & 4 <> 0 then
            a_closed[d] := false;
            a_closed_by[d] := null;
          end if;
          if v_hold.flags & 8 <> 0 then
            a_closed[c] := false;
            a_closed_by[c] := null;
          end if;
        end if;
        if v_po is not null then
          o_state[v_po] := case v_item.kind when 'post_pending' then 'posted' else 'voided' end;
        else
          f_state[v_pf] := case v_item.kind when 'post_pending' then 'posted' else 'voided' end;
        end if;
      else
        v_po := null;
        v_pf := null;
        v_reason := v_item.reason;
        if v_small then
          d := array_position(a_id, v_item.debit_account_id);
          c := array_position(a_id, v_item.credit_account_id);
        else
          d := s_debit[i];
          c := s_credit[i];
        end if;
        v_result := ledger.judge_accounts(v_item.asset_id, a_asset[d], a_asset[c], a_closed[d], a_closed[c]);
        exit judge when v_result <> 'ok';
        if v_item.reverses_id is not null then
          k := v_done[array_position(v_ids, v_item.reverses_id)];
          v_found := array_position(f_id, v_item.reverses_id);
          v_old := null;
          if k is not null then
            v_old.kind := o_kind[k];
            v_old.debit_account_id := a_id[o_debit[k]];
            v_old.credit_account_id := a_id[o_credit[k]];
            v_old.amount := o_amount[k];
          elsif v_found is not null then
            v_old := f_row[v_found];
          end if;
          v_result := ledger.judge_reversal(v_item.debit_account_id, v_item.credit_account_id, v_item.amount, v_old.kind,
            v_old.debit_account_id, v_old.credit_account_id, v_old.amount, v_item.reverses_id = any (v_reversed));
          exit judge when v_result <> 'ok';
        end if;
        -- A balancing transfer must leave that side's balance at zero or above, whatever the account's own limit.
        v_debit_limited := a_debit_limit[d] or v_flags & 1 <> 0;
        v_credit_limited := a_credit_limit[c] or v_flags & 2 <> 0;
        v_amount := coalesce(v_item.amount, case when v_flags & 3 <> 0 then v_max else 0 end);
        -- Expired holds are looked for only where the money would not fit otherwise: most batches never read them.
        v_need_debit := (v_flags & 3 = 0 and a_dp[d] + a_do[d] + v_amount > v_max)
          or (v_debit_limited and a_dp[d] + a_do[d] + v_amount > a_co[d]);
        v_need_credit := (v_flags & 3 = 0 and a_cp[c] + a_co[c] + v_amount > v_max)
          or (v_credit_limited and a_cp[c] + a_co[c] + v_amount > a_do[c]);
        if v_need_debit and a_debit_due[d] is null then
          a_debit_due[d] := (select coalesce(sum(u.amount), 0)
            from ledger.judge_due(p_ctx.ledger_id, p_ctx.at, a_id[d], null, v_expired) as u);
        end if;
        if v_need_credit and a_credit_due[c] is null then
          a_credit_due[c] := (select coalesce(sum(u.amount), 0)
            from ledger.judge_due(p_ctx.ledger_id, p_ctx.at, null, a_id[c], v_expired) as u);
        end if;
        if v_flags & 3 <> 0 then
          if v_flags & 1 <> 0 and v_need_debit then
            v_amount := greatest(least(v_amount, a_co[d] - a_do[d] - a_dp[d] + a_debit_due[d]), 0);
          end if;
          if v_flags & 1 <> 0 and v_amount = 0 and v_flags & 12 = 0 then
            v_result := 'exceeds_credits';
            exit judge;
          end if;
          if v_flags & 2 <> 0 and v_need_credit then
            v_amount := greatest(least(v_amount, a_do[c] - a_co[c] - a_cp[c] + a_credit_due[c]), 0);
          end if;
          if v_flags & 2 <> 0 and v_amount = 0 and v_flags & 12 = 0 then
            v_result := 'exceeds_debits';
            exit judge;
          end if;
          -- Cut to what can be spared, it may fit without anything that has expired.
          v_need_debit := a_dp[d] + a_do[d] + v_amount > v_max or (v_debit_limited and a_dp[d] + a_do[d] + v_amount > a_co[d]);
          v_need_credit := a_cp[c] + a_co[c] + v_amount > v_max or (v_credit_limited and a_cp[c] + a_co[c] + v_amount > a_do[c]);
          if v_need_debit and a_debit_due[d] is null then
            a_debit_due[d] := (select coalesce(sum(u.amount), 0)
              from ledger.judge_due(p_ctx.ledger_id, p_ctx.at, a_id[d], null, v_expired) as u);
          end if;
          if v_need_credit and a_credit_due[c] is null then
            a_credit_due[c] := (select coalesce(sum(u.amount), 0)
              from ledger.judge_due(p_ctx.ledger_id, p_ctx.at, null, a_id[c], v_expired) as u);
          end if;
        end if;
        if v_item.kind = 'pending' then
          v_pending := v_amount;
          v_posted := 0;
          -- Out of range is judged below; the addition itself must not overflow before that.
          v_timeout_at := p_ctx.at + nullif(least(coalesce(v_item.timeout_ms, 0), 315360000000000), 0) * interval '1 millisecond';
        else
          v_pending := 0;
          v_posted := v_amount;
          v_timeout_at := null;
        end if;
        v_result := ledger.judge_fits(v_item.kind, v_amount, v_item.timeout_ms,
          a_dp[d] - case when v_need_debit then a_debit_due[d] else 0 end, a_do[d], a_co[d], v_debit_limited,
          a_cp[c] - case when v_need_credit then a_credit_due[c] else 0 end, a_co[c], a_do[c], v_credit_limited);
        exit judge when v_result <> 'ok';
        if v_need_debit or v_need_credit then
          -- The item uses freed money, so the expiry of those holds is written before it.
          for v_due in
            select * from ledger.judge_due(p_ctx.ledger_id, p_ctx.at, case when v_need_debit then a_id[d] end,
              case when v_need_credit then a_id[c] end, v_expired)
          loop
            foreach v_id in array array[v_due.debit_account_id, v_due.credit_account_id] loop
              if array_position(a_id, v_id) is null then
                select * into strict v_account from ledger.accounts a where a.ledger_id = p_ctx.ledger_id and a.account_id = v_id;
                k := cardinality(a_id) + 1;
                a_id[k] := v_id; a_asset[k] := v_account.asset_id; a_closed[k] := v_account.closed; a_closed_by[k] := v_account.closed_by;
                a_debit_limit[k] := v_account.debits_must_not_exceed_credits;
                a_credit_limit[k] := v_account.credits_must_not_exceed_debits;
                a_dp[k] := v_account.debits_pending; a_do[k] := v_account.debits_posted;
                a_cp[k] := v_account.credits_pending; a_co[k] := v_account.credits_posted;
              end if;
            end loop;
            d2 := array_position(a_id, v_due.debit_account_id);
            c2 := array_position(a_id, v_due.credit_account_id);
            v_out := v_out + 1;
            -- The id names the hold: one hold expires once, whichever call of this command writes it.
            o_id[v_out] := base.derive_id(p_ctx.command_id, 'expire:' || v_due.transfer_id, 0);
            o_kind[v_out] := 'expire_pending'; o_debit[v_out] := d2; o_credit[v_out] := c2; o_amount[v_out] := v_due.amount;
            o_pending_id[v_out] := v_due.transfer_id; o_timeout_at[v_out] := null; o_journal[v_out] := v_due.journal_id;
            o_reason[v_out] := 'expired'; o_pending[v_out] := -v_due.amount; o_posted[v_out] := 0; o_state[v_out] := null;
            o_first[v_out] := null; o_ends_out[v_out] := null; o_ends_found[v_out] := null;
            o_n[v_out] := i; o_flags[v_out] := 0; o_reverses[v_out] := null; o_effective[v_out] := null;
            a_dp[d2] := a_dp[d2] - v_due.amount;
            a_cp[c2] := a_cp[c2] - v_due.amount;
            a_debit_due[d2] := a_debit_due[d2] - v_due.amount;
            a_credit_due[c2] := a_credit_due[c2] - v_due.amount;
            v_expired := v_expired || v_due.transfer_id;
            v_any_end := true;
          end loop;
        end if;
        if v_item.kind = 'pending' then
          v_any_pending := true;
        end if;
        if v_flags & 4 <> 0 then
          a_closed[d] := true;
          a_closed_by[d] := v_item.transfer_id;
          v_any_closing := true;
        end if;
        if v_flags & 8 <> 0 then
          a_closed[c] := true;
          a_closed_by[c] := v_item.transfer_id;
          v_any_closing := true;
        end if;
        if v_item.reverses_id is not null then
          v_reversed := v_reversed || v_item.reverses_id;
          v_reversals := v_reversals + 1;
        end if;
      end if;

      v_out := v_out + 1;
      o_id[v_out] := v_item.transfer_id; o_kind[v_out] := v_item.kind; o_debit[v_out] := d; o_credit[v_out] := c;
      o_amount[v_out] := v_amount; o_pending_id[v_out] := v_item.pending_id; o_timeout_at[v_out] := v_timeout_at;
      o_journal[v_out] := null; o_reason[v_out] := v_reason; o_pending[v_out] := v_pending; o_posted[v_out] := v_posted;
      o_n[v_out] := i; o_flags[v_out] := v_flags; o_reverses[v_out] := v_item.reverses_id;
      o_effective[v_out] := nullif(v_item.effective_at, p_ctx.at); o_state[v_out] := 'pending'; o_first[v_out] := v_first; o_ends_out[v_out] := v_po; o_ends_found[v_out] := v_pf;
      v_done[v_first] := v_out;
      if v_pending <> 0 then
        a_dp[d] := a_dp[d] + v_pending;
        a_cp[c] := a_cp[c] + v_pending;
      end if;
      if v_posted <> 0 then
        a_do[d] := a_do[d] + v_posted;
        a_co[c] := a_co[c] + v_posted;
      end if;
    end;

    if v_result <> 'ok' then
      if v_chain is not null and not v_broken then
        -- The chain fails as one: what its earlier items did is taken back, newest first.
        v_broken := true;
        while v_out > v_chain_out loop
          d := o_debit[v_out];
          c := o_credit[v_out];
          a_dp[d] := a_dp[d] - o_pending[v_out];
          a_cp[c] := a_cp[c] - o_pending[v_out];
          a_do[d] := a_do[d] - o_posted[v_out];
          a_co[c] := a_co[c] - o_posted[v_out];
          if o_first[v_out] is null then
            a_debit_due[d] := a_debit_due[d] + o_amount[v_out];
            a_credit_due[c] := a_credit_due[c] + o_amount[v_out];
            v_expired := array_remove(v_expired, o_pending_id[v_out]);
          else
            v_done[o_first[v_out]] := null;
          end if;
          -- Flags of what it closed, or of the closing hold that it voided.
          v_flags := o_flags[v_out];
          if o_ends_out[v_out] is not null then
            o_state[o_ends_out[v_out]] := 'pending';
            v_flags := o_flags[o_ends_out[v_out]];
          elsif o_ends_found[v_out] is not null then
            f_state[o_ends_found[v_out]] := 'pending';
            v_flags := f_row[o_ends_found[v_out]].flags;
          end if;
          if v_flags & 4 <> 0 then
            a_closed[d] := o_pending_id[v_out] is not null;
            a_closed_by[d] := o_pending_id[v_out];
          end if;
          if v_flags & 8 <> 0 then
            a_closed[c] := o_pending_id[v_out] is not null;
            a_closed_by[c] := o_pending_id[v_out];
          end if;
          if o_reverses[v_out] is not null then
            v_reversed := array_remove(v_reversed, o_reverses[v_out]);
            v_reversals := v_reversals - 1;
          end if;
          v_out := v_out - 1;
        end loop;
        for j in v_chain .. i - 1 loop
          r[j] := 'linked_event_failed';
        end loop;
      end if;
      if v_result in ('debit_account_not_found', 'credit_account_not_found', 'pending_transfer_not_found', 'reversed_transfer_not_found', 'exceeds_credits',
        'exceeds_debits', 'debit_account_already_closed', 'credit_account_already_closed') then
        -- It might succeed later, so its id is spent: an answer once given stays true.
        v_spent[v_first] := true;
        v_failed_ids := v_failed_ids || v_item.transfer_id;
        v_failed_results := v_failed_results || v_result;
      end if;
    end if;
    r[i] := v_result;
    if v_chain is not null and (not v_linked or v_result = 'linked_event_chain_open') then
      v_chain := null;
      v_broken := false;
    end if;
  end loop;

  if cardinality(v_failed_ids) > 0 then
    insert into ledger.failed_transfers (ledger_id, transfer_id, result, seq, at)
    select p_ctx.ledger_id, l.transfer_id, l.result, p_ctx.seq, p_ctx.at from unnest(v_failed_ids, v_failed_results) as l (transfer_id, result);
  end if;
  v_judged.results := r;
  if v_out = 0 then
    return v_judged;
  end if;
  -- What a broken chain took back may still stand behind v_out.
  v_judged.n := o_n[1:v_out]; v_judged.transfer_id := o_id[1:v_out]; v_judged.kind := o_kind[1:v_out];
  v_judged.debit_account_id := array(select a_id[x.s] from unnest(o_debit[1:v_out]) with ordinality as x (s, n) order by x.n);
  v_judged.credit_account_id := array(select a_id[x.s] from unnest(o_credit[1:v_out]) with ordinality as x (s, n) order by x.n);
  v_judged.asset_id := array(select a_asset[x.s] from unnest(o_debit[1:v_out]) with ordinality as x (s, n) order by x.n);
  v_judged.amount := o_amount[1:v_out]; v_judged.pending_id := o_pending_id[1:v_out]; v_judged.timeout_at := o_timeout_at[1:v_out];
  v_judged.journal_id := o_journal[1:v_out]; v_judged.reason := o_reason[1:v_out]; v_judged.flags := o_flags[1:v_out];
  v_judged.reverses_id := o_reverses[1:v_out]; v_judged.effective_at := o_effective[1:v_out];
  if v_any_pending then
    insert into ledger.holds (ledger_id, transfer_id, debit_account_id, credit_account_id, amount, timeout_at)
    select p_ctx.ledger_id, o.transfer_id, a_id[o.debit], a_id[o.credit], o.amount, o.timeout_at
      from unnest(o_id, o_kind, o_debit, o_credit, o_amount, o_timeout_at) with ordinality as o (transfer_id, kind, debit, credit, amount, timeout_at, n)
     where o.kind = 'pending' and o.n <= v_out;
  end if;
  if v_any_end then
    update ledger.holds h
       set state = case o.kind when 'post_pending' then 'posted' when 'void_pending' then 'voided' else 'expired' end,
           ended_by = o.transfer_id
      from unnest(o_id, o_kind, o_pending_id) with ordinality as o (transfer_id, kind, pending_id, n)
     where h.ledger_id = p_ctx.ledger_id and h.transfer_id = o.pending_id and o.n <= v_out;
  end if;
  if v_reversals > 0 then
    insert into ledger.reversals (ledger_id, reversed_id, transfer_id, seq)
    select p_ctx.ledger_id, o.reverses_id, o.transfer_id, p_ctx.seq
      from unnest(v_judged.reverses_id, v_judged.transfer_id) as o (reverses_id, transfer_id) where o.reverses_id is not null;
  end if;
  update ledger.accounts a
     set debits_pending = u.dp, debits_posted = u.dpo, credits_pending = u.cp, credits_posted = u.cpo
    from unnest(a_id, a_dp, a_do, a_cp, a_co) as u (account_id, dp, dpo, cp, cpo)
   where a.ledger_id = p_ctx.ledger_id and a.account_id = u.account_id
     and (a.debits_pending <> u.dp or a.debits_posted <> u.dpo or a.credits_pending <> u.cp or a.credits_posted <> u.cpo);
  if v_any_closing then
    update ledger.accounts a set closed = u.closed, closed_by = u.closed_by
      from unnest(a_id, a_closed, a_closed_by) as u (account_id, closed, closed_by)
     where a.ledger_id = p_ctx.ledger_id and a.account_id = u.account_id and (a.closed, a.closed_by) is distinct from (u.closed, u.closed_by);
  end if;
  return v_judged;
end $$;
comment on function ledger.judge(base.command_context, ledger.transfer_input[]) is
  'Judges items in order, writes balances, holds, reversals and spent ids, and returns one result per item and the transfers to write. The caller holds the ledger''s row lock. Nothing is raised for a refused item, and it changes neither balances nor holds.';
