-- Where a receipt id stands in the log: public, since it says nothing about the content.
create or replace function receipts.seq_of_receipt(p_ledger_id integer, p_receipt_id bytea) returns bigint
language sql stable security definer set search_path = pg_catalog, pg_temp as $$
  select r.seq from receipts.receipts r where r.ledger_id = p_ledger_id and r.receipt_id = p_receipt_id
$$;
comment on function receipts.seq_of_receipt(integer, bytea) is 'seq of a receipt id; NULL when the log has no such receipt.';
