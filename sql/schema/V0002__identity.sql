-- identity: who may speak, with which key, for what. Reference data: small, the same on every shard.

create table identity.agents (
  agent_id uuid not null,
  ledger_id integer not null,
  seq bigint not null,
  registered_at timestamptz not null,
  name_commitment bytea,
  beneficial_owner_id uuid not null,
  constraint agents_pk primary key (agent_id),
  constraint agents_name_commitment_length_ck check (octet_length(name_commitment) = 32)
);
comment on table identity.agents is 'Anything with a key. Its id is derived from its first public key, so it is known before registration.';
comment on column identity.agents.ledger_id is 'Ledger whose command registered it; seq is that command.';
comment on column identity.agents.name_commitment is 'Salted BLAKE3 of a name kept elsewhere; NULL: none given.';
comment on column identity.agents.beneficial_owner_id is 'The agent that in the end earns; itself unless stated.';

create table identity.purposes (
  purpose text not null,
  summary text not null,
  constraint purposes_pk primary key (purpose)
);
comment on table identity.purposes is 'What a key can be for; one key has one purpose.';
insert into identity.purposes values
  ('buyer', 'orders, spends, judges outputs'),
  ('provider', 'advertises, offers, executes, meters'),
  ('payee', 'receives shares'),
  ('operator', 'runs the market''s money in and out'),
  ('service', 'the server''s own hand'),
  ('verifier', 'judges disputed outputs'),
  ('receipt', 'signs receipts and checkpoints, never commands');

create table identity.keys (
  key_id bytea not null,
  agent_id uuid not null,
  public_key bytea not null,
  purpose text not null,
  ledger_id integer not null,
  seq bigint not null,
  valid_from timestamptz not null,
  revoked_at timestamptz,
  revoked_seq bigint,
  revoked_reason text,
  constraint keys_pk primary key (key_id),
  constraint keys_agent_fk foreign key (agent_id) references identity.agents,
  constraint keys_purpose_fk foreign key (purpose) references identity.purposes,
  constraint keys_key_id_length_ck check (octet_length(key_id) = 32),
  constraint keys_public_key_length_ck check (octet_length(public_key) = 32),
  constraint keys_revocation_ck check ((revoked_at is null) = (revoked_seq is null))
);
comment on table identity.keys is 'Ed25519 public keys with purpose, validity and revocation. Private keys never enter the database.';
comment on column identity.keys.key_id is 'BLAKE3 of the public key.';
comment on column identity.keys.revoked_at is 'Ledger time; NULL: valid. Commands after it, in log order, are refused.';
grant update (revoked_at, revoked_seq, revoked_reason) on identity.keys to econ_engine;
create index keys_agent_ix on identity.keys (agent_id);
-- The house's own agents are found by purpose on every settlement.
create index keys_purpose_ix on identity.keys (purpose, seq, key_id);

create table identity.purpose_permits (
  purpose text not null,
  kind text not null,
  constraint purpose_permits_pk primary key (purpose, kind),
  constraint purpose_permits_purpose_fk foreign key (purpose) references identity.purposes,
  constraint purpose_permits_kind_fk foreign key (kind) references base.command_kinds
);
comment on table identity.purpose_permits is 'Which purpose of key may send which kind of command. What is not here is forbidden.';
insert into identity.purpose_permits values
  ('buyer', 'register_agent'), ('provider', 'register_agent'), ('payee', 'register_agent'),
  ('buyer', 'revoke_key'), ('provider', 'revoke_key'), ('payee', 'revoke_key'),
  ('buyer', 'open_rfq'), ('buyer', 'cancel_rfq'), ('buyer', 'accept_offer'),
  ('buyer', 'accept_output'), ('buyer', 'reject_output'), ('buyer', 'settle_order'),
  ('provider', 'publish_capability'), ('provider', 'submit_offer'), ('provider', 'start_attempt'),
  ('provider', 'record_metering'), ('provider', 'report_output'), ('provider', 'fail_attempt'),
  ('operator', 'genesis'), ('operator', 'deposit'), ('operator', 'post_transfers'),
  ('operator', 'confirm_payout'), ('operator', 'fail_payout'), ('operator', 'reserve_payout'), ('operator', 'revoke_key'),
  ('service', 'record_presence'), ('service', 'expire_rfq'), ('service', 'expire_order'), ('service', 'settle_order'),
  ('service', 'reserve_payout'), ('service', 'confirm_payout'), ('service', 'fail_payout'),
  ('verifier', 'resolve_dispute');
