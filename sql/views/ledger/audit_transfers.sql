-- What a foreign key or CHECK would say of each transfer, if the hot path could afford it.
create or replace view ledger.audit_transfers as
with checked as (
  select t.ledger_id, t.transfer_id, t.kind, t.seq, t.item, v.problem, v.found, v.expected
    from ledger.transfers t
    left join ledger.accounts d on d.ledger_id = t.ledger_id and d.account_id = t.debit_account_id
    left join ledger.accounts c on c.ledger_id = t.ledger_id and c.account_id = t.credit_account_id
    left join ledger.transfers p on p.ledger_id = t.ledger_id and p.transfer_id = t.pending_id
    left join base.commands m on m.ledger_id = t.ledger_id and m.seq = t.seq
    cross join lateral (values
      ('debit_account_missing', t.debit_account_id::text, 'an account', d.account_id is null),
      ('credit_account_missing', t.credit_account_id::text, 'an account', c.account_id is null),
      ('debit_asset_differs', t.asset_id::text, d.asset_id::text, d.asset_id <> t.asset_id),
      ('credit_asset_differs', t.asset_id::text, c.asset_id::text, c.asset_id <> t.asset_id),
      ('command_missing', t.seq::text, 'a command', m.seq is null),
      ('time_differs', t.at::text, m.at::text, m.at <> t.at),
      ('pending_transfer_missing', t.pending_id::text, 'a pending transfer', t.pending_id is not null and p.transfer_id is null),
      ('pending_transfer_not_pending', p.kind, 'pending', p.kind <> 'pending'),
      ('pending_transfer_later', format('%s/%s', t.seq, t.item), format('after %s/%s', p.seq, p.item), (t.seq, t.item) <= (p.seq, p.item)),
      ('debit_account_differs', t.debit_account_id::text, p.debit_account_id::text, t.debit_account_id <> p.debit_account_id),
      ('credit_account_differs', t.credit_account_id::text, p.credit_account_id::text, t.credit_account_id <> p.credit_account_id),
      ('amount_above_hold', t.amount::text, 'at most ' || p.amount, t.kind = 'post_pending' and t.amount > p.amount),
      ('amount_not_hold', t.amount::text, p.amount::text, t.kind in ('void_pending', 'expire_pending') and t.amount <> p.amount),
      ('ended_after_timeout', t.at::text, 'before ' || p.timeout_at, t.kind in ('post_pending', 'void_pending') and t.at >= p.timeout_at),
      ('expired_before_timeout', t.at::text, 'from ' || coalesce(p.timeout_at::text, 'never'),
        t.kind = 'expire_pending' and t.at < coalesce(p.timeout_at, 'infinity'))) as v (problem, found, expected, wrong)
   where v.wrong),
twice as (
  select e.ledger_id, e.transfer_id, e.kind, e.seq, e.item, 'hold_ended_twice', e.ends::text, '1'
    from (select t.ledger_id, t.transfer_id, t.kind, t.seq, t.item, count(*) over (partition by t.ledger_id, t.pending_id) as ends
            from ledger.transfers t where t.pending_id is not null) as e
   where e.ends > 1),
gaps as (
  select g.ledger_id, g.transfer_id, g.kind, g.seq, g.item, 'item_out_of_order', g.item::text, g.n::text
    from (select t.ledger_id, t.transfer_id, t.kind, t.seq, t.item, row_number() over (partition by t.ledger_id, t.seq order by t.item) as n
            from ledger.transfers t) as g
   where g.item <> g.n)
select * from checked union all select * from twice union all select * from gaps;
comment on view ledger.audit_transfers is
  'Empty when healthy. One row per transfer and problem: what was found, what was expected. Missing accounts, commands or pending transfers, assets or accounts that differ, ends that exceed, repeat or outlive their hold, gaps in a command''s items. Reads every transfer.';
