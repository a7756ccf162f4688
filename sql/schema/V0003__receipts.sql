-- receipts: one signed receipt per command, in a Merkle log. The bytes are made and signed outside; what is stored here is
-- exactly what was signed. The tree is RFC 6962 (SHA-256), kept as peaks (for the root) and tiles of 256 hashes (for proofs).

create table receipts.receipts (
  ledger_id integer not null,
  seq bigint not null,
  receipt_id bytea not null,
  subject_id uuid not null,
  prev bytea,
  envelope bytea not null,
  constraint receipts_pk primary key (ledger_id, seq),
  constraint receipts_id_uq unique (ledger_id, receipt_id),
  constraint receipts_id_length_ck check (octet_length(receipt_id) = 32),
  constraint receipts_prev_length_ck check (octet_length(prev) = 32)
);
comment on table receipts.receipts is 'Exact bytes of each receipt''s DSSE envelope; leaf (seq - 1) of the ledger''s Merkle log.';
comment on column receipts.receipts.receipt_id is 'BLAKE3 of the receipt''s payload bytes.';
comment on column receipts.receipts.prev is 'Previous receipt of the same subject; NULL: its first.';
create trigger receipts_append_only before update or delete on receipts.receipts for each row execute function base.refuse_change();
create trigger receipts_no_truncate before truncate on receipts.receipts execute function base.refuse_change();

-- An unreceipted command or transition fails at COMMIT, for every role, the owner included.
alter table base.commands add constraint commands_receipt_fk foreign key (ledger_id, seq)
  references receipts.receipts deferrable initially deferred;
alter table base.transitions add constraint transitions_receipt_fk foreign key (ledger_id, seq)
  references receipts.receipts deferrable initially deferred;

create table receipts.subject_heads (
  ledger_id integer not null,
  subject_id uuid not null,
  receipt_id bytea not null,
  seq bigint not null,
  constraint subject_heads_pk primary key (ledger_id, subject_id)
);
comment on table receipts.subject_heads is 'Newest receipt of each subject: where the next one''s prev points.';
grant update (receipt_id, seq) on receipts.subject_heads to econ_engine;

create table receipts.logs (
  ledger_id integer not null,
  size bigint not null default 0,
  root bytea not null,
  peaks bytea[] not null default '{}',
  constraint logs_pk primary key (ledger_id),
  constraint logs_ledger_fk foreign key (ledger_id) references base.ledgers,
  constraint logs_size_ck check (size >= 0)
);
comment on table receipts.logs is 'The Merkle log of each ledger: size, root, and the roots of its complete subtrees from the largest to the smallest.';
grant update (size, root, peaks) on receipts.logs to econ_engine;

create table receipts.tiles (
  ledger_id integer not null,
  level smallint not null,
  tile_index bigint not null,
  hashes bytea not null,
  constraint tiles_pk primary key (ledger_id, level, tile_index),
  constraint tiles_width_ck check (octet_length(hashes) between 32 and 8192 and octet_length(hashes) % 32 = 0)
);
comment on table receipts.tiles is 'Up to 256 node hashes each: level 0 are leaf hashes, level L the roots of full tiles of level L-1 (C2SP tlog-tiles).';
grant update (hashes) on receipts.tiles to econ_engine;

create table receipts.checkpoints (
  ledger_id integer not null,
  size bigint not null,
  root bytea not null,
  note text not null,
  constraint checkpoints_pk primary key (ledger_id, size),
  constraint checkpoints_root_length_ck check (octet_length(root) = 32)
);
comment on table receipts.checkpoints is 'Signed checkpoints (C2SP signed notes). The newest one is also kept, fsynced, outside the database.';
create trigger checkpoints_append_only before update or delete on receipts.checkpoints for each row execute function base.refuse_change();
create trigger checkpoints_no_truncate before truncate on receipts.checkpoints execute function base.refuse_change();
