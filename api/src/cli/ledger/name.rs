//! Which account is meant: its id, or what it is for and whose it is.

use std::str::FromStr;

use proto::ids::{AccountId, AgentId};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::cli::amount;
use crate::cli::failure::{Failure, Outcome};
use crate::cli::market::Market;

/// Accounts that are looked through for one of the market's own.
const ACCOUNTS_MAX: usize = 10_000;
/// Candidates that an ambiguous name lists.
const CANDIDATES_SHOWN: usize = 5;

const QUERY: &str = "query($ledgerId: Int!, $purpose: String, $ownerId: UUID, $first: Int!, $after: String) { \
    accounts(ledgerId: $ledgerId, purpose: $purpose, ownerId: $ownerId, first: $first, after: $after) { nodes { accountId assetId \
    asset scale purpose ownerId refId balances { debitsPending debitsPosted creditsPending creditsPosted } spendable closed \
    openedAtUs } pageInfo { hasNextPage endCursor } } }";

/// An account as the API shows it; amounts in minor units.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Account {
    pub(super) account_id: AccountId,
    pub(super) asset_id: u32,
    pub(super) asset: String,
    pub(super) scale: u8,
    pub(super) purpose: String,
    pub(super) owner_id: Option<AgentId>,
    pub(super) ref_id: Option<String>,
    pub(super) balances: Balances,
    pub(super) spendable: String,
    pub(super) closed: bool,
    pub(super) opened_at_us: i64,
}

/// Its four sums.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Balances {
    pub(super) debits_pending: String,
    pub(super) debits_posted: String,
    pub(super) credits_pending: String,
    pub(super) credits_posted: String,
}

impl Balances {
    /// Credits less debits, minor units, signed. Both have at most 28 digits.
    pub(super) fn balance(&self) -> String {
        let number = |text: &str| text.parse::<i128>().unwrap_or_default();
        (number(&self.credits_posted) - number(&self.debits_posted)).to_string()
    }
}

/// The accounts of a purpose and an owner; `None`: any.
pub(super) async fn accounts(
    market: &Market,
    purpose: Option<&str>,
    owner: Option<AgentId>,
    limit: usize,
) -> Outcome<Vec<Account>> {
    let variables = json!({ "purpose": purpose, "ownerId": owner.map(|id| id.to_string()) });
    Ok(market.pages_of(QUERY, "accounts", variables, limit).await?)
}

/// How an account is named on the command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum AccountName {
    Id(AccountId),
    Of { purpose: String, owner: Option<AgentId> },
}

impl FromStr for AccountName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let form = "an account is named by its id, or as wallet:AGENT-ID, payable:AGENT-ID, equity, external";
        if let Ok(id) = text.parse() {
            return Ok(Self::Id(id));
        }
        let (purpose, owner) = match text.split_once(':') {
            None => (text, None),
            Some((purpose, owner)) => {
                let owner = owner.parse().map_err(|_| format!("{owner:?} is no agent's id: {form}"))?;
                (purpose, Some(owner))
            }
        };
        if purpose.is_empty() || !purpose.bytes().all(|b| b.is_ascii_lowercase() || b == b'_') {
            return Err(form.to_owned());
        }
        Ok(Self::Of { purpose: purpose.to_owned(), owner })
    }
}

/// The id of the account that is meant. UL403: there is none that the key may see; UB123: there are several.
pub(super) async fn find(market: &Market, name: &AccountName, asset: Option<&str>) -> Outcome<AccountId> {
    let (purpose, owner) = match name {
        AccountName::Id(id) => return Ok(*id),
        AccountName::Of { purpose, owner } => (purpose, *owner),
    };
    let asset = asset.map(|asset| amount::asset(&market.info, asset)).transpose()?;
    let found = accounts(market, Some(purpose), owner, ACCOUNTS_MAX).await?;
    let meant: Vec<&Account> = found
        .iter()
        .filter(|account| {
            account.owner_id == owner && asset.is_none_or(|asset| account.asset_id == asset.asset_id)
        })
        .collect();
    match meant[..] {
        [account] => Ok(account.account_id),
        [] if owner.is_none() && !found.is_empty() => Err(Failure::usage(format!(
            "the {purpose} accounts here have owners: name one, as in {purpose}:AGENT-ID"
        ))),
        [] => Err(missing(&format!("{purpose} account"))),
        _ => Err(Failure::usage(format!(
            "this is the name of {} accounts: choose with --asset, or by id: {}",
            meant.len(),
            meant
                .iter()
                .take(CANDIDATES_SHOWN)
                .map(|account| format!("{} ({})", account.account_id, account.asset))
                .collect::<Vec<_>>()
                .join(", ")
        ))),
    }
}

/// Nothing of this name is there to see.
pub(super) fn missing(what: &str) -> Failure {
    Failure::outside(format!(
        "there is no such {what} that this key may see: `econ ledger accounts` lists those it may"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_account_is_an_id_or_a_purpose_with_or_without_an_owner() {
        let id = "0190a6c5-1f2e-7c3d-8e4f-5a6b7c8d9e0f";
        assert_eq!(id.parse(), Ok(AccountName::Id(id.parse().unwrap())));
        let name = |purpose: &str, owner| AccountName::Of { purpose: purpose.to_owned(), owner };
        assert_eq!("equity".parse(), Ok(name("equity", None)));
        assert_eq!(format!("wallet:{id}").parse(), Ok(name("wallet", Some(id.parse().unwrap()))));
        for wrong in ["", "wallet:", "wallet:x", "Wallet", "0190", ":"] {
            assert!(wrong.parse::<AccountName>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_balance_may_be_negative() {
        let balances = Balances {
            debits_pending: "0".into(),
            debits_posted: "9999999999999999999999999999".into(),
            credits_pending: "0".into(),
            credits_posted: "1".into(),
        };
        assert_eq!(balances.balance(), "-9999999999999999999999999998");
    }
}
