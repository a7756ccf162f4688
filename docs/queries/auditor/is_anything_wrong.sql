-- Every audit view is empty when healthy. One row per view: how many rows it holds, which should be 0.
select 'ledger.audit_accounts' as view, count(*) as wrong from ledger.audit_accounts
union all select 'ledger.audit_conservation', count(*) from ledger.audit_conservation
union all select 'ledger.audit_crossings', count(*) from ledger.audit_crossings
union all select 'ledger.audit_exchanges', count(*) from ledger.audit_exchanges
union all select 'ledger.audit_flags', count(*) from ledger.audit_flags
union all select 'ledger.audit_holds', count(*) from ledger.audit_holds
union all select 'ledger.audit_pages', count(*) from ledger.audit_pages
union all select 'ledger.audit_recent', count(*) from ledger.audit_recent
union all select 'ledger.audit_periods', count(*) from ledger.audit_periods
union all select 'ledger.audit_reversals', count(*) from ledger.audit_reversals
union all select 'ledger.audit_transfers', count(*) from ledger.audit_transfers
union all select 'market.audit_orders', count(*) from market.audit_orders
union all select 'market.audit_tickets', count(*) from market.audit_tickets
union all select 'market.audit_transitions', count(*) from market.audit_transitions
union all select 'metering.audit_rows', count(*) from metering.audit_rows
union all select 'payouts.audit_payouts', count(*) from payouts.audit_payouts
union all select 'splits.audit_policies', count(*) from splits.audit_policies
union all select 'splits.audit_settlements', count(*) from splits.audit_settlements;
