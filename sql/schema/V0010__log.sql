-- log: by when a receipt is in a checkpoint, a log over the ledgers' checkpoints (the forest), and what witnesses say of them.
-- All of it but the first is derived upkeep, made by time and not by commands: replay leaves it out.

insert into base.rules_versions values
  (3, 'receipts promise by when they are in a checkpoint; operators cannot close wallets or reverse half an exchange');

-- Ledger 0 is no ledger but the forest: its log is kept in the same tables, so that every proof is made by the same functions.
alter table receipts.logs drop constraint logs_ledger_fk;
alter table receipts.logs add constraint logs_ledger_ck check (ledger_id >= 0);
comment on column receipts.logs.ledger_id is 'A ledger, whose genesis made the row; 0: the forest, the log over all ledgers'' checkpoints.';

create table receipts.forests (
  ledger_id integer not null,
  origin text not null,
  constraint forests_pk primary key (ledger_id),
  constraint forests_single_ck check (ledger_id = 0),
  constraint forests_origin_length_ck check (octet_length(origin) between 1 and 255)
);
comment on table receipts.forests is 'What the forest is called in its checkpoints, from its first entry on: one row, or none yet.';
comment on column receipts.forests.ledger_id is 'Always 0.';
create trigger forests_append_only before update or delete on receipts.forests for each row execute function base.refuse_change();
create trigger forests_no_truncate before truncate on receipts.forests execute function base.refuse_change();

create table receipts.forest_entries (
  entry_index bigint not null,
  logged_ledger_id integer not null,
  size bigint not null,
  root bytea not null,
  constraint forest_entries_pk primary key (entry_index),
  constraint forest_entries_size_uq unique (logged_ledger_id, size),
  constraint forest_entries_ledger_fk foreign key (logged_ledger_id) references base.ledgers,
  constraint forest_entries_index_ck check (entry_index >= 0),
  constraint forest_entries_size_ck check (size > 0),
  constraint forest_entries_root_length_ck check (octet_length(root) = 32)
);
comment on table receipts.forest_entries is
  'Leaves of the forest: leaf entry_index is SHA-256(0x00 || the three lines origin, size, root in base64 of that ledger''s checkpoint).';
comment on column receipts.forest_entries.logged_ledger_id is 'The ledger whose checkpoint this is.';
comment on column receipts.forest_entries.size is 'Leaves of that ledger''s log.';
create trigger forest_entries_append_only before update or delete on receipts.forest_entries for each row execute function base.refuse_change();
create trigger forest_entries_no_truncate before truncate on receipts.forest_entries execute function base.refuse_change();

create table receipts.cosignatures (
  ledger_id integer not null,
  size bigint not null,
  witness text not null,
  time_s bigint not null,
  line text not null,
  constraint cosignatures_pk primary key (ledger_id, size, witness),
  constraint cosignatures_checkpoint_fk foreign key (ledger_id, size) references receipts.checkpoints,
  constraint cosignatures_witness_length_ck check (octet_length(witness) between 1 and 255),
  constraint cosignatures_time_ck check (time_s > 0),
  constraint cosignatures_line_ck check (octet_length(line) between 2 and 1000 and strpos(line, chr(10)) = length(line))
);
comment on table receipts.cosignatures is 'What witnesses said of our checkpoints (C2SP tlog-cosignature): each has seen no log that contradicts it.';
comment on column receipts.cosignatures.ledger_id is 'A ledger; 0: the forest.';
comment on column receipts.cosignatures.time_s is 'When the witness signed, by its own clock, Unix seconds.';
comment on column receipts.cosignatures.line is 'The signature line, newline included: appended to the checkpoint''s note.';
create trigger cosignatures_append_only before update or delete on receipts.cosignatures for each row execute function base.refuse_change();
create trigger cosignatures_no_truncate before truncate on receipts.cosignatures execute function base.refuse_change();
