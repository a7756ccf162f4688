-- An account's id is a hash of what the account is for, so that looking one up needs no index beyond the primary key
-- (IS NOT DISTINCT FROM cannot use one) and two shards cannot open the same account twice.
create or replace function ledger.account_id(p_ledger_id integer, p_asset_id integer, p_purpose text, p_owner uuid, p_ref uuid)
returns uuid
language plpgsql immutable security invoker parallel safe set search_path = pg_catalog, pg_temp as $$
declare
  h bytea := sha256(convert_to(concat_ws('/', 'account', p_ledger_id, p_asset_id, p_purpose, coalesce(p_owner::text, '-'),
    coalesce(p_ref::text, '-')), 'UTF8'));
begin
  h := set_byte(set_byte(h, 6, get_byte(h, 6) & 15 | 128), 8, get_byte(h, 8) & 63 | 128);
  return encode(substring(h from 1 for 16), 'hex')::uuid;
end $$;
comment on function ledger.account_id(integer, integer, text, uuid, uuid) is
  'UUIDv8 of an account: SHA-256 of "account/<ledger>/<asset>/<purpose>/<owner or ->/<ref or ->".';
