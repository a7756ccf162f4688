-- Decides a batch of authenticated commands of one ledger, in array order, and returns what each receipt must state.
-- The ledger's row is locked first and read afterwards: so batches of one ledger run one after the other, array order is
-- serial order, seq is gapless and ledger time monotone. Nothing may COMMIT before receipts.seal has stored a receipt for
-- each command: a deferred foreign key sees to that.
-- Order of judgement: stored answer for the same request; key used for another request (UB601); nonce used (UI205);
-- signing key unknown or revoked (UI203); purpose not permitted (UI301); forced refusal; the domain function.
create or replace function base.decide(
  p_ledger_id integer, p_rules_version integer, p_command_ids uuid[], p_actor_ids uuid[], p_key_ids bytea[],
  p_idempotency_keys text[], p_nonces text[], p_kinds text[], p_args text[], p_request_digests bytea[], p_bodies bytea[],
  p_signature_bases bytea[], p_signatures bytea[], p_content_types text[], p_signed_bodies bytea[],
  p_accepted_ats timestamptz[], p_simulated boolean[], p_recorded text[], p_forced_codes text[])
returns table (
  i integer, replayed boolean, seq bigint, command_id uuid, code text, subject_kind text, subject_id uuid, facts text,
  prev bytea, receipt_id bytea, at timestamptz, rules_version integer, wake uuid[])
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
#variable_conflict use_column
declare
  v_seq bigint;
  v_time timestamptz;
  c record;
  v_old record;
  v_out base.outcome;
  v_key text;
  v_nonce text;
  v_version integer;
  v_facts text;
begin
  select l.last_seq, l.last_time into v_seq, v_time from base.ledgers l where l.ledger_id = p_ledger_id for no key update;
  if not found then
    if coalesce(p_kinds[1], '') <> 'genesis' then
      raise exception using errcode = 'UB401', message = format('there is no ledger %s', p_ledger_id);
    end if;
    insert into base.ledgers (ledger_id, name, origin)
    values (p_ledger_id, p_args[1]::jsonb ->> 'market_name', p_args[1]::jsonb ->> 'origin');
    insert into receipts.logs (ledger_id, root) values (p_ledger_id, sha256(''));
    v_seq := 0;
    v_time := '-infinity';
  end if;
  for c in
    select * from unnest(p_command_ids, p_actor_ids, p_key_ids, p_idempotency_keys, p_nonces, p_kinds, p_args,
      p_request_digests, p_bodies, p_signature_bases, p_signatures, p_content_types, p_signed_bodies, p_accepted_ats,
      p_simulated, p_recorded, p_forced_codes) with ordinality as t (
      command_id, actor_id, key_id, idempotency_key, nonce, kind, args, request_digest, body, signature_base, signature,
      content_type, signed_body, accepted_at, simulated, recorded, forced_code, i) order by t.i
  loop
    v_key := c.idempotency_key;
    v_nonce := c.nonce;
    v_out := null;
    if v_key is not null then
      select o.seq, o.command_id, o.request_digest, o.code, o.subject_kind, o.subject_id, o.facts, o.at, o.rules_version,
             (select r.receipt_id from receipts.receipts r where r.ledger_id = o.ledger_id and r.seq = o.seq) as receipt_id
        into v_old
        from base.commands o
       where o.ledger_id = p_ledger_id and o.actor_id = c.actor_id and o.idempotency_key = v_key;
      if found then
        if v_old.request_digest = c.request_digest then
          i := c.i; replayed := true; seq := v_old.seq; command_id := v_old.command_id; code := v_old.code;
          subject_kind := v_old.subject_kind; subject_id := v_old.subject_id; facts := v_old.facts; prev := null;
          receipt_id := v_old.receipt_id; at := v_old.at; rules_version := v_old.rules_version; wake := null;
          return next;
          continue;
        end if;
        v_key := null;
        v_out := base.refusal('UB601', 'agent', c.actor_id,
          'this Idempotency-Key was used for another request: send a new key with a new request');
      end if;
    end if;
    v_seq := v_seq + 1;
    if v_seq & (v_seq - 1) = 0 and v_seq between 32 and 32768 then
      perform base.refresh_statistics();
    end if;
    v_time := greatest(v_time, c.accepted_at);
    v_version := p_rules_version;
    if v_out.code is null and v_nonce is not null and exists (
      select from base.commands o where o.ledger_id = p_ledger_id and o.key_id = c.key_id and o.nonce = v_nonce) then
      v_out := base.refusal('UI205', 'agent', c.actor_id,
        'this nonce was used before: sign the request again with a fresh nonce');
    end if;
    if v_out.code is not null then
      v_nonce := null;
    elsif c.forced_code is not null then
      v_out := base.refusal(c.forced_code, 'agent', c.actor_id,
        'the command could not be carried out and changed nothing; the operator has been alarmed');
    else
      v_out := base.decide_authority(p_ledger_id, c.actor_id, c.key_id, c.kind, c.args::jsonb);
      if v_out.code is null then
        v_out := base.dispatch(
          row(p_ledger_id, v_seq, c.command_id, c.actor_id, c.key_id, v_time, v_version, c.recorded::jsonb)::base.command_context,
          c.kind, c.args::jsonb);
      end if;
    end if;
    v_facts := v_out.facts::text;
    insert into base.commands (ledger_id, seq, command_id, actor_id, key_id, idempotency_key, nonce, kind, request_digest, body,
      signature_base, signature, content_type, signed_body, accepted_at, at, simulated, rules_version, recorded, forced_code,
      code, subject_kind, subject_id, facts)
    values (p_ledger_id, v_seq, c.command_id, c.actor_id, c.key_id, v_key, v_nonce, c.kind, c.request_digest, c.body,
      c.signature_base, c.signature, c.content_type, c.signed_body, c.accepted_at, v_time, c.simulated, v_version,
      c.recorded::jsonb, c.forced_code, v_out.code, v_out.subject_kind, v_out.subject_id, v_facts);
    i := c.i; replayed := false; seq := v_seq; command_id := c.command_id; code := v_out.code;
    subject_kind := v_out.subject_kind; subject_id := v_out.subject_id; facts := v_facts;
    prev := (select h.receipt_id from receipts.subject_heads h where h.ledger_id = p_ledger_id and h.subject_id = v_out.subject_id);
    receipt_id := null; at := v_time; rules_version := v_version; wake := v_out.wake;
    return next;
  end loop;
  update base.ledgers l set last_seq = v_seq, last_time = v_time where l.ledger_id = p_ledger_id;
end $$;
comment on function base.decide(integer, integer, uuid[], uuid[], bytea[], text[], text[], text[], text[], bytea[], bytea[], bytea[],
  bytea[], text[], bytea[], timestamptz[], boolean[], text[], text[]) is
  'Decides a batch of commands of one ledger in order; one row per command with the facts its receipt must state. replayed: the stored answer of an earlier identical request. prev: newest earlier receipt of the subject before this batch. Raises UB401 without the ledger.';

-- NULL code: may proceed. Genesis and self-registration bring their key along; every other key must be known and valid.
create or replace function base.decide_authority(p_ledger_id integer, p_actor_id uuid, p_key_id bytea, p_kind text, p_args jsonb)
returns base.outcome
language plpgsql stable security invoker set search_path = pg_catalog, pg_temp as $$
declare
  v_key record;
begin
  select k.purpose, k.agent_id, k.revoked_at into v_key from identity.keys k where k.key_id = p_key_id;
  if not found then
    if p_kind in ('genesis', 'register_agent') then
      return null;
    end if;
    return base.refusal('UI202', 'agent', p_actor_id, 'unknown key: register the agent first');
  end if;
  if v_key.agent_id <> p_actor_id then
    return base.refusal('UI202', 'agent', p_actor_id, 'the signing key belongs to another agent');
  end if;
  if v_key.revoked_at is not null then
    return base.refusal('UI203', 'agent', p_actor_id, 'the signing key was revoked');
  end if;
  if not exists (select from identity.purpose_permits p where p.purpose = v_key.purpose and p.kind = p_kind) then
    return base.refusal('UI301', 'agent', p_actor_id,
      format('a %s key may not send %s', v_key.purpose, p_kind));
  end if;
  return null;
end $$;
comment on function base.decide_authority(integer, uuid, bytea, text, jsonb) is
  'May this key send this kind of command? NULL code: yes. Refuses UI202, UI203, UI301.';
