-- Posts a domain's transfers. Everything was checked before, so any result but 'ok' is a broken invariant: it raises,
-- the batch rolls back, and nothing of the command remains.
create or replace function market.post(p_ctx base.command_context, p_journal_id uuid, p_items ledger.transfer_input[]) returns void
language plpgsql volatile security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_results text[];
begin
  v_results := ledger.post_transfers(p_ctx, p_journal_id, p_items);
  if array_length(v_results, 1) is distinct from array_length(p_items, 1) or 'ok' <> any (v_results) then
    raise exception using errcode = 'UL901',
      message = format('journal %s was checked and yet refused: %s', p_journal_id, array_to_string(v_results, ', '));
  end if;
end $$;
comment on function market.post(base.command_context, uuid, ledger.transfer_input[]) is
  'Posts transfers that were checked before. Raises UL901 when the ledger refuses one.';
