//! The audit views: each is empty when the books are healthy, and each row of one names what is wrong.

use tokio_postgres::Client;

use super::report::{First, Report};
use crate::error::Error;

/// A check that counts what it proves: a view of offenders, and how many things it looked at.
struct Audit {
    name: &'static str,
    what: &'static str,
    offenders: &'static str,
    counted: &'static str,
}

const CONSERVATION: &[Audit] = &[
    Audit {
        name: "conservation.asset",
        what: "per ledger and asset, debits equal credits",
        offenders: "select ledger_id::text || ' asset ' || asset_id::text, \
                    'debits ' || sum(debits_posted)::text || ' / ' || sum(debits_pending)::text || ' against credits ' \
                    || sum(credits_posted)::text || ' / ' || sum(credits_pending)::text \
                    from ledger.accounts group by ledger_id, asset_id \
                    having sum(debits_posted) <> sum(credits_posted) or sum(debits_pending) <> sum(credits_pending)",
        counted: "select count(*) from ledger.accounts",
    },
    Audit {
        name: "conservation.order",
        what: "per order, held = paid + refunded, and its escrow holds exactly what is not yet given out",
        offenders: "select 'market.orders ' || o.order_id::text, 'held ' || o.held::text || ', paid ' || coalesce(o.paid::text, '-') \
                    || ', refunded ' || coalesce(o.refunded::text, '-') || ', escrow balance ' \
                    || coalesce((a.credits_posted - a.debits_posted)::text, 'missing') \
                    from market.orders o left join ledger.accounts a \
                    on a.ledger_id = o.ledger_id and a.account_id = o.escrow_account_id \
                    where a.account_id is null or a.credits_posted <> o.held \
                    or a.credits_posted - a.debits_posted <> case when o.closed_at is null then o.held else 0 end \
                    or (o.closed_at is not null and o.held <> o.paid + o.refunded)",
        counted: "select count(*) from market.orders",
    },
    Audit {
        name: "conservation.split",
        what: "per settlement, its legs sum to what was paid",
        offenders: "select 'splits.settlements ' || s.order_id::text, 'paid ' || s.paid::text || ', legs ' \
                    || coalesce(sum(l.amount), 0)::text from splits.settlements s left join splits.legs l \
                    on l.ledger_id = s.ledger_id and l.order_id = s.order_id \
                    group by s.ledger_id, s.order_id, s.paid having coalesce(sum(l.amount), 0) <> s.paid",
        counted: "select count(*) from splits.settlements",
    },
    Audit {
        name: "conservation.payee",
        what: "per payee and asset, earned = paid + reserved + payable",
        offenders: "select 'finance.payout_reconciliation ' || r.payee_id::text, to_jsonb(r)::text \
                    from finance.payout_reconciliation r where r.difference <> 0",
        counted: "select count(*) from finance.payout_reconciliation",
    },
];

/// Conservation rules first, then every `audit_*` view there is.
pub(super) async fn check(client: &Client, report: &mut Report) -> Result<(), Error> {
    for audit in CONSERVATION {
        let mut first = First::default();
        if let Some(row) = client.query_opt(&format!("{} limit 1", audit.offenders), &[]).await? {
            first.note(row.try_get::<_, String>(0)?, row.try_get::<_, String>(1)?);
        }
        let count: i64 = client.query_one(audit.counted, &[]).await?.try_get(0)?;
        report.add(audit.name, audit.what, u64::try_from(count).unwrap_or_default(), first.0);
    }
    let views = client
        .query(
            "select quote_ident(n.nspname) || '.' || quote_ident(c.relname) from pg_catalog.pg_class c \
             join pg_catalog.pg_namespace n on n.oid = c.relnamespace \
             where c.relkind = 'v' and c.relname like 'audit\\_%' order by 1",
            &[],
        )
        .await?;
    let mut first = First::default();
    for view in &views {
        let name: String = view.try_get(0)?;
        let select = format!("select to_jsonb(v)::text from {name} v limit 1");
        if let Some(row) = client.query_opt(&select, &[]).await? {
            first.note(name, row.try_get::<_, String>(0)?);
        }
    }
    report.add("audit.views", "every audit view is empty", views.len() as u64, first.0);
    Ok(())
}
