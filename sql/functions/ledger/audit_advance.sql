-- The minute's audit: what was posted since the last healthy audit is checked transfer by transfer, and every account's row against
-- the pages and the tail. When nothing is wrong the audited point moves up. ledger.audit_recent shows the same; the other audit
-- views check everything from the beginning.
create or replace function ledger.audit_advance(p_ledger_id integer, out through_seq bigint, out problems bigint, out first_problem text)
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp set work_mem = '64MB' as $$
declare
  v_from bigint;
begin
  -- Read before the check: what is posted meanwhile is the next minute's.
  through_seq := coalesce((select l.last_seq from base.ledgers l where l.ledger_id = p_ledger_id), 0);
  v_from := coalesce((select a.through_seq from ledger.audited a where a.ledger_id = p_ledger_id), 0);
  select count(*), (array_agg(x.subject || ': ' || x.problem))[1] into problems, first_problem
    from ledger.audit_recent x where x.ledger_id = p_ledger_id;
  if problems = 0 and through_seq > v_from then
    insert into ledger.audited as a (ledger_id, through_seq) values (p_ledger_id, audit_advance.through_seq)
    on conflict (ledger_id) do update set through_seq = greatest(a.through_seq, excluded.through_seq);
  elsif problems > 0 then
    through_seq := v_from;
  end if;
end $$;
comment on function ledger.audit_advance(integer) is
  'Audits what is new and, if it is healthy, remembers how far; problems: how many, and the first of them. Changes nothing else.';
