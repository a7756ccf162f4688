-- Per order held = paid + refunded, per settlement legs = paid: both in sum, and against the books. Role: finance.
select c.asset, count(*) as orders, sum(c.held_minor) as held, sum(c.paid_minor) as paid, sum(c.refunded_minor) as refunded,
       sum(abs(c.held_difference_minor) + abs(c.paid_difference_minor) + abs(c.refunded_difference_minor) + abs(c.strayed_minor)) as off
  from finance.order_conservation c
 group by c.asset
 order by c.asset;

select s.asset, count(*) as settlements, sum(s.paid_minor) as paid, sum(s.legs_minor) as legs,
       sum(abs(s.legs_difference_minor) + abs(s.payables_difference_minor) + abs(s.transfers_difference_minor)) as off
  from finance.split_conservation s
 group by s.asset
 order by s.asset;
