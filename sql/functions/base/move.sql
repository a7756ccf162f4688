-- One step of a state machine, if it is legal: the moves are rows of base.state_moves. The transition row it writes
-- cannot commit without the command's receipt.
create or replace function base.move(p_ctx base.command_context, p_machine text, p_subject_id uuid, p_from text, p_event text)
returns text
language plpgsql volatile security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_to text;
begin
  select m.to_state into v_to from base.state_moves m
   where m.machine = p_machine and m.from_state = p_from and m.event = p_event;
  if v_to is null then
    return null;
  end if;
  insert into base.transitions (ledger_id, seq, n, machine, subject_id, from_state, event, to_state, at)
  select p_ctx.ledger_id, p_ctx.seq, coalesce(max(t.n), 0) + 1, p_machine, p_subject_id, p_from, p_event, v_to, p_ctx.at
    from base.transitions t where t.ledger_id = p_ctx.ledger_id and t.seq = p_ctx.seq;
  return v_to;
end $$;
comment on function base.move(base.command_context, text, uuid, text, text) is
  'Writes the transition and returns the new state; NULL, and nothing written, when the move is not legal.';
