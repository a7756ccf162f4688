-- market: from the ad to the order's end.

create table market.settings (
  ledger_id integer not null,
  default_providers smallint not null,
  max_providers smallint not null,
  acceptance_window_ms bigint not null,
  ticket_grace_ms bigint not null,
  constraint settings_pk primary key (ledger_id),
  constraint settings_ledger_fk foreign key (ledger_id) references base.ledgers
);
comment on table market.settings is 'Per market: how many providers an RFQ asks, how long a buyer has to judge, how much later than its time a ticket is given up.';
comment on column market.settings.acceptance_window_ms is 'After it, a reported output that nobody judged goes to the verifier.';
comment on column market.settings.ticket_grace_ms is 'Added to a ticket''s maximum duration before the timer may refund.';

create table market.capability_ads (
  ledger_id integer not null,
  provider_id uuid not null,
  work_class text not null,
  provider_key_id bytea not null,
  region text not null,
  device_count integer not null,
  device_kind text not null,
  asset_id integer not null,
  price_per_unit numeric(28,0) not null,
  max_concurrency integer not null,
  max_work_units bigint not null,
  beneficial_owner_id uuid not null,
  active boolean not null,
  seq bigint not null,
  published_at timestamptz not null,
  constraint capability_ads_pk primary key (ledger_id, provider_id, work_class),
  constraint capability_ads_asset_fk foreign key (asset_id) references ledger.assets,
  constraint capability_ads_price_ck check (price_per_unit > 0 and price_per_unit <= 9999999999999999999999999999),
  constraint capability_ads_devices_ck check (device_count between 1 and 1000000),
  constraint capability_ads_concurrency_ck check (max_concurrency between 1 and 100000),
  constraint capability_ads_units_ck check (max_work_units > 0),
  constraint capability_ads_words_ck check (work_class ~ '^[a-z0-9][a-z0-9.-]{0,63}$' and region ~ '^[a-z0-9-]{1,32}$' and device_kind ~ '^[ -~]{1,64}$')
);
comment on table market.capability_ads is 'The current ad of each provider and work class; earlier ones are in the command log.';
comment on column market.capability_ads.price_per_unit is 'Minor units of the asset per work unit.';
grant update (provider_key_id, region, device_count, device_kind, asset_id, price_per_unit, max_concurrency, max_work_units,
  beneficial_owner_id, active, seq, published_at) on market.capability_ads to econ_engine;
create index capability_ads_work_class_ix on market.capability_ads (ledger_id, work_class) where active;

create table market.presence (
  ledger_id integer not null,
  provider_id uuid not null,
  reachable boolean not null,
  connection_id uuid not null,
  seq bigint not null,
  since timestamptz not null,
  constraint presence_pk primary key (ledger_id, provider_id)
);
comment on table market.presence is 'Whether a provider''s live connection is up, by the newest connection.';
grant update (reachable, connection_id, seq, since) on market.presence to econ_engine;

create table market.presence_events (
  ledger_id integer not null,
  seq bigint not null,
  provider_id uuid not null,
  reachable boolean not null,
  connection_id uuid not null,
  at timestamptz not null,
  constraint presence_events_pk primary key (ledger_id, seq)
);
comment on table market.presence_events is 'Append-only history of presence, for online reliability.';
create trigger presence_events_append_only before update or delete on market.presence_events for each row execute function base.refuse_change();
create trigger presence_events_no_truncate before truncate on market.presence_events execute function base.refuse_change();

create table market.rfqs (
  ledger_id integer not null,
  rfq_id uuid not null,
  buyer_id uuid not null,
  work_class text not null,
  region text,
  input_hash bytea not null,
  work_units bigint not null,
  asset_id integer not null,
  max_price numeric(28,0) not null,
  max_duration_ms bigint not null,
  creator_id uuid,
  referrer_id uuid,
  opened_at timestamptz not null,
  expires_at timestamptz not null,
  state text not null,
  seq bigint not null,
  constraint rfqs_pk primary key (ledger_id, rfq_id),
  constraint rfqs_asset_fk foreign key (asset_id) references ledger.assets,
  constraint rfqs_state_ck check (state in ('open', 'ordered', 'expired', 'cancelled')),
  constraint rfqs_max_price_ck check (max_price > 0 and max_price <= 9999999999999999999999999999),
  constraint rfqs_units_ck check (work_units > 0),
  constraint rfqs_duration_ck check (max_duration_ms between 1 and 86400000),
  constraint rfqs_hash_length_ck check (octet_length(input_hash) = 32)
);
comment on table market.rfqs is 'Requests for quotation. state: open -> ordered | expired | cancelled.';
comment on column market.rfqs.max_price is 'The most the buyer pays for the whole order, minor units.';
comment on column market.rfqs.max_duration_ms is 'How long one execution may take once its ticket is issued.';
comment on column market.rfqs.region is 'NULL: any.';
comment on column market.rfqs.creator_id is 'Gets the creator share; NULL: none, the provider gets it.';
comment on column market.rfqs.referrer_id is 'Gets the referrer share; NULL: none, the provider gets it.';
grant update (state) on market.rfqs to econ_engine;
create index rfqs_open_ix on market.rfqs (ledger_id, expires_at) where state = 'open';
create index rfqs_buyer_ix on market.rfqs (ledger_id, buyer_id, rfq_id);

create table market.rfq_invitations (
  ledger_id integer not null,
  rfq_id uuid not null,
  provider_id uuid not null,
  rank smallint not null,
  constraint rfq_invitations_pk primary key (ledger_id, rfq_id, provider_id),
  constraint rfq_invitations_rfq_fk foreign key (ledger_id, rfq_id) references market.rfqs
);
comment on table market.rfq_invitations is 'Whom routing asked, best first. Only an invited provider may offer.';

create table market.offers (
  ledger_id integer not null,
  offer_id uuid not null,
  rfq_id uuid not null,
  provider_id uuid not null,
  provider_key_id bytea not null,
  price_per_unit numeric(28,0) not null,
  price numeric(28,0) not null,
  offered_at timestamptz not null,
  expires_at timestamptz not null,
  state text not null,
  seq bigint not null,
  constraint offers_pk primary key (ledger_id, offer_id),
  constraint offers_provider_uq unique (ledger_id, rfq_id, provider_id),
  constraint offers_rfq_fk foreign key (ledger_id, rfq_id) references market.rfqs,
  constraint offers_state_ck check (state in ('open', 'accepted', 'lapsed')),
  constraint offers_price_per_unit_ck check (price_per_unit > 0 and price_per_unit <= 9999999999999999999999999999),
  constraint offers_price_ck check (price > 0 and price <= 9999999999999999999999999999)
);
comment on table market.offers is 'One offer per provider and RFQ. state: open -> accepted | lapsed (the RFQ ended without it).';
comment on column market.offers.price is 'price_per_unit times the RFQ''s work units, minor units.';
grant update (state) on market.offers to econ_engine;

create table market.orders (
  ledger_id integer not null,
  order_id uuid not null,
  rfq_id uuid not null,
  offer_id uuid not null,
  buyer_id uuid not null,
  provider_id uuid not null,
  provider_key_id bytea not null,
  asset_id integer not null,
  price_per_unit numeric(28,0) not null,
  work_units bigint not null,
  held numeric(28,0) not null,
  escrow_account_id uuid not null,
  run_ticket_id uuid not null,
  input_hash bytea not null,
  output_hash bytea,
  state text not null,
  cause text,
  ordered_at timestamptz not null,
  ticket_expires_at timestamptz not null,
  judge_by timestamptz,
  started_at timestamptz,
  reported_at timestamptz,
  judged_at timestamptz,
  closed_at timestamptz,
  paid numeric(28,0),
  refunded numeric(28,0),
  billed_units bigint,
  seq bigint not null,
  closed_seq bigint,
  constraint orders_pk primary key (ledger_id, order_id),
  constraint orders_rfq_uq unique (ledger_id, rfq_id),
  constraint orders_ticket_uq unique (ledger_id, run_ticket_id),
  constraint orders_offer_fk foreign key (ledger_id, offer_id) references market.offers,
  constraint orders_escrow_fk foreign key (ledger_id, escrow_account_id) references ledger.accounts,
  constraint orders_state_ck check (state in ('ordered', 'running', 'reported', 'disputed', 'accepted', 'settled', 'refunded')),
  constraint orders_price_per_unit_ck check (price_per_unit > 0 and price_per_unit <= 9999999999999999999999999999),
  constraint orders_held_ck check (held > 0 and held <= 9999999999999999999999999999),
  constraint orders_output_hash_length_ck check (octet_length(output_hash) = 32),
  -- Conservation per order: once closed, what was held is what was paid plus what went back.
  constraint orders_closed_ck check ((state in ('settled', 'refunded')) = (closed_at is not null)
    and (closed_at is null) = (paid is null) and (closed_at is null) = (refunded is null) and (closed_at is null) = (closed_seq is null)),
  constraint orders_conserved_ck check (closed_at is null or (paid >= 0 and refunded >= 0 and held = paid + refunded)),
  constraint orders_cause_ck check (state <> 'refunded' or cause is not null)
);
comment on table market.orders is
  'state: ordered -> running -> reported -> accepted -> settled, or disputed, or refunded with a cause. Legal moves: base.state_moves, machine ''order''.';
comment on column market.orders.held is 'Minor units moved from the buyer''s wallet to the order''s escrow.';
comment on column market.orders.cause is 'Why it was disputed or refunded: crash, input_missing, unsupported, cancelled, timeout, vanished, wrong_output, over_report, missing_output; NULL otherwise.';
comment on column market.orders.judge_by is 'Until when the buyer may judge a reported output; then the verifier does.';
comment on column market.orders.billed_units is 'Work units paid for: min(metered, ordered).';
grant update (output_hash, state, cause, judge_by, started_at, reported_at, judged_at, closed_at, paid, refunded, billed_units, closed_seq)
  on market.orders to econ_engine;
-- Each timer and the routing's load count has its own partial index, as small as what is still waiting.
create index orders_live_ix on market.orders (ledger_id, provider_id) where state in ('ordered', 'running');
create index orders_deadline_ix on market.orders (ledger_id, ticket_expires_at) where state in ('ordered', 'running');
create index orders_judge_ix on market.orders (ledger_id, judge_by) where state in ('reported', 'disputed');
create index orders_settle_ix on market.orders (ledger_id, judged_at) where state = 'accepted';
create index orders_buyer_ix on market.orders (ledger_id, buyer_id, order_id);
create index orders_provider_ix on market.orders (ledger_id, provider_id, order_id);
create index orders_output_ix on market.orders (ledger_id, output_hash) where output_hash is not null;
create index orders_input_ix on market.orders (ledger_id, input_hash);

create table market.run_tickets (
  ledger_id integer not null,
  run_ticket_id uuid not null,
  order_id uuid not null,
  nonce bytea not null,
  issued_at timestamptz not null,
  expires_at timestamptz not null,
  max_duration_ms bigint not null,
  constraint run_tickets_pk primary key (ledger_id, run_ticket_id),
  constraint run_tickets_order_uq unique (ledger_id, order_id),
  constraint run_tickets_order_fk foreign key (ledger_id, order_id) references market.orders,
  constraint run_tickets_nonce_length_ck check (octet_length(nonce) = 16)
);
comment on table market.run_tickets is 'The single-use right to execute one order. The signed form is made from this row and the order''s, bit for bit the same each time.';

create table market.feed_events (
  ledger_id integer not null,
  agent_id uuid not null,
  seq bigint not null,
  n smallint not null,
  kind text not null,
  subject_id uuid not null,
  at timestamptz not null,
  constraint feed_events_pk primary key (ledger_id, agent_id, seq, n),
  constraint feed_events_kind_ck check (kind in ('rfq', 'offer', 'ticket', 'order', 'closed', 'rfq_closed', 'payout'))
);
comment on table market.feed_events is
  'What each agent is told, in log order. Its cursor is seq: a subscriber that names its last cursor resumes without gap or double.';
comment on column market.feed_events.subject_id is 'rfq, rfq_closed: the RFQ. offer: the offer. ticket, order, closed: the order. payout: the payout.';
create trigger feed_events_append_only before update or delete on market.feed_events for each row execute function base.refuse_change();
create trigger feed_events_no_truncate before truncate on market.feed_events execute function base.refuse_change();

insert into base.state_moves (machine, from_state, event, to_state) values
  ('rfq', '', 'open_rfq', 'open'),
  ('rfq', 'open', 'accept_offer', 'ordered'),
  ('rfq', 'open', 'expire_rfq', 'expired'),
  ('rfq', 'open', 'cancel_rfq', 'cancelled'),
  ('offer', '', 'submit_offer', 'open'),
  ('offer', 'open', 'accept_offer', 'accepted'),
  ('offer', 'open', 'lapse', 'lapsed'),
  ('order', '', 'accept_offer', 'ordered'),
  ('order', 'ordered', 'start_attempt', 'running'),
  ('order', 'ordered', 'expire_order', 'refunded'),
  ('order', 'ordered', 'fail_attempt', 'refunded'),
  ('order', 'running', 'report_output', 'reported'),
  ('order', 'running', 'fail_attempt', 'refunded'),
  ('order', 'running', 'expire_order', 'refunded'),
  ('order', 'reported', 'accept_output', 'accepted'),
  ('order', 'reported', 'reject_output', 'disputed'),
  ('order', 'reported', 'judge_valid', 'accepted'),
  ('order', 'reported', 'judge_invalid', 'refunded'),
  ('order', 'disputed', 'judge_valid', 'accepted'),
  ('order', 'disputed', 'judge_invalid', 'refunded'),
  ('order', 'accepted', 'settle_order', 'settled');
