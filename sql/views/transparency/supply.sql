create or replace view transparency.supply as
select a.ledger_id, a.work_class, a.region, s.code as asset, count(*) as providers,
       count(distinct a.beneficial_owner_id) as owners,
       count(*) filter (where p.reachable) as providers_reachable,
       sum(a.device_count) as devices, sum(a.max_concurrency) as concurrent_orders,
       sum(a.max_concurrency) filter (where p.reachable) as concurrent_orders_reachable,
       min(a.price_per_unit) as min_price_minor, percentile_disc(0.5) within group (order by a.price_per_unit) as median_price_minor,
       max(a.price_per_unit) as max_price_minor
  from market.capability_ads a
  join ledger.assets s on s.asset_id = a.asset_id
  left join market.presence p on p.ledger_id = a.ledger_id and p.provider_id = a.provider_id
 where a.active
 group by a.ledger_id, a.work_class, a.region, s.code;
comment on view transparency.supply is
  'Active capability ads by work class, region and asset: self-declared devices and concurrency, prices in minor units per work unit, and how many providers'' live connections are up.';
