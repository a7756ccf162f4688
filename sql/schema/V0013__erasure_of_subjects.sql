-- Erasure: contents can be removed from their store, and everything that was signed still holds.
-- The log says what was erased, by hash; it never held the contents, so nothing that is proven needs them.

create table artifacts.erasures (
  ledger_id integer not null,
  seq bigint not null,
  artifact_hash bytea not null,
  agent_id uuid,
  subject_kind text not null,
  subject_id uuid,
  at timestamptz not null,
  constraint erasures_pk primary key (ledger_id, artifact_hash, seq),
  constraint erasures_hash_length_ck check (octet_length(artifact_hash) = 32),
  constraint erasures_subject_kind_ck check (subject_kind in ('agent', 'order', 'artifact')),
  constraint erasures_subject_ck check ((subject_kind = 'artifact') = (subject_id is null))
);
comment on table artifacts.erasures is
  'Append-only. Whose uploads of which bytes were erased by command seq, and for whose sake. The uploads, and bytes that nobody holds any more, are removed right after it.';
comment on column artifacts.erasures.agent_id is 'Whose upload was erased; NULL: everybody''s, so the bytes go.';
comment on column artifacts.erasures.subject_id is 'The agent or order for whose sake; NULL: for that of the artifact itself.';
create trigger erasures_append_only before update or delete on artifacts.erasures for each row execute function base.refuse_change();
create trigger erasures_no_truncate before truncate on artifacts.erasures execute function base.refuse_change();

alter table artifacts.uploads add column after_seq bigint not null default 0;
comment on column artifacts.uploads.after_seq is
  'The newest erasure of these bytes that came before this upload; 0: none did. An erasure concerns uploads that came before it only.';
grant update (after_seq) on artifacts.uploads to econ_engine;
create index uploads_agent_ix on artifacts.uploads (ledger_id, agent_id) where erased_at is null;

insert into base.command_kinds values
  ('erase_subject', 'Operator: removes stored contents for the sake of an agent, an order or an artifact; an agent: its own uploads');
insert into identity.purpose_permits values
  ('operator', 'erase_subject'), ('buyer', 'erase_subject'), ('provider', 'erase_subject'), ('payee', 'erase_subject');
