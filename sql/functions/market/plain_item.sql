-- One plain transfer of a domain's journal; n numbers the derived transfer id within the command.
create or replace function market.plain_item(p_ctx base.command_context, p_n integer, p_debit uuid, p_credit uuid, p_asset_id integer,
  p_amount numeric, p_reason text) returns ledger.transfer_input
language sql immutable parallel safe as $$
  select row(base.derive_id(p_ctx.command_id, 'transfer', p_n), 'plain', p_debit, p_credit, p_asset_id, p_amount,
    null, null, false, p_reason, 0, null, null)::ledger.transfer_input
$$;
comment on function market.plain_item(base.command_context, integer, uuid, uuid, integer, numeric, text) is
  'A plain transfer item with the id derived from (command, ''transfer'', n).';
