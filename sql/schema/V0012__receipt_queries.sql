-- An agent's own commands in log order: what it may see of the receipts is this index and its feed, merged. Costs 4 us and
-- 124 bytes of WAL a command, of some 900 us that a command takes (docs/PERFORMANCE.md). Building it holds off the writer of every
-- ledger, a second or two for a million commands; reads go on.
create index commands_actor_ix on base.commands (ledger_id, actor_id, seq);
comment on index base.commands_actor_ix is 'Own commands in log order, for receipts.read_receipts.';
