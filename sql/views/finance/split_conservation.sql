-- The people's name of splits.split_conservation, which the audit views of that domain build on.
create or replace view finance.split_conservation as
select * from splits.split_conservation;
comment on view finance.split_conservation is
  'Per settlement: its legs, their payables and their transfers each sum to what was paid; every *_difference_minor must be 0. Minor units.';
