-- Value leaves this ledger: from an account into the clearing account for the other ledger. See ledger.cross.
create or replace function ledger.send_across(p_ctx base.command_context, p_args jsonb) returns base.outcome
language sql volatile security invoker set search_path = pg_catalog, pg_temp as $$
  select ledger.cross(p_ctx, 'out', p_args)
$$;
comment on function ledger.send_across(base.command_context, jsonb) is
  'Handler of kind send_across (group_id, peer_ledger_id, account_id, asset_id, amount). Refuses as ledger.cross.';
