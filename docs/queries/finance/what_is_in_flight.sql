-- What has left one ledger and not arrived in the other?
select from_ledger_id, to_ledger_id, asset, count(*) as crossings, sum(amount_minor) as amount_minor, min(sent_at) as oldest_sent_at
  from finance.crossings
 where state = 'in flight'
 group by from_ledger_id, to_ledger_id, asset
 order by from_ledger_id, to_ledger_id, asset;
