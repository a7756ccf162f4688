create or replace view splits.audit_policies as
select p.ledger_id, p.policy_id, 'the shares do not sum to 1,000,000' as problem, format('they sum to %s', coalesce(sum(s.share_ppm), 0)) as detail
  from splits.policies p left join splits.policy_shares s on s.ledger_id = p.ledger_id and s.policy_id = p.policy_id
 group by p.ledger_id, p.policy_id
having coalesce(sum(s.share_ppm), 0) <> 1000000
union all
select p.ledger_id, p.policy_id, 'the policy has no provider', 'a role that nobody holds passes its share to the provider'
  from splits.policies p
 where not exists (select from splits.policy_shares s where s.ledger_id = p.ledger_id and s.policy_id = p.policy_id and s.role = 'provider');
comment on view splits.audit_policies is 'Empty when healthy. Policies whose shares do not sum to 1,000,000, or that have no provider.';
