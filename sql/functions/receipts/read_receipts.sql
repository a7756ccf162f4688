-- Receipts in log order, as far as the actor may see each of them: the same right as read_receipt's.
-- A page looks at a bounded number of candidates, whatever the filters are; the last row is a mark without receipt that says from
-- where to go on, and there is none at the end of the list. For who may not read everything, candidates are what concerns it
-- already (its own commands, its feed, subjects it is a party to), so neither pages nor marks tell of anybody else's receipts.
create or replace function receipts.read_receipts(
  p_actor uuid, p_ledger_id integer, p_subject_id uuid, p_sender_id uuid, p_kind text, p_code text, p_since timestamptz,
  p_until timestamptz, p_journal_id uuid, p_command_id uuid, p_newest_first boolean, p_after bigint, p_limit integer)
returns table (seq bigint, receipt_id bytea, subject_id uuid, prev bytea, envelope bytea)
language plpgsql stable security definer set search_path = pg_catalog, pg_temp as $$
#variable_conflict use_column
declare
  c_looked_at constant integer := 1000;
  v_all boolean := receipts.reads_all(p_actor);
  v_low bigint := 1;
  v_high bigint := coalesce((select l.last_seq from base.ledgers l where l.ledger_id = p_ledger_id), 0);
  v_seqs bigint[];
  v_last bigint;
  v_left integer := least(greatest(p_limit, 0), c_looked_at);
begin
  if p_actor is null or v_left = 0 then
    return;
  end if;
  -- Ledger time never falls with seq: a time is a place in the log.
  if p_since is not null then
    v_low := receipts.read_receipts_before(p_ledger_id, p_since) + 1;
  end if;
  if p_until is not null then
    v_high := least(v_high, receipts.read_receipts_before(p_ledger_id, p_until));
  end if;
  if p_newest_first then
    v_high := least(v_high, coalesce(p_after, 9223372036854775807) - 1);
  else
    v_low := greatest(v_low, coalesce(p_after, 0) + 1);
  end if;
  v_seqs := array(select s from receipts.read_receipts_candidates(p_actor, v_all, p_ledger_id, p_subject_id, p_sender_id,
    p_journal_id, p_command_id, p_newest_first, v_low, v_high, c_looked_at) as s);
  -- One look-up after the other: the page is mostly full long before the candidates are used up.
  foreach v_last in array v_seqs loop
    return query
    select r.seq, r.receipt_id, r.subject_id, r.prev, r.envelope
      from base.commands c join receipts.receipts r on r.ledger_id = c.ledger_id and r.seq = c.seq
     where c.ledger_id = p_ledger_id and c.seq = v_last
       and (p_subject_id is null or c.subject_id = p_subject_id) and (p_sender_id is null or c.actor_id = p_sender_id)
       and (p_kind is null or c.kind = p_kind) and (p_code is null or c.code = p_code)
       and (p_command_id is null or c.command_id = p_command_id)
       and (v_all or receipts.is_told(p_actor, c.ledger_id, c.seq, c.actor_id));
    if found then
      v_left := v_left - 1;
      exit when v_left = 0;
    end if;
  end loop;
  -- Of a journal others may have written more than anybody looks at: who does not read everything is not told.
  if v_left = 0 or cardinality(v_seqs) = c_looked_at and (v_all or p_journal_id is null) then
    return query select v_last, null::bytea, null::uuid, null::bytea, null::bytea;
  end if;
end $$;
comment on function receipts.read_receipts(uuid, integer, uuid, uuid, text, text, timestamptz, timestamptz, uuid, uuid, boolean, bigint, integer) is
  'Receipts that p_actor may see, by seq, at most p_limit (1,000): of one subject, sender, kind, code, time (p_since inclusive, p_until exclusive), journal (its first 1,000 commands) or command; NULL: any. A row with envelope NULL comes last when there may be more: go on with its seq as p_after. A page may be short, even empty, and still have it. Raises UR701: a subject''s chain of more than 10,000, asked for from its old end.';

-- Where to look, in order: at most p_count places of the log between p_low and p_high.
create or replace function receipts.read_receipts_candidates(
  p_actor uuid, p_all boolean, p_ledger_id integer, p_subject_id uuid, p_sender_id uuid, p_journal_id uuid, p_command_id uuid,
  p_newest_first boolean, p_low bigint, p_high bigint, p_count integer) returns setof bigint
language plpgsql stable security invoker set search_path = pg_catalog, pg_temp as $$
begin
  if p_command_id is not null then
    return query select c.seq from base.commands c
      where c.ledger_id = p_ledger_id and c.command_id = p_command_id and c.seq between p_low and p_high;
  elsif p_journal_id is not null then
    return query select * from receipts.read_receipts_of_journal(p_ledger_id, p_journal_id, p_newest_first, p_low, p_high, p_count);
  elsif p_subject_id is not null and (p_all or receipts.read_receipts_party(p_actor, p_ledger_id, p_subject_id)) then
    if p_newest_first then
      return query select s from receipts.read_receipts_of_subject(p_ledger_id, p_subject_id, p_low, p_high, p_count) as s;
    else
      return query select s from receipts.read_receipts_of_subject(p_ledger_id, p_subject_id, p_low, p_high, null) as s
        order by s limit p_count;
    end if;
  elsif p_all and p_sender_id is null then
    -- seq has no gaps: the log is its numbers.
    return query select g from generate_series(
      case when p_newest_first then p_high else p_low end,
      case when p_newest_first then greatest(p_low, p_high - p_count + 1) else least(p_high, p_low + p_count - 1) end,
      case when p_newest_first then -1 else 1 end) as g;
  elsif p_newest_first then
    return query select u.seq from (
      (select c.seq from base.commands c where c.ledger_id = p_ledger_id and c.actor_id = case when p_all then p_sender_id else p_actor end
          and c.seq between p_low and p_high order by c.seq desc limit p_count)
      union
      (select f.seq from market.feed_events f where not p_all and f.ledger_id = p_ledger_id and f.agent_id = p_actor
          and f.seq between p_low and p_high order by f.seq desc limit p_count)) as u
      order by u.seq desc limit p_count;
  else
    return query select u.seq from (
      (select c.seq from base.commands c where c.ledger_id = p_ledger_id and c.actor_id = case when p_all then p_sender_id else p_actor end
          and c.seq between p_low and p_high order by c.seq limit p_count)
      union
      (select f.seq from market.feed_events f where not p_all and f.ledger_id = p_ledger_id and f.agent_id = p_actor
          and f.seq between p_low and p_high order by f.seq limit p_count)) as u
      order by u.seq limit p_count;
  end if;
end $$;
comment on function receipts.read_receipts_candidates(uuid, boolean, integer, uuid, uuid, uuid, uuid, boolean, bigint, bigint, integer) is
  'Up to p_count places of the log where a receipt that is asked for can be, in order.';

-- Receipts of a subject from p_high down: each names the one before it, so no index on subjects is kept. Whoever asks from the
-- other end, or from a time long ago, has the whole chain walked: up to a limit.
create or replace function receipts.read_receipts_of_subject(
  p_ledger_id integer, p_subject_id uuid, p_low bigint, p_high bigint, p_count integer) returns setof bigint
language plpgsql stable security invoker set search_path = pg_catalog, pg_temp as $$
declare
  c_walked constant integer := 10000;
  v_at record;
  v_found integer := 0;
begin
  -- A page goes on from its cursor, which is the seq of one of them; only somebody's own number starts at the head.
  select r.seq, r.prev into v_at from receipts.receipts r
   where r.ledger_id = p_ledger_id and r.seq = p_high + 1 and r.subject_id = p_subject_id;
  if not found then
    select r.seq, r.prev into v_at from receipts.subject_heads h
      join receipts.receipts r on r.ledger_id = h.ledger_id and r.seq = h.seq
     where h.ledger_id = p_ledger_id and h.subject_id = p_subject_id;
  end if;
  for v_walked in 0 .. c_walked loop
    exit when v_at.seq is null or v_at.seq < p_low or v_found = p_count;
    if v_walked = c_walked then
      raise exception using errcode = 'UR701', message = format('this subject has more than %s receipts to walk through', c_walked),
        hint = 'Ask for the newest first, and go on page by page.';
    end if;
    if v_at.seq <= p_high then
      return next v_at.seq;
      v_found := v_found + 1;
    end if;
    select r.seq, r.prev into v_at from receipts.receipts r where r.ledger_id = p_ledger_id and r.receipt_id = v_at.prev;
  end loop;
end $$;
comment on function receipts.read_receipts_of_subject(integer, uuid, bigint, bigint, integer) is
  'The subject''s receipts between p_low and p_high, newest first, at most p_count (NULL: all). Raises UR701 when that takes more than 10,000 steps.';

-- Commands that posted transfers of a journal. A transfer whose journal is its own id is alone in it and has no row there.
create or replace function receipts.read_receipts_of_journal(
  p_ledger_id integer, p_journal_id uuid, p_newest_first boolean, p_low bigint, p_high bigint, p_count integer) returns setof bigint
language sql stable security invoker set search_path = pg_catalog, pg_temp as $$
  select u.seq from (
    select j.seq from ledger.journals j where j.ledger_id = p_ledger_id and j.journal_id = p_journal_id
    union
    select t.seq from ledger.transfers t
     where t.ledger_id = p_ledger_id and t.transfer_id = p_journal_id and t.journal_id = p_journal_id) as u
   where u.seq between p_low and p_high
   order by case when p_newest_first then -u.seq else u.seq end limit p_count $$;
comment on function receipts.read_receipts_of_journal(integer, uuid, boolean, bigint, bigint, integer) is
  'The commands of a journal between p_low and p_high, in order.';

-- A party of an order, an RFQ, an offer or a payout knows that it has receipts; how many are not its own it may then find out.
create or replace function receipts.read_receipts_party(p_actor uuid, p_ledger_id integer, p_subject_id uuid) returns boolean
language sql stable security invoker set search_path = pg_catalog, pg_temp as $$
  select p_subject_id = p_actor
    or exists (select from market.orders o where o.ledger_id = p_ledger_id and o.order_id = p_subject_id and p_actor in (o.buyer_id, o.provider_id))
    or exists (select from market.rfqs q where q.ledger_id = p_ledger_id and q.rfq_id = p_subject_id and q.buyer_id = p_actor)
    or exists (select from market.offers f where f.ledger_id = p_ledger_id and f.offer_id = p_subject_id and f.provider_id = p_actor)
    or exists (select from payouts.payouts y where y.ledger_id = p_ledger_id and y.payout_id = p_subject_id and y.payee_id = p_actor) $$;
comment on function receipts.read_receipts_party(uuid, integer, uuid) is
  'true: p_subject_id is p_actor itself, or its order, RFQ, offer or payout.';

-- How many commands are earlier than a moment, by some twenty probes: seq is gapless and ledger time never falls.
create or replace function receipts.read_receipts_before(p_ledger_id integer, p_at timestamptz) returns bigint
language plpgsql stable security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_low bigint := 0;
  v_high bigint := coalesce((select l.last_seq from base.ledgers l where l.ledger_id = p_ledger_id), 0);
  v_middle bigint;
begin
  while v_low < v_high loop
    v_middle := v_low + (v_high - v_low + 1) / 2;
    if (select c.at from base.commands c where c.ledger_id = p_ledger_id and c.seq = v_middle) < p_at then
      v_low := v_middle;
    else
      v_high := v_middle - 1;
    end if;
  end loop;
  return v_low;
end $$;
comment on function receipts.read_receipts_before(integer, timestamptz) is 'seq of the last command before p_at; 0: there is none.';
