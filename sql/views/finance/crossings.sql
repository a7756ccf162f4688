create or replace view finance.crossings as
select coalesce(o.group_id, i.group_id) as group_id, coalesce(o.ledger_id, i.peer_ledger_id) as from_ledger_id,
       coalesce(o.peer_ledger_id, i.ledger_id) as to_ledger_id, s.code as asset, s.scale, coalesce(o.amount, i.amount) as amount_minor,
       o.at as sent_at, i.at as arrived_at,
       case when o.group_id is null then 'arrived from elsewhere' when i.group_id is not null then 'arrived'
            when l.ledger_id is null then 'sent elsewhere' else 'in flight' end as state
  from (select * from ledger.crossings where direction = 'out') as o
  full join (select * from ledger.crossings where direction = 'in') as i
    on i.ledger_id = o.peer_ledger_id and i.peer_ledger_id = o.ledger_id and i.group_id = o.group_id
  left join base.ledgers l on l.ledger_id = o.peer_ledger_id
  join ledger.assets s on s.asset_id = coalesce(o.asset_id, i.asset_id);
comment on view finance.crossings is
  'Value that crossed between ledgers, one row per transfer group. in flight: sent by one ledger of this database and not yet taken by the other; elsewhere: the other ledger is not in this database, so only one half can be seen. Minor units.';
