-- What was traded on each day, and what came of the orders?
select day, asset, work_class, orders_settled, orders_refunded, paid, paid_minor_per_unit
  from transparency.volume_by_day
 order by day, asset, work_class;

select asset, state, coalesce(cause, '-') as cause, orders, share_of_orders
  from transparency.outcomes
 order by orders desc;
