-- Each exchange against its two transfers, and transfers that say they are of an exchange which nobody recorded.
create or replace view ledger.audit_exchanges as
with legs as (
  select x.*, s.transfer_id as sold, s.kind as sell_kind, s.amount as sold_amount, s.asset_id as sold_asset, s.credit_account_id as sold_to,
         s.journal_id as sell_journal, s.seq as sell_seq, b.transfer_id as bought, b.kind as buy_kind, b.amount as bought_amount,
         b.asset_id as bought_asset, b.debit_account_id as bought_from, b.journal_id as buy_journal, b.seq as buy_seq
    from ledger.exchanges x
    left join ledger.transfers s on s.ledger_id = x.ledger_id and s.transfer_id = x.sell_transfer_id
    left join ledger.transfers b on b.ledger_id = x.ledger_id and b.transfer_id = x.buy_transfer_id)
select l.ledger_id, l.exchange_id, v.problem, v.found, v.expected
  from legs l
  cross join lateral (values
    ('sell_transfer_missing', 'none', l.sell_transfer_id::text, l.sold is null),
    ('buy_transfer_missing', 'none', l.buy_transfer_id::text, l.bought is null),
    ('kind_differs', concat_ws(' ', l.sell_kind, l.buy_kind), 'plain plain', (l.sell_kind, l.buy_kind) <> ('plain', 'plain')),
    ('sell_amount_differs', l.sold_amount::text, l.sell_amount::text, l.sold_amount <> l.sell_amount),
    ('buy_amount_differs', l.bought_amount::text, l.buy_amount::text, l.bought_amount <> l.buy_amount),
    ('sell_asset_differs', l.sold_asset::text, l.sell_asset_id::text, l.sold_asset <> l.sell_asset_id),
    ('buy_asset_differs', l.bought_asset::text, l.buy_asset_id::text, l.bought_asset <> l.buy_asset_id),
    ('sold_elsewhere', l.sold_to::text, 'the liquidity account of the asset sold',
      l.sold_to <> ledger.account_id(l.ledger_id, l.sell_asset_id, 'liquidity', null, null)),
    ('bought_elsewhere', l.bought_from::text, 'the liquidity account of the asset bought',
      l.bought_from <> ledger.account_id(l.ledger_id, l.buy_asset_id, 'liquidity', null, null)),
    ('amount_is_not_the_rates', l.buy_amount::text, trunc(l.sell_amount * l.rate)::text, l.buy_amount <> trunc(l.sell_amount * l.rate)),
    ('journals_differ', l.buy_journal::text, l.sell_journal::text, l.buy_journal <> l.sell_journal),
    ('reversed_in_part', 'one side', 'both or none',
      exists (select from ledger.reversals r where r.ledger_id = l.ledger_id and r.reversed_id = l.sell_transfer_id)
        <> exists (select from ledger.reversals r where r.ledger_id = l.ledger_id and r.reversed_id = l.buy_transfer_id)),
    ('command_differs', concat_ws(' ', l.sell_seq, l.buy_seq), l.seq::text, l.sell_seq <> l.seq or l.buy_seq <> l.seq))
    as v (problem, found, expected, wrong)
 where v.wrong
union all
select t.ledger_id, null, 'exchange_missing', t.transfer_id::text, 'an exchange'
  from ledger.transfers t
 where t.reason = 'exchange'
   and exists (select from ledger.accounts a where a.ledger_id = t.ledger_id and a.account_id in (t.debit_account_id, t.credit_account_id)
                 and a.purpose = 'liquidity')
   and not exists (select from ledger.exchanges x where x.ledger_id = t.ledger_id and x.sell_transfer_id = t.transfer_id)
   and not exists (select from ledger.exchanges x where x.ledger_id = t.ledger_id and x.buy_transfer_id = t.transfer_id);
comment on view ledger.audit_exchanges is
  'Empty when healthy. One row per exchange and problem: what was found, what was expected. Transfers that are missing, of another kind, amount, asset, journal or command, that go around the liquidity accounts, or that no exchange names (exchange_id NULL). Reads every transfer.';
