-- What cleared, day by day, and how orders ended. Amounts are minor units unless the column says otherwise.
select v.day, v.asset, v.work_class, v.orders_settled, v.orders_refunded, v.paid, v.refunded_minor, v.paid_minor_per_unit
  from transparency.volume_by_day v
 order by v.day, v.asset, v.work_class;

select o.asset, o.state, coalesce(o.cause, '') as cause, o.orders, o.paid_minor, o.refunded_minor, o.share_of_orders
  from transparency.outcomes o
 order by o.asset, o.orders desc;
