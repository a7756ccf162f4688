-- Commands that two purposes may send (a buyer for its own order, the service for any) ask here which one it was.
create or replace function market.key_has_purpose(p_key_id bytea, p_purpose text) returns boolean
language plpgsql stable parallel safe as $$
begin
  return exists (select from identity.keys k where k.key_id = p_key_id and k.purpose = p_purpose);
end $$;
comment on function market.key_has_purpose(bytea, text) is 'true: the signing key is registered for this purpose.';
