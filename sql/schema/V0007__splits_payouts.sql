-- splits and payouts: who gets which part, and how it leaves.

create table splits.policies (
  ledger_id integer not null,
  policy_id integer not null,
  name text not null,
  seq bigint not null,
  valid_from timestamptz not null,
  constraint policies_pk primary key (ledger_id, policy_id)
);
comment on table splits.policies is 'Append-only. The newest one of a ledger is in force.';

create table splits.policy_shares (
  ledger_id integer not null,
  policy_id integer not null,
  n smallint not null,
  role text not null,
  share_ppm integer not null,
  constraint policy_shares_pk primary key (ledger_id, policy_id, n),
  constraint policy_shares_role_uq unique (ledger_id, policy_id, role),
  constraint policy_shares_policy_fk foreign key (ledger_id, policy_id) references splits.policies,
  constraint policy_shares_role_ck check (role in ('creator', 'provider', 'operator', 'referrer')),
  constraint policy_shares_share_ck check (share_ppm between 0 and 1000000)
);
comment on table splits.policy_shares is 'In written order. Shares of one policy sum to 1,000,000 (checked when the policy is written; proven by splits.audit_policies).';
comment on column splits.policy_shares.share_ppm is 'Parts per million.';

create table splits.settlements (
  ledger_id integer not null,
  order_id uuid not null,
  journal_id uuid not null,
  policy_id integer not null,
  asset_id integer not null,
  held numeric(28,0) not null,
  paid numeric(28,0) not null,
  refunded numeric(28,0) not null,
  seq bigint not null,
  at timestamptz not null,
  constraint settlements_pk primary key (ledger_id, order_id),
  constraint settlements_order_fk foreign key (ledger_id, order_id) references market.orders,
  constraint settlements_conserved_ck check (paid >= 0 and refunded >= 0 and held = paid + refunded)
);
comment on table splits.settlements is 'One per settled order: its journal, and how the held money divided.';
create trigger settlements_append_only before update or delete on splits.settlements for each row execute function base.refuse_change();
create trigger settlements_no_truncate before truncate on splits.settlements execute function base.refuse_change();

create table splits.legs (
  ledger_id integer not null,
  order_id uuid not null,
  n smallint not null,
  role text not null,
  payee_id uuid not null,
  amount numeric(28,0) not null,
  transfer_id uuid not null,
  payable_id uuid not null,
  constraint legs_pk primary key (ledger_id, order_id, n),
  constraint legs_settlement_fk foreign key (ledger_id, order_id) references splits.settlements,
  constraint legs_amount_ck check (amount > 0 and amount <= 9999999999999999999999999999)
);
comment on table splits.legs is 'Who got what of a settlement; the amounts sum to its paid. A leg of zero is not written.';
create trigger legs_append_only before update or delete on splits.legs for each row execute function base.refuse_change();
create trigger legs_no_truncate before truncate on splits.legs execute function base.refuse_change();

create table payouts.payables (
  ledger_id integer not null,
  payable_id uuid not null,
  payee_id uuid not null,
  asset_id integer not null,
  amount numeric(28,0) not null,
  order_id uuid not null,
  leg_n smallint not null,
  seq bigint not null,
  at timestamptz not null,
  constraint payables_pk primary key (ledger_id, payable_id),
  constraint payables_leg_uq unique (ledger_id, order_id, leg_n),
  constraint payables_leg_fk foreign key (ledger_id, order_id, leg_n) references splits.legs,
  constraint payables_amount_ck check (amount > 0 and amount <= 9999999999999999999999999999)
);
comment on table payouts.payables is 'One per split leg: what is owed to a payee.';
create index payables_payee_ix on payouts.payables (ledger_id, payee_id, payable_id);
create trigger payables_append_only before update or delete on payouts.payables for each row execute function base.refuse_change();
create trigger payables_no_truncate before truncate on payouts.payables execute function base.refuse_change();

create table payouts.payouts (
  ledger_id integer not null,
  payout_id uuid not null,
  payee_id uuid not null,
  asset_id integer not null,
  amount numeric(28,0) not null,
  rail text not null,
  state text not null,
  pending_transfer_id uuid not null,
  reserved_at timestamptz not null,
  closed_at timestamptz,
  rail_reference text,
  failure text,
  seq bigint not null,
  constraint payouts_pk primary key (ledger_id, payout_id),
  constraint payouts_state_ck check (state in ('reserved', 'confirmed', 'failed')),
  constraint payouts_closed_ck check ((state = 'reserved') = (closed_at is null)),
  constraint payouts_confirmed_ck check (state <> 'confirmed' or rail_reference is not null),
  constraint payouts_rail_ck check (rail in ('internal')),
  constraint payouts_amount_ck check (amount > 0 and amount <= 9999999999999999999999999999)
);
comment on table payouts.payouts is 'Two-phase: reserved -> confirmed | failed. The recipient cannot be missing.';
grant update (state, closed_at, rail_reference, failure) on payouts.payouts to econ_engine;
create index payouts_payee_ix on payouts.payouts (ledger_id, payee_id, payout_id);
create index payouts_reserved_ix on payouts.payouts (ledger_id, reserved_at) where state = 'reserved';
create unique index payouts_rail_reference_uq on payouts.payouts (ledger_id, rail, rail_reference);

create table payouts.payout_items (
  ledger_id integer not null,
  payout_id uuid not null,
  payable_id uuid not null,
  released boolean not null default false,
  constraint payout_items_pk primary key (ledger_id, payout_id, payable_id),
  constraint payout_items_payout_fk foreign key (ledger_id, payout_id) references payouts.payouts,
  constraint payout_items_payable_fk foreign key (ledger_id, payable_id) references payouts.payables
);
comment on table payouts.payout_items is 'Which payables a payout pays. At most one unreleased item per payable: paid at most once.';
comment on column payouts.payout_items.released is 'true: the payout failed and the payable is open again.';
grant update (released) on payouts.payout_items to econ_engine;
create unique index payout_items_once_uq on payouts.payout_items (ledger_id, payable_id) where not released;

insert into base.state_moves (machine, from_state, event, to_state) values
  ('payout', '', 'reserve_payout', 'reserved'),
  ('payout', 'reserved', 'confirm_payout', 'confirmed'),
  ('payout', 'reserved', 'fail_payout', 'failed');

-- Artifact uploads are upkeep of an erasable store, not domain state: replay leaves this table out.
create table artifacts.uploads (
  ledger_id integer not null,
  artifact_hash bytea not null,
  agent_id uuid not null,
  size_bytes bigint not null,
  uploaded_at timestamptz not null,
  erased_at timestamptz,
  constraint uploads_pk primary key (ledger_id, artifact_hash, agent_id),
  constraint uploads_hash_length_ck check (octet_length(artifact_hash) = 32),
  constraint uploads_size_ck check (size_bytes >= 0)
);
comment on table artifacts.uploads is 'Who has proven to hold which bytes by uploading them. The bytes live outside the database and can be erased.';
comment on column artifacts.uploads.erased_at is 'NULL: still stored.';
grant update (erased_at, size_bytes, uploaded_at) on artifacts.uploads to econ_engine;
