-- base: ledgers, commands, states and their legal moves.
-- Nouns, in the order a reader meets them: a *ledger* is one market's self-balanced books; a *command* is a signed request
-- to change state, kept with its exact signed bytes; every command gets one *receipt* (schema receipts); a *transition* is
-- one step of a state machine and cannot commit without its receipt.

create schema base;
comment on schema base is 'Ledgers, the command log, state machines as data, the loader''s own book-keeping.';
create schema identity;
comment on schema identity is 'Agents, their keys and what each purpose of key permits.';
create schema ledger;
comment on schema ledger is 'Double-entry books: assets, accounts, transfers, holds.';
create schema receipts;
comment on schema receipts is 'Signed receipts, one per command, in an RFC 6962 Merkle log with signed checkpoints.';
create schema market;
comment on schema market is 'Capability ads, RFQs, offers, orders, run tickets, and the feed that each agent follows.';
create schema metering;
comment on schema metering is 'Attempts and their hash-chained, cumulative metering rows.';
create schema splits;
comment on schema splits is 'Split policies, settlements and their legs.';
create schema payouts;
comment on schema payouts is 'Payables and the payouts that pay each of them at most once.';
create schema artifacts;
comment on schema artifacts is 'Who uploaded which artifact; the bytes live in an erasable store outside the database.';
create schema transparency;
comment on schema transparency is 'The analysts'' schema: what the market did, in plain SQL views.';
create schema finance;
comment on schema finance is 'Balances, payables, trial balance and payout reconciliation.';

-- Refuses UPDATE, DELETE and TRUNCATE, for the owner too. A trigger, because privileges do not bind an owner.
create function base.refuse_change() returns trigger
language plpgsql volatile security invoker set search_path = pg_catalog, pg_temp as $$
begin
  raise exception using errcode = 'UB901',
    message = format('%I.%I is append-only: %s is refused', tg_table_schema, tg_table_name, tg_op),
    hint = 'Record a correction as a new row.';
end $$;
comment on function base.refuse_change() is 'Trigger of append-only tables. Raises UB901.';

create type base.command_context as (
  ledger_id integer,
  seq bigint,
  command_id uuid,
  actor_id uuid,
  key_id bytea,
  at timestamptz,
  rules_version integer,
  recorded jsonb
);
comment on type base.command_context is
  'What a domain function may know besides its arguments: who, when (ledger time), and what was recorded from outside.';

create type base.outcome as (
  code text,
  subject_kind text,
  subject_id uuid,
  facts jsonb,
  wake uuid[]
);
comment on type base.outcome is
  'What a domain function decided: ''ok'' or a code of docs/ERRORS.md, what it was about, the facts for the receipt, and whom to wake (a hint, never stored).';

create table base.ledgers (
  ledger_id integer not null,
  name text not null,
  origin text not null,
  last_seq bigint not null default 0,
  last_time timestamptz not null default '-infinity',
  constraint ledgers_pk primary key (ledger_id),
  constraint ledgers_id_positive_ck check (ledger_id > 0),
  constraint ledgers_last_seq_ck check (last_seq >= 0)
);
comment on table base.ledgers is
  'One row per market. Its row lock is the ledger''s single-writer lock: whoever holds it decides the next commands.';
comment on column base.ledgers.origin is 'Names this ledger in checkpoints; unique for each init.';
comment on column base.ledgers.last_seq is 'seq of the newest command; gapless.';
comment on column base.ledgers.last_time is 'Ledger time of the newest command; monotone.';
grant update (last_seq, last_time) on base.ledgers to econ_engine;

create table base.rules_versions (
  rules_version integer not null,
  summary text not null,
  constraint rules_versions_pk primary key (rules_version)
);
comment on table base.rules_versions is 'Behaviour of the SQL functions, by version: a command replays under the version it ran under.';
insert into base.rules_versions values (1, 'first release');

create table base.command_kinds (
  kind text not null,
  summary text not null,
  constraint command_kinds_pk primary key (kind)
);
comment on table base.command_kinds is 'Every kind of command there is; base.dispatch knows the same names.';
insert into base.command_kinds values
  ('genesis', 'Creates a ledger with its assets, keys and default split policy'),
  ('register_agent', 'Registers an agent by its first key; grants no money'),
  ('revoke_key', 'Ends the validity of one of the actor''s keys'),
  ('deposit', 'Books money that arrived from outside into a wallet'),
  ('publish_capability', 'Publishes, changes or withdraws a capability ad'),
  ('record_presence', 'Records that an agent became reachable or unreachable'),
  ('open_rfq', 'Asks for offers and invites eligible providers'),
  ('cancel_rfq', 'Withdraws an open RFQ'),
  ('submit_offer', 'Offers to run an RFQ at a unit price'),
  ('accept_offer', 'Makes an order of an offer, holds its maximum in escrow, issues the run ticket'),
  ('start_attempt', 'Redeems the run ticket'),
  ('record_metering', 'Stores signed runs of metering rows'),
  ('report_output', 'Names the output artifact of an attempt'),
  ('fail_attempt', 'Gives an order up; the buyer is refunded'),
  ('accept_output', 'The buyer accepts the output'),
  ('reject_output', 'The buyer disputes the output'),
  ('resolve_dispute', 'A verifier judges a disputed or silently left output'),
  ('settle_order', 'Pays the used part from escrow by the split policy and refunds the rest'),
  ('expire_rfq', 'Timer: closes an RFQ that nobody ordered from'),
  ('expire_order', 'Timer: refunds an order whose ticket ran out without an output'),
  ('reserve_payout', 'Gathers a payee''s open payables into a payout and reserves the money'),
  ('confirm_payout', 'The rail confirmed: the reserved money has left'),
  ('fail_payout', 'The rail refused: the payables are open again'),
  ('post_transfers', 'Operator''s own batch of transfers');

create table base.commands (
  ledger_id integer not null,
  seq bigint not null,
  command_id uuid not null,
  actor_id uuid not null,
  key_id bytea not null,
  idempotency_key text,
  nonce text,
  kind text not null,
  request_digest bytea not null,
  body bytea not null,
  signature_base bytea not null,
  signature bytea not null,
  content_type text not null,
  signed_body bytea,
  accepted_at timestamptz not null,
  at timestamptz not null,
  simulated boolean not null,
  rules_version integer not null,
  recorded jsonb not null,
  forced_code text,
  code text not null,
  subject_kind text not null,
  subject_id uuid not null,
  facts text not null,
  constraint commands_pk primary key (ledger_id, seq),
  constraint commands_id_uq unique (ledger_id, command_id),
  constraint commands_idempotency_uq unique (ledger_id, actor_id, idempotency_key),
  constraint commands_nonce_uq unique (ledger_id, key_id, nonce),
  constraint commands_seq_positive_ck check (seq > 0),
  constraint commands_key_id_length_ck check (octet_length(key_id) = 32),
  constraint commands_signature_length_ck check (octet_length(signature) = 64),
  constraint commands_time_ck check (at >= accepted_at)
);
-- No foreign keys to ledgers, kinds and rules: base.decide is the only writer and locks the ledger's row, base.dispatch
-- knows the kinds, and each such key would cost a lookup per command.
comment on table base.commands is
  'The command log: everything that ever changed state, with the exact bytes its sender signed. Replay reads this table and public keys only.';
comment on column base.commands.seq is 'Gapless per ledger, in commit order; the receipt''s leaf index plus one.';
comment on column base.commands.idempotency_key is 'NULL: refused because the actor had used this key for another request (the signed bytes still name it).';
comment on column base.commands.nonce is 'NULL: a service command, or refused because the nonce had been used.';
comment on column base.commands.request_digest is 'BLAKE3 of method, target URI, content type and content digest: what "the same request" means.';
comment on column base.commands.body is 'Exact CommandBody protobuf bytes that were executed.';
comment on column base.commands.signature_base is 'RFC 9421 signature base, or the DSSE pre-authentication encoding of a service command.';
comment on column base.commands.signed_body is 'The request''s body where it differs from `body` (GraphQL JSON); NULL otherwise.';
comment on column base.commands.accepted_at is 'The accepting clock.';
comment on column base.commands.at is 'Ledger time: max(accepted_at, previous ledger time).';
comment on column base.commands.simulated is 'The accepting clock was a simulated one.';
comment on column base.commands.recorded is 'Whatever came from outside or from randomness (nonces, ids); replay takes it from here.';
comment on column base.commands.forced_code is 'Set when the command raised and was therefore refused; replay refuses it the same way.';
comment on column base.commands.code is '''ok'' or the refusal''s code (docs/ERRORS.md).';
comment on column base.commands.facts is 'JSON text exactly as the receipt states it.';
create trigger commands_append_only before update or delete on base.commands for each row execute function base.refuse_change();
create trigger commands_no_truncate before truncate on base.commands execute function base.refuse_change();

create table base.state_moves (
  machine text not null,
  from_state text not null,
  event text not null,
  to_state text not null,
  constraint state_moves_pk primary key (machine, from_state, event),
  constraint state_moves_uq unique (machine, from_state, event, to_state)
);
comment on table base.state_moves is
  'Every legal move of every state machine. A move that is not a row here cannot be made. from_state '''' is birth.';

create table base.transitions (
  ledger_id integer not null,
  seq bigint not null,
  n smallint not null,
  machine text not null,
  subject_id uuid not null,
  from_state text not null,
  event text not null,
  to_state text not null,
  at timestamptz not null,
  constraint transitions_pk primary key (ledger_id, seq, n),
  constraint transitions_legal_fk foreign key (machine, from_state, event, to_state)
    references base.state_moves (machine, from_state, event, to_state)
);
comment on table base.transitions is
  'Append-only: each step of each state machine, tied to the receipt of the command that made it by a deferred foreign key.';
comment on column base.transitions.n is 'Order within one command, from 1.';
create index transitions_subject_ix on base.transitions (ledger_id, subject_id, seq);
create trigger transitions_append_only before update or delete on base.transitions for each row execute function base.refuse_change();
create trigger transitions_no_truncate before truncate on base.transitions execute function base.refuse_change();
