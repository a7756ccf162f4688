-- metering: one attempt per ticket; cumulative rows keyed by attempt, never by request hash.

create table metering.attempts (
  ledger_id integer not null,
  attempt_id uuid not null,
  run_ticket_id uuid not null,
  order_id uuid not null,
  provider_id uuid not null,
  started_at timestamptz not null,
  seq bigint not null,
  constraint attempts_pk primary key (ledger_id, attempt_id),
  -- Single use: a ticket starts one attempt.
  constraint attempts_ticket_uq unique (ledger_id, run_ticket_id),
  constraint attempts_ticket_fk foreign key (ledger_id, run_ticket_id) references market.run_tickets
);
comment on table metering.attempts is 'One execution under a ticket.';
create trigger attempts_append_only before update or delete on metering.attempts for each row execute function base.refuse_change();
create trigger attempts_no_truncate before truncate on metering.attempts execute function base.refuse_change();

create table metering.rows (
  ledger_id integer not null,
  attempt_id uuid not null,
  row_seq integer not null,
  run_ticket_id uuid not null,
  prev_hash bytea not null,
  row_hash bytea not null,
  kernel_ns bigint not null,
  wall_ns bigint not null,
  bytes_in bigint not null,
  bytes_out bigint not null,
  peak_vram_bytes bigint not null,
  energy_mj bigint not null,
  work_units bigint not null,
  attestation_level smallint not null,
  payload bytea not null,
  head_envelope bytea,
  seq bigint not null,
  received_at timestamptz not null,
  constraint rows_pk primary key (ledger_id, attempt_id, row_seq),
  constraint rows_attempt_fk foreign key (ledger_id, attempt_id) references metering.attempts,
  constraint rows_counters_ck check (row_seq >= 0 and kernel_ns >= 0 and wall_ns >= 0 and bytes_in >= 0 and bytes_out >= 0
    and peak_vram_bytes >= 0 and energy_mj >= 0 and work_units >= 0 and attestation_level between 0 and 3),
  constraint rows_hash_length_ck check (octet_length(prev_hash) = 32 and octet_length(row_hash) = 32)
);
comment on table metering.rows is 'Accepted metering rows. Counters are cumulative per attempt; payload is the exact signed MeteringRow.';
comment on column metering.rows.kernel_ns is 'Cumulative nanoseconds of device work.';
comment on column metering.rows.wall_ns is 'Cumulative nanoseconds by the agent''s monotonic clock.';
comment on column metering.rows.energy_mj is 'Cumulative millijoules; 0 where the device cannot say.';
comment on column metering.rows.work_units is 'Cumulative; one unit is 65,536 multiply-adds for gemm.int8.';
comment on column metering.rows.attestation_level is '0 self-reported, 1 metered, 2 hardware, 3 proven.';
comment on column metering.rows.head_envelope is 'Signature over the run this row ended; NULL on the others.';
create trigger rows_append_only before update or delete on metering.rows for each row execute function base.refuse_change();
create trigger rows_no_truncate before truncate on metering.rows execute function base.refuse_change();

create table metering.quarantine (
  ledger_id integer not null,
  seq bigint not null,
  n integer not null,
  attempt_id uuid not null,
  row_seq integer not null,
  row_hash bytea not null,
  reason text not null,
  payload bytea not null,
  head_envelope bytea,
  received_at timestamptz not null,
  constraint quarantine_pk primary key (ledger_id, seq, n),
  constraint quarantine_reason_ck check (reason in ('other_content', 'broken_chain', 'counter_fell', 'over_limit', 'after_cutoff'))
);
comment on table metering.quarantine is 'Rows that were signed but cannot be believed: kept as evidence, never billed.';
comment on column metering.quarantine.reason is 'other_content: same key, other hash. over_limit: more units than the ticket allows. after_cutoff: the order had been reported or closed.';
comment on column metering.quarantine.head_envelope is
  'Signature over the run this row ended: it may be the one that covers accepted rows before it. NULL on the others.';
create index quarantine_attempt_ix on metering.quarantine (ledger_id, attempt_id);
create trigger quarantine_append_only before update or delete on metering.quarantine for each row execute function base.refuse_change();
create trigger quarantine_no_truncate before truncate on metering.quarantine execute function base.refuse_change();

create type metering.tally as (
  accepted integer,
  duplicate integer,
  other_content integer,
  broken_chain integer,
  counter_fell integer,
  over_limit integer,
  after_cutoff integer
);
comment on type metering.tally is 'What became of the rows of one record_metering command: counts by verdict.';
