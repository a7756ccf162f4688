-- An account's id is a hash of what the account is for, so that looking one up needs no index beyond the primary key
-- (IS NOT DISTINCT FROM cannot use one) and two shards cannot open the same account twice.
create or replace function ledger.account_id(p_ledger_id integer, p_asset_id integer, p_purpose text, p_owner uuid, p_ref uuid)
returns uuid
language sql immutable parallel safe as $$
  select encode(
    substring(h from 1 for 6)
    || set_byte(substring(h from 7 for 2), 0, (get_byte(h, 6) & 15) | 128)
    || set_byte(substring(h from 9 for 8), 0, (get_byte(h, 8) & 63) | 128), 'hex')::uuid
  from (select sha256(convert_to(concat_ws('/', 'account', p_ledger_id, p_asset_id, p_purpose, coalesce(p_owner::text, '-'),
    coalesce(p_ref::text, '-')), 'UTF8')) as h) as hashed
$$;
comment on function ledger.account_id(integer, integer, text, uuid, uuid) is
  'UUIDv8 of an account: SHA-256 of "account/<ledger>/<asset>/<purpose>/<owner or ->/<ref or ->".';
