-- Value that another ledger sent arrives: out of the clearing account for that ledger, into an account. See ledger.cross.
create or replace function ledger.receive_across(p_ctx base.command_context, p_args jsonb) returns base.outcome
language sql volatile security invoker set search_path = pg_catalog, pg_temp as $$
  select ledger.cross(p_ctx, 'in', p_args)
$$;
comment on function ledger.receive_across(base.command_context, jsonb) is
  'Handler of kind receive_across (group_id, peer_ledger_id, account_id, asset_id, amount). Refuses as ledger.cross.';
