-- The whole double-entry model: balancing and closing transfers, reversal, event time and accounting periods, exchange between
-- assets, crossings between ledgers; and the structure that makes history fast to read without slowing posting down.
--
-- Where the reads' indexes went. Two B-trees on the accounts of ledger.transfers cost more than everything else about posting,
-- because account ids are random and each insert touches another leaf. So transfers keep their primary key and one index in
-- commit order (seq: all of a batch in one spot, 7 bytes an entry after deduplication); ledger.entry_pages holds, per account,
-- the transfers in order, 100 to a page, with the balances after each page. ledger.page_entries fills it behind the log,
-- sorted, a few ten thousand transfers at a time; what is not paged yet (the tail) is read by seq.

-- Accounts ---------------------------------------------------------------------------------------------------------------

alter table ledger.accounts add column closed_by uuid;
comment on column ledger.accounts.closed is 'Nothing but the void of a hold moves anything in a closed account.';
comment on column ledger.accounts.ref_id is 'The order, for escrow; the other ledger (ledger.peer_ref), for clearing; NULL otherwise.';
comment on column ledger.accounts.closed_by is 'The pending transfer that closed it: voiding that opens the account again. NULL: open.';
grant update (closed_by) on ledger.accounts to econ_engine;
-- A batch of 8,000 changes most rows of a small ledger: room for a second version of each on its own page keeps every
-- update HOT, whatever a reader's snapshot still holds.
alter table ledger.accounts set (fillfactor = 40);
-- The same bounds with half the comparisons: a sum that is at most the limit, and parts that are not negative, bound the parts
-- (NaN sorts above every number, so it fails the sum).
alter table ledger.accounts
  drop constraint accounts_debits_pending_ck, drop constraint accounts_debits_posted_ck,
  drop constraint accounts_credits_pending_ck, drop constraint accounts_credits_posted_ck,
  drop constraint accounts_debit_limit_ck, drop constraint accounts_credit_limit_ck,
  add constraint accounts_debits_pending_ck check (debits_pending >= 0),
  add constraint accounts_debits_posted_ck check (debits_posted >= 0),
  add constraint accounts_credits_pending_ck check (credits_pending >= 0),
  add constraint accounts_credits_posted_ck check (credits_posted >= 0),
  add constraint accounts_debit_limit_ck check (debits_pending + debits_posted
    <= case when debits_must_not_exceed_credits then credits_posted else 9999999999999999999999999999 end),
  add constraint accounts_credit_limit_ck check (credits_pending + credits_posted
    <= case when credits_must_not_exceed_debits then debits_posted else 9999999999999999999999999999 end);

insert into ledger.account_purposes values
  ('liquidity', true, false, 'one asset''s side of exchanges: what it was funded with is what it can give'),
  ('clearing', false, false, 'value on its way to or from another ledger; ref_id names that ledger');

-- Transfers --------------------------------------------------------------------------------------------------------------

alter table ledger.transfers
  add column flags smallint not null default 0,
  add column reverses_id uuid,
  add column effective_at timestamptz,
  drop constraint transfers_amount_positive_ck,
  add constraint transfers_amount_positive_ck check (amount > 0 or kind not in ('plain', 'pending') or flags & 12 <> 0),
  add constraint transfers_flags_ck check (flags = 0 or (flags between 1 and 15 and kind in ('plain', 'pending') and (flags & 12 = 0 or kind = 'pending'))),
  add constraint transfers_reverses_ck check (reverses_id is null or kind = 'plain'),
  add constraint transfers_effective_at_ck check (effective_at is null or (effective_at < at and kind in ('plain', 'post_pending')));
comment on column ledger.transfers.flags is
  'Sum of 1 balancing_debit, 2 balancing_credit (amount was cut to what the account could spare), 4 closing_debit, 8 closing_credit (the hold closes the account until it is voided).';
comment on column ledger.transfers.reverses_id is 'The posted transfer that this one takes back; each at most once (ledger.reversals).';
comment on column ledger.transfers.effective_at is
  'Event time, where it is earlier than record time (at); NULL: the same. coalesce(effective_at, at) is the event time.';

drop index ledger.transfers_seq_ix;
drop index ledger.transfers_debit_ix;
drop index ledger.transfers_credit_ix;
create index transfers_seq_ix on ledger.transfers (ledger_id, seq);
-- Only transfers that were told late are here, so the hot path pays nothing for them.
create index transfers_debit_effective_ix on ledger.transfers (ledger_id, debit_account_id, effective_at, seq) where effective_at is not null;
create index transfers_credit_effective_ix on ledger.transfers (ledger_id, credit_account_id, effective_at, seq) where effective_at is not null;

-- Holds are written with their transfers, in either order, by functions that nobody else may replace: ledger.audit_holds proves
-- what the foreign key would have checked once per hold.
alter table ledger.holds
  drop constraint holds_transfer_fk,
  drop constraint holds_amount_ck,
  add constraint holds_amount_ck check (amount >= 0 and amount <= 9999999999999999999999999999);

alter table ledger.failed_transfers
  drop constraint failed_transfers_result_ck,
  add constraint failed_transfers_result_ck check (result in ('debit_account_not_found', 'credit_account_not_found',
    'pending_transfer_not_found', 'reversed_transfer_not_found', 'exceeds_credits', 'exceeds_debits',
    'debit_account_already_closed', 'credit_account_already_closed'));

alter type ledger.transfer_input add attribute flags smallint, add attribute reverses_id uuid, add attribute effective_at timestamptz;

-- What is judged one by one hands its outcome back in this.
create type ledger.judged as (
  results text[],
  n integer[],
  transfer_id uuid[],
  kind text[],
  debit_account_id uuid[],
  credit_account_id uuid[],
  asset_id integer[],
  amount numeric[],
  pending_id uuid[],
  timeout_at timestamptz[],
  journal_id uuid[],
  reason text[],
  flags smallint[],
  reverses_id uuid[],
  effective_at timestamptz[]
);
comment on type ledger.judged is
  'Outcome of items judged in order: one result per item, and in parallel arrays the transfers to write. n: the item of each; journal_id is set only for expiries, which belong to their hold''s journal.';

create type ledger.prepared as (
  at timestamptz,
  hard integer[],
  any_pending boolean,
  lowest uuid,
  posted numeric[],
  pending numeric[],
  extra numeric[],
  ids uuid[],
  assets integer[],
  debits_posted numeric[],
  debits_pending numeric[],
  debits_extra numeric[],
  credits_posted numeric[],
  credits_pending numeric[],
  credits_extra numeric[]
);
comment on type ledger.prepared is
  'What can be said of a batch without the books. hard: items to be judged in order, NULL: none. lowest: the lowest id. posted, pending, extra: per item (NULL when all are clean and plain); the last eight: sums per account and asset. extra: an upper bound for what hard items might add.';

create type ledger.missed as (ids uuid[], assets integer[]);
comment on type ledger.missed is 'Pairs of account and asset.';

create table ledger.journals (
  ledger_id integer not null,
  journal_id uuid not null,
  seq bigint not null,
  constraint journals_pk primary key (ledger_id, journal_id, seq)
);
comment on table ledger.journals is
  'Append-only. Which commands posted transfers of a journal. A transfer whose journal_id is its own id is a journal of its own and has no row here.';
-- What was posted before there was this table: replay of those commands makes the same rows.
insert into ledger.journals (ledger_id, journal_id, seq) select distinct t.ledger_id, t.journal_id, t.seq from ledger.transfers t;
create trigger journals_append_only before update or delete on ledger.journals for each row execute function base.refuse_change();
create trigger journals_no_truncate before truncate on ledger.journals execute function base.refuse_change();

create table ledger.reversals (
  ledger_id integer not null,
  reversed_id uuid not null,
  transfer_id uuid not null,
  seq bigint not null,
  constraint reversals_pk primary key (ledger_id, reversed_id),
  constraint reversals_transfer_uq unique (ledger_id, transfer_id),
  constraint reversals_differ_ck check (reversed_id <> transfer_id)
);
comment on table ledger.reversals is 'Append-only. Each transfer that was taken back, once, and by which transfer.';
create trigger reversals_append_only before update or delete on ledger.reversals for each row execute function base.refuse_change();
create trigger reversals_no_truncate before truncate on ledger.reversals execute function base.refuse_change();

-- Periods ----------------------------------------------------------------------------------------------------------------

create table ledger.periods (
  ledger_id integer not null,
  ends_at timestamptz not null,
  seq bigint not null,
  closed_at timestamptz not null,
  constraint periods_pk primary key (ledger_id, ends_at),
  constraint periods_ended_ck check (ends_at <= closed_at)
);
comment on table ledger.periods is
  'Append-only. Closed accounting periods: no transfer may be told any more with an event time before ends_at.';
comment on column ledger.periods.ends_at is 'The first moment that is no longer in the period; it begins where the one before ended.';
comment on column ledger.periods.closed_at is 'Ledger time of the command that closed it.';
create trigger periods_append_only before update or delete on ledger.periods for each row execute function base.refuse_change();
create trigger periods_no_truncate before truncate on ledger.periods execute function base.refuse_change();

-- Exchange ---------------------------------------------------------------------------------------------------------------

create table ledger.exchanges (
  ledger_id integer not null,
  exchange_id uuid not null,
  sell_transfer_id uuid not null,
  buy_transfer_id uuid not null,
  sell_asset_id integer not null,
  buy_asset_id integer not null,
  sell_amount numeric(28,0) not null,
  buy_amount numeric(28,0) not null,
  rate numeric not null,
  rate_source text not null,
  seq bigint not null,
  at timestamptz not null,
  constraint exchanges_pk primary key (ledger_id, exchange_id),
  constraint exchanges_sell_uq unique (ledger_id, sell_transfer_id),
  constraint exchanges_buy_uq unique (ledger_id, buy_transfer_id),
  constraint exchanges_assets_differ_ck check (sell_asset_id <> buy_asset_id),
  constraint exchanges_amounts_ck check (sell_amount > 0 and sell_amount <= 9999999999999999999999999999
    and buy_amount > 0 and buy_amount <= 9999999999999999999999999999),
  constraint exchanges_rate_ck check (rate > 0 and rate < 'Infinity'),
  -- What is given is never more than the rate allows, and less than one minor unit short of it.
  constraint exchanges_rounding_ck check (buy_amount <= sell_amount * rate and buy_amount > sell_amount * rate - 1)
);
comment on table ledger.exchanges is
  'Append-only. Two linked transfers, each in one asset, through the two liquidity accounts; the only way from one asset to another.';
comment on column ledger.exchanges.rate is 'Minor units of the asset bought for one minor unit of the asset sold; the amount bought is rounded down.';
comment on column ledger.exchanges.rate_source is 'Where the rate is from, as the operator stated it, for example ecb/2026-11-20.';
create trigger exchanges_append_only before update or delete on ledger.exchanges for each row execute function base.refuse_change();
create trigger exchanges_no_truncate before truncate on ledger.exchanges execute function base.refuse_change();

-- Between ledgers --------------------------------------------------------------------------------------------------------

create table ledger.crossings (
  ledger_id integer not null,
  group_id uuid not null,
  direction text not null,
  peer_ledger_id integer not null,
  account_id uuid not null,
  asset_id integer not null,
  amount numeric(28,0) not null,
  transfer_id uuid not null,
  seq bigint not null,
  at timestamptz not null,
  constraint crossings_pk primary key (ledger_id, group_id),
  constraint crossings_direction_ck check (direction in ('out', 'in')),
  constraint crossings_peer_ck check (peer_ledger_id <> ledger_id and peer_ledger_id > 0),
  constraint crossings_amount_ck check (amount > 0 and amount <= 9999999999999999999999999999)
);
comment on table ledger.crossings is
  'Append-only. Each ledger''s half of value that crosses: a self-balanced journal through its clearing account. The two halves share group_id, the transfer group.';
comment on column ledger.crossings.direction is 'out: left this ledger (account to clearing); in: arrived (clearing to account).';
create trigger crossings_append_only before update or delete on ledger.crossings for each row execute function base.refuse_change();
create trigger crossings_no_truncate before truncate on ledger.crossings execute function base.refuse_change();

-- History ----------------------------------------------------------------------------------------------------------------

create table ledger.entry_pages (
  ledger_id integer not null,
  account_id uuid not null,
  last_seq bigint not null,
  last_item integer not null,
  entries integer not null,
  transfer_ids uuid[] not null,
  debits_pending numeric(28,0) not null,
  debits_posted numeric(28,0) not null,
  credits_pending numeric(28,0) not null,
  credits_posted numeric(28,0) not null,
  constraint entry_pages_pk primary key (ledger_id, account_id, last_seq, last_item),
  constraint entry_pages_entries_ck check (entries between 1 and 100 and cardinality(transfer_ids) = entries),
  constraint entry_pages_balances_ck check (debits_pending between 0 and 9999999999999999999999999999
    and debits_posted between 0 and 9999999999999999999999999999 and credits_pending between 0 and 9999999999999999999999999999
    and credits_posted between 0 and 9999999999999999999999999999)
);
comment on table ledger.entry_pages is
  'Derived, append-only: each account''s transfers in order, up to 100 to a page, and the account''s balances after the last of them. Filled behind the log by ledger.page_entries; ledger.audit_pages proves it.';
comment on column ledger.entry_pages.last_seq is 'Command and item of the page''s last transfer.';
comment on column ledger.entry_pages.debits_pending is 'As recorded after the page''s last transfer, minor units; likewise the other three.';
create trigger entry_pages_append_only before update or delete on ledger.entry_pages for each row execute function base.refuse_change();
create trigger entry_pages_no_truncate before truncate on ledger.entry_pages execute function base.refuse_change();

create table ledger.paged (
  ledger_id integer not null,
  through_seq bigint not null,
  constraint paged_pk primary key (ledger_id)
);
comment on table ledger.paged is 'Derived: how far ledger.entry_pages has followed each ledger. Commands after through_seq are its tail.';
grant update (through_seq) on ledger.paged to econ_engine;

create table ledger.audited (
  ledger_id integer not null,
  through_seq bigint not null,
  constraint audited_pk primary key (ledger_id)
);
comment on table ledger.audited is 'Derived: up to which command ledger.audit_since has found the books healthy.';
grant update (through_seq) on ledger.audited to econ_engine;

-- Commands ---------------------------------------------------------------------------------------------------------------

insert into base.command_kinds values
  ('exchange', 'Operator: moves value from one asset to another through the liquidity accounts, at a recorded rate'),
  ('close_period', 'Operator: closes the accounting period that ends at a moment of the past'),
  ('send_across', 'Operator: moves value out of this ledger into its clearing account for another ledger'),
  ('receive_across', 'Operator: takes what another ledger sent out of the clearing account');
insert into identity.purpose_permits values
  ('operator', 'exchange'), ('operator', 'close_period'), ('operator', 'send_across'), ('operator', 'receive_across');

insert into base.rules_versions values
  (2, 'post_transfers opens the market''s own accounts (equity, external, liquidity) when an item first names one');
