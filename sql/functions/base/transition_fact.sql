-- How a step of a state machine reads in a receipt: one place, so that every domain states it alike.
create or replace function base.transition_fact(p_machine text, p_subject_id uuid, p_from text, p_event text, p_to text) returns jsonb
language sql immutable parallel safe as $$
  select jsonb_build_object('machine', p_machine, 'id', p_subject_id, 'from', p_from, 'event', p_event, 'to', p_to)
$$;
comment on function base.transition_fact(text, uuid, text, text, text) is 'One element of facts.transitions.';
