-- Orders that are not closed, the oldest first, and metering that was not believed.
select o.order_id, o.state, o.work_class, o.asset, o.held_minor, o.age_ms
  from transparency.orders_live o
 order by o.age_ms desc
 limit 50;

select q.reason, q.rows, q.attempts, q.first_at, q.last_at
  from transparency.metering_quarantine q
 order by q.rows desc;
