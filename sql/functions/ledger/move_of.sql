-- What one transfer did to the four balances of one of its accounts. Inlined where it is called.
create or replace function ledger.move_of(p_transfer ledger.transfers, p_account_id uuid)
returns table (dp numeric, dpo numeric, cp numeric, cpo numeric)
language sql stable security invoker parallel safe as $$
  select case when x.debit then x.pending else 0 end, case when x.debit then x.posted else 0 end,
         case when x.debit then 0 else x.pending end, case when x.debit then 0 else x.posted end
    from (select (p_transfer).debit_account_id = p_account_id as debit,
                 case when (p_transfer).kind in ('plain', 'post_pending') then (p_transfer).amount else 0 end as posted,
                 case (p_transfer).kind when 'plain' then 0 when 'pending' then (p_transfer).amount
                   when 'post_pending' then -(select h.amount from ledger.holds h
                                               where h.ledger_id = (p_transfer).ledger_id and h.transfer_id = (p_transfer).pending_id)
                   else -(p_transfer).amount end as pending) as x
$$;
comment on function ledger.move_of(ledger.transfers, uuid) is 'What a transfer added to an account''s debits and credits, pending and posted, minor units.';
