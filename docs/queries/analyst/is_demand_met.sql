-- Are RFQs filled, and is there supply where they are not?
select day, work_class, rfqs_opened, rfqs_ordered, rfqs_expired, rfqs_without_provider, fill_rate
  from transparency.fill_rate
 order by day, work_class;

select work_class, region, asset, providers, owners, providers_reachable, devices, min_price_minor, median_price_minor, max_price_minor
  from transparency.supply
 order by work_class, region;
