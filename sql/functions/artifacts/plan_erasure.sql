-- What erasing a subject would remove, for whoever holds the operator's key; and for an agent, a page of its own uploads,
-- which is what it may erase itself: it learns nothing of who else has the same bytes. Contents belong to those who uploaded them, and
-- an order's output also to its buyer: so an agent's uploads go, and the outputs it bought; an order's input and output; an
-- artifact whole. What other agents hold by their own upload stays theirs, and what a live order needs stays for now. An open
-- RFQ costs nothing and can be renewed for ever, so it protects no more than its buyer's own upload, and not from an erasure
-- of the artifact itself: an order that came of it is refunded.
create or replace function artifacts.plan_erasure(p_actor uuid, p_ledger_id integer, p_kind text, p_subject uuid, p_hash bytea, p_after bytea)
returns table (artifact_hash bytea, size_bytes bigint, action text, agent_id uuid, reason text)
language plpgsql stable security definer set search_path = pg_catalog, pg_temp as $$
#variable_conflict use_column
declare
  v_is_operator boolean := exists (select from identity.keys k where k.agent_id = p_actor and k.purpose = 'operator' and k.revoked_at is null);
  v_obstacle text[];
begin
  if not v_is_operator and (p_kind <> 'agent' or p_subject is distinct from p_actor or p_actor is null) then
    raise exception using errcode = 'UB302', message = 'only the operator may look into what is stored of others';
  end if;
  v_obstacle := artifacts.erase_subject_obstacle(p_ledger_id, p_kind, p_subject, array_remove(array[p_hash], null));
  case v_obstacle[1]
    when 'UM403' then raise exception using errcode = 'UM403', message = v_obstacle[2];
    when 'UM405' then raise exception using errcode = 'UM405', message = v_obstacle[2];
    when 'UM608' then raise exception using errcode = 'UM608', message = v_obstacle[2];
    else null;
  end case;
  if not v_is_operator then
    return query
      select u.artifact_hash, u.size_bytes, 'unlink', u.agent_id, null::text from artifacts.uploads u
       where u.ledger_id = p_ledger_id and u.agent_id = p_actor and u.erased_at is null
         and u.artifact_hash > coalesce(p_after, '') order by u.artifact_hash limit 1000;
    return;
  end if;
  return query
    with own as (
      select c.hash, (array_agg(c.owner_id order by c.outputs))[1] as owner_id, array_agg(c.party_id) as parties, bool_or(c.outputs) as outputs
        from artifacts.plan_erasure_candidates(p_ledger_id, p_kind, p_subject, p_hash) as c group by c.hash),
    held as (
      select o.hash, o.owner_id, o.outputs, max(u.size_bytes) as size_bytes, bool_or(p_kind = 'artifact' or u.agent_id = any (o.parties)) as ours,
             bool_or(p_kind <> 'artifact' and u.agent_id <> all (o.parties)) as others, bool_or(u.agent_id = o.owner_id) as owner_holds,
             exists (select from market.orders x where x.ledger_id = p_ledger_id and x.closed_at is null and (x.input_hash = o.hash or x.output_hash = o.hash)) as ordered,
             p_kind <> 'artifact' and bool_or(a.asks) as asked, bool_or(a.asks and u.agent_id = o.owner_id) as owner_asks,
             -- Another buyer's result that happens to be the same bytes, from the same provider, who is not the one erased.
             o.outputs and bool_or((p_kind = 'order' or u.agent_id <> p_subject) and exists (select from market.orders x where x.ledger_id = p_ledger_id and x.output_hash = o.hash
               and x.provider_id = u.agent_id and x.buyer_id <> all (o.parties))) as bought
        from own o
        join artifacts.uploads u on u.ledger_id = p_ledger_id and u.artifact_hash = o.hash and u.erased_at is null
       cross join lateral (select exists (select from market.rfqs r where r.ledger_id = p_ledger_id and r.state = 'open'
         and r.input_hash = o.hash and r.buyer_id = u.agent_id) as asks) as a
       group by o.hash, o.owner_id, o.outputs)
    select h.hash, h.size_bytes, d.action, case when d.action = 'unlink' then h.owner_id end,
           case when d.action = 'erase' then null when h.ordered or h.owner_asks then 'needed' when h.others then 'uploaded_by_another'
                when h.bought then 'bought_by_another' else 'needed' end
      from held h
      cross join lateral (select case when h.ordered then 'keep' when not h.others and not h.bought and not h.asked then 'erase'
        when h.owner_holds and not h.owner_asks and (p_kind = 'agent' or not h.bought) then 'unlink' else 'keep' end as action) as d
     where h.ours and h.hash > coalesce(p_after, '')
     order by h.hash;
end $$;
comment on function artifacts.plan_erasure(uuid, integer, text, uuid, bytea, bytea) is
  'What erasing agent or order p_subject, or artifact p_hash, would do to each of its artifacts. action: erase, everybody''s upload and the bytes; unlink, only agent_id''s upload; keep. reason of what stays: needed, uploaded_by_another, bought_by_another; NULL where an agent asks for itself, which is shown at most 1,000. p_after: only hashes behind this one. Raises UB302, UM403, UM405, UM608.';

-- What may be a subject's: whose upload goes when others hold the same bytes, and a party whose upload counts as the
-- subject's own. outputs: results that were bought.
create or replace function artifacts.plan_erasure_candidates(p_ledger_id integer, p_kind text, p_subject uuid, p_hash bytea)
returns table (hash bytea, owner_id uuid, party_id uuid, outputs boolean)
language sql stable security invoker as $$
  select u.artifact_hash, p_subject, p_subject, false from artifacts.uploads u
   where p_kind = 'agent' and u.ledger_id = p_ledger_id and u.agent_id = p_subject and u.erased_at is null
  union
  select x.output_hash, p_subject, v.party_id, true from market.orders x cross join lateral (values (p_subject), (x.provider_id)) as v (party_id)
   where p_kind = 'agent' and x.ledger_id = p_ledger_id and x.buyer_id = p_subject and x.output_hash is not null
  union
  select v.hash, v.owner_id, w.party_id, v.outputs from market.orders x
    cross join lateral (values (x.input_hash, x.buyer_id, false), (x.output_hash, x.provider_id, true)) as v (hash, owner_id, outputs)
    cross join lateral (values (x.buyer_id), (x.provider_id)) as w (party_id)
   where p_kind = 'order' and x.ledger_id = p_ledger_id and x.order_id = p_subject and v.hash is not null
  union
  select p_hash, null::uuid, null::uuid, false where p_kind = 'artifact'
$$;
comment on function artifacts.plan_erasure_candidates(integer, text, uuid, bytea) is
  'Hash, owner and a party of what belongs to a subject, stored or not; one row per party.';
