-- An order, for its buyer and its provider.
create or replace function market.read_order(p_actor uuid, p_ledger_id integer, p_order_id uuid)
returns table (order_id uuid, rfq_id uuid, offer_id uuid, buyer_id uuid, provider_id uuid, asset_id integer, work_class text,
  price_per_unit numeric, work_units bigint, held numeric, run_ticket_id uuid, attempt_id uuid, input_hash bytea, output_hash bytea,
  state text, cause text, ordered_at timestamptz, ticket_expires_at timestamptz, started_at timestamptz, reported_at timestamptz,
  judge_by timestamptz, judged_at timestamptz, closed_at timestamptz, metered_units bigint, billed_units bigint, paid numeric,
  refunded numeric, earned numeric)
language plpgsql stable security definer set search_path = pg_catalog, pg_temp as $$
begin
  return query select * from market.order_rows(p_actor, p_ledger_id, array[p_order_id]);
end $$;
comment on function market.read_order(uuid, integer, uuid) is
  'One order; only its buyer and its provider see it. metered_units: newest accepted metering row. earned: what p_actor gets of it, NULL until it is closed. Amounts in minor units.';
