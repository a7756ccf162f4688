//! A journal in a CSV file: reading it, and saying everything that is wrong with it at once.

use std::collections::HashMap;
use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use ledger::args::TRANSFERS_MAX;
use ledger::books::AccountName;
use proto::ids::{AccountId, AgentId, TransferId};
use proto::money::Amount;
use proto::v1;
use provider_agent::client::AssetInfo;

use super::attempt::Attempt;
use crate::cli::failure::{Failure, Outcome};

/// Problems that are printed; the rest is counted.
const PROBLEMS_SHOWN: usize = 20;

/// The columns there can be, in the order in which they are explained.
pub(super) const COLUMNS: [&str; 15] = [
    "transfer_id",
    "kind",
    "debit_account",
    "credit_account",
    "asset",
    "amount",
    "pending_id",
    "timeout_ms",
    "linked",
    "balancing_debit",
    "balancing_credit",
    "closing_debit",
    "closing_credit",
    "reverses_id",
    "effective_at",
];

/// One line as it stands, with names not looked up yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Row {
    /// Where it begins in the file.
    pub(super) line: u64,
    pub(super) transfer_id: Option<TransferId>,
    pub(super) kind: v1::TransferKind,
    pub(super) debit: Option<AccountText>,
    pub(super) credit: Option<AccountText>,
    /// Code and number; the accounts of a post or void say theirs.
    pub(super) asset: Option<(String, u32)>,
    pub(super) amount: Option<Amount>,
    pub(super) pending_id: Option<TransferId>,
    pub(super) timeout_ms: u32,
    pub(super) flags: Flags,
    pub(super) reverses_id: Option<TransferId>,
    pub(super) effective_at: Option<Timestamp>,
}

/// What cuts an amount to what there is, and what closes an account.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Flags {
    pub(super) balancing_debit: bool,
    pub(super) balancing_credit: bool,
    pub(super) closing_debit: bool,
    pub(super) closing_credit: bool,
}

/// An account as people write one.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum AccountText {
    /// Its id.
    Id(AccountId),
    /// `purpose[:AGENT]`; which of them depends on the asset.
    Name(String, Option<AgentId>),
}

/// Something wrong, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Problem {
    line: u64,
    column: Option<&'static str>,
    message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.column {
            Some(column) => write!(f, "line {}, {column}: {}", self.line, self.message),
            None => write!(f, "line {}: {}", self.line, self.message),
        }
    }
}

/// All that is wrong, as one failure: nothing of the file is sent.
fn refuse(mut problems: Vec<Problem>) -> Failure {
    problems.sort_by_key(|problem| problem.line);
    let count = problems.len();
    let what = if count == 1 { "one mistake".to_owned() } else { format!("{count} mistakes") };
    let more = (count > PROBLEMS_SHOWN).then(|| format!("and {} more", count - PROBLEMS_SHOWN));
    let lines = problems.iter().take(PROBLEMS_SHOWN).map(Problem::to_string).chain(more);
    Failure::new(
        "UL181",
        format!("the journal has {what}, and nothing of it was sent: correct it and post it again"),
    )
    .with_details(lines.collect::<Vec<_>>())
}

/// Reads a journal. `UL181` lists every mistake with its line and column, `UL182` says that it is too long for one command.
pub(super) fn read(content: &[u8], assets: &[AssetInfo]) -> Outcome<Vec<Row>> {
    let text = std::str::from_utf8(content).map_err(|error| {
        let line = content[..error.valid_up_to()].iter().filter(|byte| **byte == b'\n').count() + 1;
        refuse(vec![Problem { line: line as u64, column: None, message: "is not UTF-8 text".into() }])
    })?;
    // Spreadsheets begin their files with a byte order mark.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut csv = csv::ReaderBuilder::new().trim(csv::Trim::All).flexible(true).from_reader(text.as_bytes());
    let header = csv.headers().map_err(Failure::outside)?.clone();
    let mut reading =
        Reading { columns: columns(&header)?, assets, problems: Vec::new(), seen: HashMap::new() };
    let mut rows = Vec::new();
    let mut count = 0;
    for record in csv.records() {
        let record = record.map_err(Failure::outside)?;
        count += 1;
        if count > TRANSFERS_MAX {
            continue;
        }
        let line = record.position().map_or(0, csv::Position::line);
        if record.len() != header.len() {
            let message = format!("has {} fields, but the header has {}", record.len(), header.len());
            reading.problems.push(Problem { line, column: None, message });
            continue;
        }
        rows.extend(reading.row(line, &record));
    }
    if count > TRANSFERS_MAX {
        return Err(Failure::new(
            "UL182",
            format!(
                "the journal has {count} transfers, and one command, which is what makes it all or nothing, carries at most \
                 {TRANSFERS_MAX}: split it into files that may each stand alone"
            ),
        ));
    }
    if count == 0 {
        reading.problems.push(Problem {
            line: 1,
            column: None,
            message: "there is no transfer under the header".into(),
        });
    }
    if reading.problems.is_empty() { Ok(rows) } else { Err(refuse(reading.problems)) }
}

/// Where each known column stands.
fn columns(header: &csv::StringRecord) -> Outcome<HashMap<&'static str, usize>> {
    let mut found = HashMap::new();
    let mut problems = Vec::new();
    let mut wrong = |message: String| problems.push(Problem { line: 1, column: None, message });
    for (place, name) in header.iter().enumerate() {
        match COLUMNS.iter().find(|column| **column == name) {
            Some(column) => {
                if found.insert(*column, place).is_some() {
                    wrong(format!("there are two columns {name}"));
                }
            }
            None if ["description", "memo", "note", "notes", "comment", "payee", "narration"]
                .contains(&name) =>
            {
                wrong(format!(
                    "no column {name}: what is posted can never be erased, so there is no place in it for words about people; \
                     leave the column out and keep it beside the journal"
                ));
            }
            None => wrong(format!("unknown column {name:?}: there are {}", COLUMNS.join(", "))),
        }
    }
    for needed in ["debit_account", "credit_account", "asset", "amount"] {
        if !found.contains_key(needed) {
            wrong(format!("the column {needed} is missing"));
        }
    }
    if problems.is_empty() { Ok(found) } else { Err(refuse(problems)) }
}

/// A journal while it is read.
struct Reading<'a> {
    columns: HashMap<&'static str, usize>,
    assets: &'a [AssetInfo],
    problems: Vec<Problem>,
    /// The line of each id.
    seen: HashMap<TransferId, u64>,
}

impl Reading<'_> {
    /// A line, or `None` when it is wrong in some way.
    fn row(&mut self, line: u64, record: &csv::StringRecord) -> Option<Row> {
        let before = self.problems.len();
        let cells =
            Cells { line, record, columns: &self.columns, problems: std::cell::RefCell::new(Vec::new()) };
        let kind = cells.kind();
        let flags = Flags {
            balancing_debit: cells.flag("balancing_debit"),
            balancing_credit: cells.flag("balancing_credit"),
            closing_debit: cells.flag("closing_debit"),
            closing_credit: cells.flag("closing_credit"),
        };
        if cells.flag("linked") {
            cells.wrong(
                "linked",
                "the whole file is one chain already, from its first line to its last: leave the column out",
            );
        }
        let ends = matches!(kind, v1::TransferKind::PostPending | v1::TransferKind::VoidPending);
        let asset = cells.asset(self.assets);
        if !ends {
            for needed in ["debit_account", "credit_account", "asset"] {
                if cells.text(needed).is_none() {
                    cells.wrong(needed, "is empty");
                }
            }
        } else if cells.text("pending_id").is_none() {
            cells.wrong("pending_id", "is empty: name the pending transfer that this ends");
        }
        let may_be_empty = ends || flags != Flags::default();
        let row = Row {
            line,
            transfer_id: cells.id("transfer_id"),
            kind,
            debit: cells.account("debit_account"),
            credit: cells.account("credit_account"),
            amount: cells.amount(asset, may_be_empty),
            asset: asset.map(|asset| (asset.code.clone(), asset.asset_id)),
            pending_id: cells.id("pending_id"),
            timeout_ms: cells.parsed("timeout_ms", "is not a whole number of milliseconds").unwrap_or(0),
            flags,
            reverses_id: cells.id("reverses_id"),
            effective_at: cells.parsed("effective_at", "is not a time like 2026-11-20T09:30:00Z"),
        };
        self.problems.extend(cells.problems.into_inner());
        if let Some(id) = row.transfer_id
            && let Some(first) = self.seen.insert(id, line)
        {
            let message = format!("is the id of line {first} too");
            self.problems.push(Problem { line, column: Some("transfer_id"), message });
        }
        (self.problems.len() == before).then_some(row)
    }
}

/// The fields of one line.
struct Cells<'a> {
    line: u64,
    record: &'a csv::StringRecord,
    columns: &'a HashMap<&'static str, usize>,
    problems: std::cell::RefCell<Vec<Problem>>,
}

impl Cells<'_> {
    fn text(&self, column: &str) -> Option<&str> {
        self.record.get(*self.columns.get(column)?).filter(|text| !text.is_empty())
    }

    fn wrong(&self, column: &'static str, message: impl Into<String>) {
        self.problems.borrow_mut().push(Problem {
            line: self.line,
            column: Some(column),
            message: message.into(),
        });
    }

    fn parsed<T: FromStr>(&self, column: &'static str, otherwise: &str) -> Option<T> {
        let text = self.text(column)?;
        let parsed = text.parse().ok();
        if parsed.is_none() {
            self.wrong(column, format!("{text:?} {otherwise}"));
        }
        parsed
    }

    fn id(&self, column: &'static str) -> Option<TransferId> {
        self.parsed(column, "is not a UUID")
    }

    fn flag(&self, column: &'static str) -> bool {
        match self.text(column) {
            Some("true") => true,
            None | Some("false") => false,
            Some(text) => {
                self.wrong(column, format!("{text:?} is neither true nor false"));
                false
            }
        }
    }

    fn kind(&self) -> v1::TransferKind {
        match self.text("kind") {
            None | Some("plain") => v1::TransferKind::Plain,
            Some("pending") => v1::TransferKind::Pending,
            Some("post_pending") => v1::TransferKind::PostPending,
            Some("void_pending") => v1::TransferKind::VoidPending,
            Some(text) => {
                self.wrong("kind", format!("{text:?} is none of plain, pending, post_pending, void_pending"));
                v1::TransferKind::Plain
            }
        }
    }

    fn asset<'a>(&self, assets: &'a [AssetInfo]) -> Option<&'a AssetInfo> {
        let text = self.text("asset")?;
        let found = assets.iter().find(|asset| asset.code.eq_ignore_ascii_case(text));
        if found.is_none() {
            let known: Vec<&str> = assets.iter().map(|asset| asset.code.as_str()).collect();
            self.wrong("asset", format!("there is no {text:?} here: there are {}", known.join(", ")));
        }
        found
    }

    fn account(&self, column: &'static str) -> Option<AccountText> {
        let text = self.text(column)?;
        if let Ok(id) = text.parse() {
            return Some(AccountText::Id(id));
        }
        let (purpose, owner) =
            text.split_once(':').map_or((text, None), |(purpose, owner)| (purpose, Some(owner)));
        let is_word = !purpose.is_empty()
            && purpose.bytes().all(|letter| letter.is_ascii_lowercase() || letter == b'_');
        match owner.map(AgentId::from_str).transpose() {
            Ok(owner) if is_word => Some(AccountText::Name(purpose.to_owned(), owner)),
            _ => {
                self.wrong(
                    column,
                    format!("{text:?} is neither an account's id nor like external or wallet:AGENT-ID"),
                );
                None
            }
        }
    }

    fn amount(&self, asset: Option<&AssetInfo>, may_be_empty: bool) -> Option<Amount> {
        let Some(text) = self.text("amount") else {
            if !may_be_empty {
                self.wrong("amount", "is empty");
            }
            return None;
        };
        let Some(asset) = asset else {
            // An asset that is there and unknown has been reported.
            if self.text("asset").is_none() {
                self.wrong("asset", "is empty: an amount means nothing without it");
            }
            return None;
        };
        match Amount::from_decimal_str(text, asset.scale) {
            Ok(amount) if amount.is_zero() && !may_be_empty => {
                self.wrong("amount", "is zero");
                None
            }
            Ok(amount) => Some(amount),
            Err(error) => {
                self.wrong("amount", format!("{text:?} is no amount of {}: {error}", asset.code));
                None
            }
        }
    }
}

/// The names that must be looked up, each once.
pub(super) fn names(rows: &[Row]) -> Vec<AccountName> {
    let mut names: Vec<AccountName> = Vec::new();
    let mut seen = std::collections::HashSet::new();
    for row in rows {
        for name in [&row.debit, &row.credit].into_iter().filter_map(|account| named(row, account.as_ref())) {
            if seen.insert(name.clone()) {
                names.push(name);
            }
        }
    }
    names
}

/// The whole name of an account that is written as one; `None` for an id.
fn named(row: &Row, account: Option<&AccountText>) -> Option<AccountName> {
    match (account, &row.asset) {
        (Some(AccountText::Name(purpose, owner)), asset) => Some(AccountName {
            // Without one, nothing is found, and the line is told so.
            asset: asset.as_ref().map(|(code, _)| code.clone()).unwrap_or_default(),
            purpose: purpose.clone(),
            owner_id: *owner,
        }),
        _ => None,
    }
}

/// The items of the command: one linked chain. `UL181`: an account that is not there.
pub(super) fn items(
    rows: &[Row],
    accounts: &HashMap<AccountName, AccountId>,
    attempt: &Attempt,
) -> Outcome<Vec<v1::TransferItem>> {
    let mut problems = Vec::new();
    let mut find = |row: &Row, column: &'static str, account: &Option<AccountText>| match account {
        None => Vec::new(),
        Some(AccountText::Id(id)) => id.to_bytes().to_vec(),
        Some(AccountText::Name(purpose, _)) => {
            let found = named(row, account.as_ref()).and_then(|name| accounts.get(&name));
            if found.is_none() {
                let of = row
                    .asset
                    .as_ref()
                    .map_or("an asset that is not named".to_owned(), |(code, _)| code.clone());
                let message = format!(
                    "there is no such {purpose} account of {of} yet: money must have moved in it once"
                );
                problems.push(Problem { line: row.line, column: Some(column), message });
            }
            found.map(|id| id.to_bytes().to_vec()).unwrap_or_default()
        }
    };
    let mut items = Vec::with_capacity(rows.len());
    for (i, row) in rows.iter().enumerate() {
        let debit = find(row, "debit_account", &row.debit);
        let credit = find(row, "credit_account", &row.credit);
        items.push((row, debit, credit, i + 1 < rows.len()));
    }
    if !problems.is_empty() {
        return Err(refuse(problems));
    }
    items.into_iter().map(|(row, debit, credit, linked)| item(row, debit, credit, linked, attempt)).collect()
}

/// One line as the contract has it.
fn item(
    row: &Row,
    debit: Vec<u8>,
    credit: Vec<u8>,
    linked: bool,
    attempt: &Attempt,
) -> Outcome<v1::TransferItem> {
    Ok(v1::TransferItem {
        transfer_id: row.transfer_id.unwrap_or_else(|| attempt.transfer_id(row.line)).to_bytes().to_vec(),
        kind: row.kind.into(),
        debit_account_id: debit,
        credit_account_id: credit,
        asset_id: row.asset.as_ref().map_or(0, |(_, id)| *id),
        amount: row.amount.map(|amount| amount.to_string()).unwrap_or_default(),
        pending_id: row.pending_id.map(|id| id.to_bytes().to_vec()).unwrap_or_default(),
        timeout_ms: row.timeout_ms,
        linked,
        balancing_debit: row.flags.balancing_debit,
        balancing_credit: row.flags.balancing_credit,
        closing_debit: row.flags.closing_debit,
        closing_credit: row.flags.closing_credit,
        reverses_id: row.reverses_id.map(|id| id.to_bytes().to_vec()).unwrap_or_default(),
        effective_at_us: row.effective_at.map(|at| at.as_microsecond()).unwrap_or_default(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const AGENT: &str = "0190a6c5-1f2e-8c3d-8e4f-5a6b7c8d9e0f";

    fn assets() -> Vec<AssetInfo> {
        vec![AssetInfo { asset_id: 1, code: "USD".into(), scale: 6 }]
    }

    fn mistakes(text: &str) -> String {
        let failure = read(text.as_bytes(), &assets()).unwrap_err();
        assert_eq!(failure.code(), Some("UL181"), "{failure}");
        failure.to_string()
    }

    #[test]
    fn columns_come_in_any_order_and_most_may_be_missing() {
        let text = format!(
            "\u{feff}amount, asset ,credit_account,debit_account\n1.25,usd,wallet:{AGENT},external\n"
        );
        let rows = read(text.as_bytes(), &assets()).unwrap();
        let row = &rows[0];
        assert_eq!(
            (row.line, row.amount, row.kind),
            (2, Some(Amount::from_u64(1_250_000)), v1::TransferKind::Plain)
        );
        assert_eq!(row.debit, Some(AccountText::Name("external".into(), None)));
        assert_eq!(row.credit, Some(AccountText::Name("wallet".into(), Some(AGENT.parse().unwrap()))));
        assert_eq!(names(&rows).len(), 2);
    }

    #[test]
    fn every_mistake_is_told_with_its_line_and_column() {
        let head =
            "debit_account,credit_account,asset,amount,kind,linked,pending_id,effective_at,timeout_ms\n";
        for (line, said) in [
            ("external,wallet:me,USD,1,,,,,", "line 3, credit_account: \"wallet:me\" is neither"),
            ("external,equity,EUR,1,,,,,", "line 3, asset: there is no \"EUR\" here: there are USD"),
            ("external,equity,USD,1.0000001,,,,,", "line 3, amount: \"1.0000001\" is no amount of USD"),
            ("external,equity,USD,0,,,,,", "line 3, amount: is zero"),
            ("external,equity,USD,,,,,,", "line 3, amount: is empty"),
            ("external,,USD,1,,,,,", "line 3, credit_account: is empty"),
            ("external,equity,USD,1,loan,,,,", "line 3, kind: \"loan\" is none of"),
            ("external,equity,USD,1,,true,,,", "line 3, linked: the whole file is one chain"),
            ("external,equity,USD,1,,maybe,,,", "line 3, linked: \"maybe\" is neither true nor false"),
            (",,,,post_pending,,,,", "line 3, pending_id: is empty"),
            (",,,1,post_pending,,0190a6c5-1f2e-7c3d-8e4f-5a6b7c8d9e0f,,", "line 3, asset: is empty"),
            ("external,equity,USD,1,,,,yesterday,", "line 3, effective_at: \"yesterday\" is not a time"),
            ("external,equity,USD,1,pending,,,,soon", "line 3, timeout_ms: \"soon\" is not a whole number"),
            ("external,equity,USD", "line 3: has 3 fields, but the header has 9"),
        ] {
            let found = mistakes(&format!("{head}external,equity,USD,1,,,,,\n{line}\n"));
            assert!(found.contains("one mistake") && found.contains(said), "{line}: {found}");
        }
        for (header, said) in [
            ("debit_account,credit_account,asset,amount,memo", "line 1: no column memo"),
            (
                "debit_account,credit_account,asset,amount,amonut",
                "line 1: unknown column \"amonut\": there are transfer_id",
            ),
            ("debit_account,credit_account,asset", "line 1: the column amount is missing"),
            ("debit_account,credit_account,asset,amount,amount", "line 1: there are two columns amount"),
            ("debit_account,credit_account,asset,amount", "line 1: there is no transfer"),
        ] {
            let found = mistakes(&format!("{header}\n"));
            assert!(found.contains(said), "{header}: {found}");
        }
    }

    #[test]
    fn twenty_mistakes_are_shown_and_the_rest_counted() {
        let text =
            format!("debit_account,credit_account,asset,amount\n{}", "external,equity,USD,x\n".repeat(25));
        let found = mistakes(&text);
        assert_eq!(found.lines().count(), 22, "{found}");
        assert!(found.contains("25 mistakes") && found.ends_with("and 5 more"), "{found}");
    }

    #[test]
    fn a_journal_beyond_one_command_is_refused_whole() {
        let text =
            format!("debit_account,credit_account,asset,amount\n{}", "external,equity,USD,1\n".repeat(8_191));
        let failure = read(text.as_bytes(), &assets()).unwrap_err();
        assert_eq!(failure.code(), Some("UL182"));
        assert!(failure.to_string().contains("8191 transfers"), "{failure}");
    }

    #[test]
    fn an_id_stands_once_in_a_file() {
        let id = "0190a6c5-1f2e-7c3d-8e4f-5a6b7c8d9e0f";
        let line = format!("{id},external,equity,USD,1\n");
        let found = mistakes(&format!("transfer_id,debit_account,credit_account,asset,amount\n{line}{line}"));
        assert!(found.contains("line 3, transfer_id: is the id of line 2 too"), "{found}");
        let other =
            mistakes("transfer_id,debit_account,credit_account,asset,amount\n7,external,equity,USD,1\n");
        assert!(other.contains("line 2, transfer_id: \"7\" is not a UUID"), "{other}");
    }
}
