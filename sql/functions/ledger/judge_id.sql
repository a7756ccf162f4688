-- First look at an item: is its kind known and its id usable?
create or replace function ledger.judge_id(p_kind text, p_flags smallint, p_transfer_id uuid) returns text
language sql immutable parallel safe as $$
  select case
    when p_kind is null or p_kind not in ('plain', 'pending', 'post_pending', 'void_pending') or p_flags not between 0 and 15 then 'reserved_flag'
    when p_transfer_id is null or p_transfer_id = '00000000-0000-0000-0000-000000000000' then 'id_must_not_be_zero'
    when p_transfer_id = 'ffffffff-ffff-ffff-ffff-ffffffffffff' then 'id_must_not_be_int_max'
    else 'ok' end
$$;
comment on function ledger.judge_id(text, smallint, uuid) is 'ok, reserved_flag, id_must_not_be_zero or id_must_not_be_int_max.';
