-- The outcome of a command that is refused: its code, what it was about and what a person can do.
create or replace function base.refusal(p_code text, p_subject_kind text, p_subject_id uuid, p_message text, p_wake uuid[] default null)
returns base.outcome
language sql stable parallel safe as $$
  select row(p_code, p_subject_kind, p_subject_id,
    jsonb_build_object('error', jsonb_build_object('code', p_code, 'message', p_message)), p_wake)::base.outcome
$$;
comment on function base.refusal(text, text, uuid, text, uuid[]) is 'Outcome with facts {"error": {"code", "message"}}.';
