-- Record time to a place in the log. Ledger time is monotone in seq, so a binary search over the index on (ledger_id, seq) finds
-- it in some thirty probes, and no index on time has to be kept.
create or replace function ledger.seq_at(p_ledger_id integer, p_at timestamptz) returns bigint
language plpgsql stable security invoker parallel safe as $$
declare
  v_low bigint := 0;
  v_high bigint := (select l.last_seq from base.ledgers l where l.ledger_id = p_ledger_id);
  v_middle bigint;
  v_found record;
begin
  if p_at is null or p_at >= (select l.last_time from base.ledgers l where l.ledger_id = p_ledger_id) then
    return coalesce(v_high, 0);
  end if;
  while v_low < v_high loop
    -- Whether everything up to and including the middle is at or before p_at; commands without transfers tell nothing.
    v_middle := v_low + (v_high - v_low + 1) / 2;
    select t.seq, t.at into v_found from ledger.transfers t where t.ledger_id = p_ledger_id and t.seq <= v_middle
     order by t.ledger_id desc, t.seq desc limit 1;
    if not found or v_found.at <= p_at then
      v_low := v_middle;
    else
      v_high := v_found.seq - 1;
    end if;
  end loop;
  return greatest(v_low, 0);
end $$;
comment on function ledger.seq_at(integer, timestamptz) is
  'A command such that all transfers at or before p_at belong to it or to earlier ones, and none of them is later; the newest for NULL or a time to come; 0 before the first.';
