//! A batch as columns, the way `ledger.post_direct` takes it: binary arrays, and NULL for what no transfer uses.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::{BufMut as _, BytesMut};
use proto::money::Amount;
use tokio_postgres::types::{IsNull, ToSql, Type, to_sql_checked};
use tokio_postgres::{Client, Row, Statement};
use uuid::Uuid;

use super::NewTransfer;

pub(super) const SQL: &str =
    "select ledger.post_direct($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16)";

/// Whole minor units in Postgres' binary form of `numeric`.
#[derive(Debug, Clone, Copy)]
struct Minor(Amount);

impl ToSql for Minor {
    fn to_sql(
        &self,
        _: &Type,
        out: &mut BytesMut,
    ) -> Result<IsNull, Box<dyn std::error::Error + Sync + Send>> {
        // Digits of base 10,000, most significant first; trailing zeros are said by the weight.
        let mut digits = [0_u16; 8];
        let (mut rest, mut from) = (self.0.as_u128(), digits.len());
        while rest > 0 {
            from -= 1;
            digits[from] = u16::try_from(rest % 10_000)?;
            rest /= 10_000;
        }
        let all = &digits[from..];
        let kept = all.iter().rposition(|digit| *digit != 0).map_or(0, |last| last + 1);
        out.put_i16(i16::try_from(kept)?);
        out.put_i16(i16::try_from(all.len())?.saturating_sub(1).max(0));
        // Positive, no decimal places.
        out.put_u16(0);
        out.put_u16(0);
        for digit in &all[..kept] {
            out.put_u16(*digit);
        }
        Ok(IsNull::No)
    }

    fn accepts(ty: &Type) -> bool {
        *ty == Type::NUMERIC
    }

    to_sql_checked!();
}

/// The columns of a batch.
pub(super) struct Columns {
    journals: Option<Vec<Uuid>>,
    ids: Vec<Uuid>,
    kinds: Vec<&'static str>,
    debits: Vec<Option<Uuid>>,
    credits: Vec<Option<Uuid>>,
    assets: Vec<Option<i32>>,
    amounts: Vec<Option<Minor>>,
    reasons: Vec<&'static str>,
    pending_ids: Option<Vec<Option<Uuid>>>,
    timeouts_ms: Option<Vec<i64>>,
    linked: Option<Vec<bool>>,
    flags: Option<Vec<i16>>,
    reverses: Option<Vec<Option<Uuid>>>,
    effective: Option<Vec<Option<SystemTime>>>,
}

impl Columns {
    pub(super) fn of<'a>(transfers: impl Iterator<Item = &'a NewTransfer> + Clone) -> Self {
        fn column<'a, T>(
            transfers: impl Iterator<Item = &'a NewTransfer>,
            of: impl Fn(&'a NewTransfer) -> T,
        ) -> Vec<T> {
            transfers.map(of).collect()
        }
        let all = || transfers.clone();
        Self {
            journals: Some(column(all(), |t| t.journal_id.map_or_else(|| t.transfer_id.into(), Uuid::from))),
            ids: column(all(), |t| t.transfer_id.into()),
            kinds: column(all(), |t| t.kind.as_str()),
            debits: column(all(), |t| t.debit_account_id.map(Uuid::from)),
            credits: column(all(), |t| t.credit_account_id.map(Uuid::from)),
            assets: column(all(), |t| t.asset_id),
            amounts: column(all(), |t| t.amount.map(Minor)),
            reasons: column(all(), |t| t.reason),
            pending_ids: all()
                .any(|t| t.pending_id.is_some())
                .then(|| column(all(), |t| t.pending_id.map(Uuid::from))),
            timeouts_ms: all().any(|t| t.timeout_ms != 0).then(|| column(all(), |t| t.timeout_ms)),
            linked: all().any(|t| t.linked).then(|| column(all(), |t| t.linked)),
            flags: all().any(|t| t.flags != 0).then(|| column(all(), |t| t.flags)),
            reverses: all()
                .any(|t| t.reverses_id.is_some())
                .then(|| column(all(), |t| t.reverses_id.map(Uuid::from))),
            effective: all()
                .any(|t| t.effective_at_us.is_some())
                .then(|| column(all(), |t| t.effective_at_us.map(system_time))),
        }
    }

    /// Inserts them into the bare table of a measurement ([`super::rig::Bare`]).
    pub(super) async fn insert_bare(
        &self,
        client: &Client,
        statement: &Statement,
        seq: i64,
    ) -> Result<u64, tokio_postgres::Error> {
        let Self { ids, kinds, debits, credits, assets, amounts, reasons, .. } = self;
        client
            .execute(statement, &[&1_i32, &seq, ids, kinds, debits, credits, assets, amounts, reasons])
            .await
    }

    /// Posts them at `at_us` (Unix microseconds); one row with the results.
    pub(super) async fn query(
        &self,
        client: &Client,
        statement: &Statement,
        ledger_id: i32,
        at_us: i64,
    ) -> Result<Row, tokio_postgres::Error> {
        client
            .query_one(
                statement,
                &[
                    &ledger_id,
                    &system_time(at_us),
                    &self.journals,
                    &self.ids,
                    &self.kinds,
                    &self.debits,
                    &self.credits,
                    &self.assets,
                    &self.amounts,
                    &self.reasons,
                    &self.pending_ids,
                    &self.timeouts_ms,
                    &self.linked,
                    &self.flags,
                    &self.reverses,
                    &self.effective,
                ],
            )
            .await
    }
}

/// Unix microseconds as the driver takes a time.
fn system_time(us: i64) -> SystemTime {
    let distance = Duration::from_micros(us.unsigned_abs());
    if us < 0 { UNIX_EPOCH - distance } else { UNIX_EPOCH + distance }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// (digits, weight, words) as `numeric_send` writes them.
    #[test]
    fn amounts_have_the_binary_form_of_numeric() {
        for (units, weight, words) in [
            (0, 0, vec![]),
            (1, 0, vec![1]),
            (9_999, 0, vec![9_999]),
            (10_000, 1, vec![1]),
            (120_003_400, 2, vec![1, 2_000, 3_400]),
            (120_000_000, 2, vec![1, 2_000]),
            (10_u128.pow(28) - 1, 6, vec![9_999; 7]),
        ] {
            let mut out = BytesMut::new();
            Minor(Amount::from_u128(units).unwrap()).to_sql(&Type::NUMERIC, &mut out).unwrap();
            let mut expected = BytesMut::new();
            expected.put_i16(i16::try_from(words.len()).unwrap());
            expected.put_i16(weight);
            expected.put_u32(0);
            for word in words {
                expected.put_u16(word);
            }
            assert_eq!(out, expected, "{units}");
        }
    }
}
