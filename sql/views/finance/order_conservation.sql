-- The people's name of market.order_conservation, which the audit views of that domain build on.
create or replace view finance.order_conservation as
select * from market.order_conservation;
comment on view finance.order_conservation is
  'Per order: what was held, paid and refunded, beside what the transfers of its escrow account say. held = paid + refunded once closed; every *_difference_minor and strayed_minor must be 0. Minor units.';
