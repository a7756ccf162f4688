-- ledger: the books. A transfer is one row with one amount and one asset, so debits equal credits by shape.
-- Amounts are whole minor units. Sums of four balance columns are kept in the account's row.

create table ledger.assets (
  asset_id integer not null,
  code text not null,
  scale smallint not null,
  constraint assets_pk primary key (asset_id),
  constraint assets_code_uq unique (code),
  constraint assets_code_ck check (code ~ '^[A-Z][A-Z0-9]{1,11}$'),
  constraint assets_scale_ck check (scale between 0 and 18)
);
comment on table ledger.assets is 'Units of account. Reference data, the same on every shard.';
comment on column ledger.assets.scale is 'Decimal places: 6 means that 1 unit is 1,000,000 minor units.';

create table ledger.account_purposes (
  purpose text not null,
  debits_must_not_exceed_credits boolean not null,
  credits_must_not_exceed_debits boolean not null,
  summary text not null,
  constraint account_purposes_pk primary key (purpose)
);
comment on table ledger.account_purposes is 'What an account is for, and the limit that accounts of that purpose are opened with.';
insert into ledger.account_purposes values
  ('external', false, false, 'the world outside: where deposits come from and payouts go to'),
  ('wallet', true, false, 'money an agent can spend'),
  ('escrow', true, false, 'one order''s money, from order to settlement'),
  ('payable', true, false, 'earned and not yet paid out'),
  ('equity', false, false, 'operator''s own postings');

create table ledger.accounts (
  ledger_id integer not null,
  account_id uuid not null,
  asset_id integer not null,
  purpose text not null,
  owner_id uuid,
  ref_id uuid,
  debits_must_not_exceed_credits boolean not null,
  credits_must_not_exceed_debits boolean not null,
  closed boolean not null default false,
  debits_pending numeric(28,0) not null default 0,
  debits_posted numeric(28,0) not null default 0,
  credits_pending numeric(28,0) not null default 0,
  credits_posted numeric(28,0) not null default 0,
  seq bigint not null,
  opened_at timestamptz not null,
  constraint accounts_pk primary key (ledger_id, account_id),
  constraint accounts_holder_uq unique nulls not distinct (ledger_id, purpose, asset_id, owner_id, ref_id),
  constraint accounts_asset_fk foreign key (asset_id) references ledger.assets,
  constraint accounts_purpose_fk foreign key (purpose) references ledger.account_purposes,
  -- NaN sorts above every number: the upper bounds refuse it.
  constraint accounts_debits_pending_ck check (debits_pending between 0 and 9999999999999999999999999999),
  constraint accounts_debits_posted_ck check (debits_posted between 0 and 9999999999999999999999999999),
  constraint accounts_credits_pending_ck check (credits_pending between 0 and 9999999999999999999999999999),
  constraint accounts_credits_posted_ck check (credits_posted between 0 and 9999999999999999999999999999),
  constraint accounts_debit_limit_ck check
    (not debits_must_not_exceed_credits or debits_pending + debits_posted <= credits_posted),
  constraint accounts_credit_limit_ck check
    (not credits_must_not_exceed_debits or credits_pending + credits_posted <= debits_posted)
) with (fillfactor = 70);
comment on table ledger.accounts is
  'One asset, one holder. Balance = credits_posted - debits_posted; spendable also subtracts debits_pending.';
comment on column ledger.accounts.owner_id is 'The agent whose account it is; NULL: the market''s own.';
comment on column ledger.accounts.ref_id is 'The order, for escrow; NULL otherwise.';
comment on column ledger.accounts.debits_pending is 'Minor units reserved to leave.';
comment on column ledger.accounts.debits_posted is 'Minor units that left.';
comment on column ledger.accounts.credits_pending is 'Minor units reserved to arrive; not spendable.';
comment on column ledger.accounts.credits_posted is 'Minor units that arrived.';
grant update (debits_pending, debits_posted, credits_pending, credits_posted, closed) on ledger.accounts to econ_engine;
create index accounts_owner_ix on ledger.accounts (ledger_id, owner_id);

create table ledger.transfers (
  ledger_id integer not null,
  transfer_id uuid not null,
  kind text not null,
  debit_account_id uuid not null,
  credit_account_id uuid not null,
  asset_id integer not null,
  amount numeric(28,0) not null,
  pending_id uuid,
  timeout_at timestamptz,
  journal_id uuid not null,
  reason text not null,
  seq bigint not null,
  item integer not null,
  at timestamptz not null,
  constraint transfers_pk primary key (ledger_id, transfer_id),
  constraint transfers_accounts_differ_ck check (debit_account_id <> credit_account_id),
  constraint transfers_amount_ck check (amount >= 0 and amount <= 9999999999999999999999999999),
  constraint transfers_kind_ck check (kind in ('plain', 'pending', 'post_pending', 'void_pending', 'expire_pending')),
  constraint transfers_pending_id_ck check ((kind in ('plain', 'pending')) = (pending_id is null)),
  constraint transfers_timeout_ck check (timeout_at is null or kind = 'pending'),
  constraint transfers_amount_positive_ck check (kind not in ('plain', 'pending') or amount > 0)
);
comment on table ledger.transfers is
  'Append-only. Moves amount from the debit to the credit account. post/void/expire rows name the pending transfer they end.';
comment on column ledger.transfers.amount is 'Minor units. Plain: moved. Pending: reserved. Post: moved of the reserve (the rest is released). Void, expire: released.';
comment on column ledger.transfers.timeout_at is 'Pending only: from this ledger time on the hold is free; NULL: never.';
comment on column ledger.transfers.journal_id is 'The business event this transfer belongs to.';
comment on column ledger.transfers.seq is 'The command that posted it; item is the order within it, from 1.';
create index transfers_seq_ix on ledger.transfers (ledger_id, seq, item);
-- By seq, not by id: ids are chosen by clients within a day of ledger time, seq is commit order, and a statement pages in it.
create index transfers_debit_ix on ledger.transfers (ledger_id, debit_account_id, seq);
create index transfers_credit_ix on ledger.transfers (ledger_id, credit_account_id, seq);
create trigger transfers_append_only before update or delete on ledger.transfers for each row execute function base.refuse_change();
create trigger transfers_no_truncate before truncate on ledger.transfers execute function base.refuse_change();

create table ledger.holds (
  ledger_id integer not null,
  transfer_id uuid not null,
  debit_account_id uuid not null,
  credit_account_id uuid not null,
  amount numeric(28,0) not null,
  timeout_at timestamptz,
  state text not null default 'pending',
  ended_by uuid,
  constraint holds_pk primary key (ledger_id, transfer_id),
  constraint holds_transfer_fk foreign key (ledger_id, transfer_id) references ledger.transfers,
  constraint holds_amount_ck check (amount > 0 and amount <= 9999999999999999999999999999),
  constraint holds_state_ck check (state in ('pending', 'posted', 'voided', 'expired')),
  constraint holds_ended_ck check ((state = 'pending') = (ended_by is null))
);
comment on table ledger.holds is 'The fate of each pending transfer.';
comment on column ledger.holds.ended_by is 'The transfer that posted, voided or expired it.';
grant update (state, ended_by) on ledger.holds to econ_engine;
create index holds_debit_open_ix on ledger.holds (ledger_id, debit_account_id, timeout_at) where state = 'pending';
create index holds_credit_open_ix on ledger.holds (ledger_id, credit_account_id, timeout_at) where state = 'pending';

create table ledger.failed_transfers (
  ledger_id integer not null,
  transfer_id uuid not null,
  result text not null,
  seq bigint not null,
  at timestamptz not null,
  constraint failed_transfers_pk primary key (ledger_id, transfer_id),
  constraint failed_transfers_result_ck check (result in ('debit_account_not_found', 'credit_account_not_found',
    'pending_transfer_not_found', 'exceeds_credits', 'exceeds_debits',
    'debit_account_already_closed', 'credit_account_already_closed'))
);
comment on table ledger.failed_transfers is
  'Append-only. Ids spent by a failure that might succeed later: a retry answers id_already_failed, so an answer once given stays true.';
comment on column ledger.failed_transfers.result is 'Why it failed; results that can never change (a wrong form) do not spend the id.';
create trigger failed_transfers_append_only before update or delete on ledger.failed_transfers
  for each row execute function base.refuse_change();
create trigger failed_transfers_no_truncate before truncate on ledger.failed_transfers execute function base.refuse_change();

create table ledger.deposits (
  ledger_id integer not null,
  external_reference text not null,
  agent_id uuid not null,
  asset_id integer not null,
  amount numeric(28,0) not null,
  transfer_id uuid not null,
  seq bigint not null,
  at timestamptz not null,
  constraint deposits_pk primary key (ledger_id, external_reference),
  constraint deposits_amount_ck check (amount > 0 and amount <= 9999999999999999999999999999),
  constraint deposits_reference_ck check (external_reference ~ '^[A-Za-z0-9][A-Za-z0-9._:/-]{0,63}$')
);
comment on table ledger.deposits is 'Money that came in, each external reference once.';
create trigger deposits_append_only before update or delete on ledger.deposits for each row execute function base.refuse_change();
create trigger deposits_no_truncate before truncate on ledger.deposits execute function base.refuse_change();

create type ledger.transfer_input as (
  transfer_id uuid,
  kind text,
  debit_account_id uuid,
  credit_account_id uuid,
  asset_id integer,
  amount numeric,
  pending_id uuid,
  timeout_ms bigint,
  linked boolean,
  reason text
);
comment on type ledger.transfer_input is
  'One item of a batch. amount is unbounded numeric on purpose: the function refuses fractions and overflow before any cast. post_pending with NULL amount posts all.';
