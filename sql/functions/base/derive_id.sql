-- A new id that replay can make again: the command's own timestamp and the hash of (command, label, n).
-- Shaped as UUIDv7, so that it sorts by time like every other id. One expression, so that it is inlined where it is called:
-- hashing three times costs less than one call of a SQL function.
create or replace function base.derive_id(p_command_id uuid, p_label text, p_n integer) returns uuid
language sql immutable parallel safe as $$
  select encode(
    substring(uuid_send(p_command_id) from 1 for 6)
    || set_byte(substring(sha256(uuid_send(p_command_id) || p_label::bytea || '\x00'::bytea || int4send(p_n)) from 1 for 2), 0,
      (get_byte(sha256(uuid_send(p_command_id) || p_label::bytea || '\x00'::bytea || int4send(p_n)), 0) & 15) | 112)
    || set_byte(substring(sha256(uuid_send(p_command_id) || p_label::bytea || '\x00'::bytea || int4send(p_n)) from 3 for 8), 0,
      (get_byte(sha256(uuid_send(p_command_id) || p_label::bytea || '\x00'::bytea || int4send(p_n)), 2) & 63) | 128), 'hex')::uuid
$$;
comment on function base.derive_id(uuid, text, integer) is
  'Deterministic UUIDv7 with the command''s timestamp: SHA-256 of (command id, the label, 0x00, n).';
