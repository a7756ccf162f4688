//! How an account is called in each format.

use tokio_postgres::Row;
use uuid::Uuid;

use super::ExportError;

/// Whose account, and what for. Accounts of several assets share one name: a journal keeps its commodities apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Account {
    purpose: String,
    owner_id: Option<Uuid>,
    ref_id: Option<Uuid>,
}

impl Account {
    pub(super) fn of(row: &Row, [purpose, owner_id, ref_id]: [&str; 3]) -> Result<Self, ExportError> {
        Ok(Self {
            purpose: row.try_get(purpose)?,
            owner_id: row.try_get(owner_id)?,
            ref_id: row.try_get(ref_id)?,
        })
    }

    pub(super) fn purpose(&self) -> &str {
        &self.purpose
    }

    /// `wallet:0190…`, `escrow:0190…:ref-0190…`, `external`. Ids are whole: a shortened one could be two agents'.
    pub(super) fn plain_name(&self) -> String {
        let owner = self.owner_id.map(|id| format!(":{id}")).unwrap_or_default();
        let reference = self.ref_id.map(|id| format!(":ref-{id}")).unwrap_or_default();
        format!("{}{owner}{reference}", self.purpose)
    }

    /// `Liabilities:Wallet:Agent-0190…`. Beancount wants one of five roots and components that begin with a capital. What
    /// tells accounts of one purpose apart is a single last component, because a `balance` there counts accounts beneath.
    pub(super) fn beancount_name(&self) -> String {
        let leaf = match (self.owner_id, self.ref_id) {
            (None, None) => "House".to_owned(),
            (Some(owner), None) => format!("Agent-{owner}"),
            (None, Some(reference)) => format!("Ref-{reference}"),
            (Some(owner), Some(reference)) => format!("Agent-{owner}-Ref-{reference}"),
        };
        let root = match Class::of(&self.purpose) {
            Class::Asset => "Assets",
            Class::Liability => "Liabilities",
            Class::Equity => "Equity",
        };
        format!("{root}:{}:{leaf}", capitalised(&self.purpose))
    }
}

/// Where an account stands on a balance sheet of the house.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Class {
    /// What is at the bank: money that came in and has not left.
    Asset,
    /// What the house owes: others' money.
    Liability,
    /// The house's own.
    Equity,
}

impl Class {
    /// A purpose that this program does not know yet is others' money until somebody says otherwise.
    pub(super) fn of(purpose: &str) -> Self {
        match purpose {
            "external" => Self::Asset,
            "equity" | "liquidity" => Self::Equity,
            _ => Self::Liability,
        }
    }
}

/// A purpose as a component of a Beancount account: `order_bond` is `Order-bond`.
fn capitalised(purpose: &str) -> String {
    let mut letters = purpose.chars().map(|letter| if letter == '_' { '-' } else { letter });
    letters.next().map(|first| first.to_ascii_uppercase()).into_iter().chain(letters).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn account(purpose: &str, owner: Option<u128>, reference: Option<u128>) -> Account {
        Account {
            purpose: purpose.into(),
            owner_id: owner.map(Uuid::from_u128),
            ref_id: reference.map(Uuid::from_u128),
        }
    }

    #[test]
    fn names_are_whole_and_of_each_formats_grammar() {
        let (one, two) = ("00000000-0000-0000-0000-000000000001", "00000000-0000-0000-0000-000000000002");
        for (given, plain, beancount) in [
            (account("external", None, None), "external".to_owned(), "Assets:External:House".to_owned()),
            (
                account("wallet", Some(1), None),
                format!("wallet:{one}"),
                format!("Liabilities:Wallet:Agent-{one}"),
            ),
            (
                account("escrow", Some(1), Some(2)),
                format!("escrow:{one}:ref-{two}"),
                format!("Liabilities:Escrow:Agent-{one}-Ref-{two}"),
            ),
            (
                account("clearing", None, Some(2)),
                format!("clearing:ref-{two}"),
                format!("Liabilities:Clearing:Ref-{two}"),
            ),
            (
                account("order_bond", Some(1), None),
                format!("order_bond:{one}"),
                format!("Liabilities:Order-bond:Agent-{one}"),
            ),
            (account("equity", None, None), "equity".to_owned(), "Equity:Equity:House".to_owned()),
        ] {
            assert_eq!((given.plain_name(), given.beancount_name()), (plain, beancount));
        }
    }
}
