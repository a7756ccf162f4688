-- Fill rate by week: sum first, divide last, so that quiet days do not weigh as much as busy ones.
select date_trunc('week', f.day)::date as week, f.work_class, sum(f.rfqs_ordered) as ordered, sum(f.rfqs_expired) as expired,
       sum(f.rfqs_without_provider) as nobody_eligible,
       round(sum(f.rfqs_ordered) / nullif(sum(f.rfqs_ordered) + sum(f.rfqs_expired), 0), 4) as fill_rate
  from transparency.fill_rate f
 group by week, f.work_class
 order by week, f.work_class;
