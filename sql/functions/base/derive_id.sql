-- A new id that replay can make again: the command's own timestamp and the hash of (command, label, n).
-- Shaped as UUIDv7, so that it sorts by time like every other id.
create or replace function base.derive_id(p_command_id uuid, p_label text, p_n integer) returns uuid
language sql immutable strict parallel safe as $$
  select encode(
    substring(uuid_send(p_command_id) from 1 for 6)
    || set_byte(substring(h from 1 for 2), 0, (get_byte(h, 0) & 15) | 112)
    || set_byte(substring(h from 3 for 8), 0, (get_byte(h, 2) & 63) | 128), 'hex')::uuid
  from (select sha256(uuid_send(p_command_id) || convert_to(p_label, 'UTF8') || '\x00'::bytea || int4send(p_n)) as h) as hashed
$$;
comment on function base.derive_id(uuid, text, integer) is
  'Deterministic UUIDv7 with the command''s timestamp: SHA-256 of (command id, label, 0x00, n).';
