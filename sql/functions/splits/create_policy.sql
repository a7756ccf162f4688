-- Writes a ledger's next split policy; the newest is in force. Called by genesis, not a command of its own yet.
create or replace function splits.create_policy(p_ctx base.command_context, p_policy jsonb) returns text
language plpgsql volatile security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_shares jsonb := p_policy -> 'shares';
  v_id integer;
begin
  if coalesce(p_policy ->> 'name' !~ '^[ -~]{1,64}$', true) or jsonb_typeof(v_shares) is distinct from 'array' then
    return 'UP101';
  end if;
  if (select count(*) <> count(distinct s ->> 'role')
          or bool_or(coalesce(s ->> 'role' not in ('creator', 'provider', 'operator', 'referrer'), true))
          or bool_or(coalesce(market.arg_int(s, 'share_ppm') not between 0 and 1000000, true))
          -- A role that nobody holds passes its share to the provider, who must therefore be in every policy.
          or coalesce(not bool_or(s ->> 'role' = 'provider'), true)
        from jsonb_array_elements(v_shares) s) then
    return 'UP102';
  end if;
  if (select sum(market.arg_int(s, 'share_ppm')) is distinct from 1000000 from jsonb_array_elements(v_shares) s) then
    return 'UP103';
  end if;
  select coalesce(max(p.policy_id), 0) + 1 into v_id from splits.policies p where p.ledger_id = p_ctx.ledger_id;
  insert into splits.policies (ledger_id, policy_id, name, seq, valid_from)
  values (p_ctx.ledger_id, v_id, p_policy ->> 'name', p_ctx.seq, p_ctx.at);
  insert into splits.policy_shares (ledger_id, policy_id, n, role, share_ppm)
  select p_ctx.ledger_id, v_id, s.n, s.share ->> 'role', market.arg_int(s.share, 'share_ppm')
    from jsonb_array_elements(v_shares) with ordinality as s (share, n);
  return null;
end $$;
comment on function splits.create_policy(base.command_context, jsonb) is
  'Writes {"name", "shares": [{"role", "share_ppm"}]}. NULL: written. UP101 no name or shares, UP102 a role is unknown, double, out of bounds or provider is missing, UP103 the shares do not sum to 1,000,000.';
