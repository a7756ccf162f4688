//! The ledger's semantics in plain Rust, written for reading rather than speed: the second opinion that the SQL is held to.
//!
//! It shares nothing with the SQL. A chain that fails restores a copy of everything; holds are found by looking at all of
//! them; amounts are `i128`.

use std::collections::{BTreeMap, BTreeSet};

use uuid::Uuid;

/// 28 digits of nine.
pub(crate) const AMOUNT_MAX: i128 = 9_999_999_999_999_999_999_999_999_999;
const TIMEOUT_MS_MAX: i64 = 315_360_000_000_000;
const DAY_US: i64 = 86_400_000_000;

/// One item as a client may send it. `amount` is text, because most of what can be wrong with it is no number at all.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Item {
    pub(crate) id: Option<Uuid>,
    pub(crate) kind: &'static str,
    pub(crate) debit: Option<Uuid>,
    pub(crate) credit: Option<Uuid>,
    pub(crate) asset: Option<i32>,
    pub(crate) amount: Option<String>,
    pub(crate) pending: Option<Uuid>,
    pub(crate) timeout_ms: Option<i64>,
    pub(crate) linked: bool,
    pub(crate) reason: Option<&'static str>,
    /// Sum of the constants below; anything else is reserved.
    pub(crate) flags: i16,
    pub(crate) reverses: Option<Uuid>,
    /// Event time, Unix microseconds.
    pub(crate) effective: Option<i64>,
}

pub(crate) const BALANCING_DEBIT: i16 = 1;
pub(crate) const BALANCING_CREDIT: i16 = 2;
pub(crate) const CLOSING_DEBIT: i16 = 4;
pub(crate) const CLOSING_CREDIT: i16 = 8;

impl Item {
    fn has(&self, flag: i16) -> bool {
        self.flags & flag != 0
    }

    fn closes(&self) -> bool {
        self.has(CLOSING_DEBIT) || self.has(CLOSING_CREDIT)
    }

    fn balances(&self) -> bool {
        self.has(BALANCING_DEBIT) || self.has(BALANCING_CREDIT)
    }
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Account {
    pub(crate) asset: i32,
    pub(crate) debits_limited: bool,
    pub(crate) credits_limited: bool,
    pub(crate) closed: bool,
    /// The hold that closed it. Closed without one: by the operator.
    pub(crate) closed_by: Option<Uuid>,
    pub(crate) debits_pending: i128,
    pub(crate) debits_posted: i128,
    pub(crate) credits_pending: i128,
    pub(crate) credits_posted: i128,
}

/// A row of `ledger.transfers`. Times are Unix microseconds. An expiry's id is the database's choice: `None`.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Transfer {
    pub(crate) id: Option<Uuid>,
    pub(crate) kind: String,
    pub(crate) debit: Uuid,
    pub(crate) credit: Uuid,
    pub(crate) asset: i32,
    pub(crate) amount: i128,
    pub(crate) pending: Option<Uuid>,
    pub(crate) timeout_at: Option<i64>,
    pub(crate) journal: Uuid,
    pub(crate) reason: String,
    pub(crate) seq: i64,
    pub(crate) item: i32,
    pub(crate) at: i64,
    pub(crate) flags: i16,
    pub(crate) reverses: Option<Uuid>,
    pub(crate) effective: Option<i64>,
}

#[derive(Debug, Clone, Default)]
pub(crate) struct Model {
    pub(crate) accounts: BTreeMap<Uuid, Account>,
    /// In the order of writing.
    pub(crate) transfers: Vec<Transfer>,
    /// State of each pending transfer: pending, posted, voided, expired.
    pub(crate) holds: BTreeMap<Uuid, &'static str>,
    pub(crate) failed: BTreeMap<Uuid, &'static str>,
    /// What was taken back, and by what.
    pub(crate) reversals: BTreeMap<Uuid, Uuid>,
    /// Which commands posted transfers of which journal.
    pub(crate) journals: BTreeSet<(Uuid, i64)>,
    /// Event times before this are closed.
    pub(crate) period_end: Option<i64>,
}

/// The command that posts.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Command {
    pub(crate) seq: i64,
    pub(crate) at: i64,
    pub(crate) journal: Uuid,
}

enum Number {
    Whole(i128),
    Wrong(&'static str),
}

fn number(text: &str) -> Number {
    let (sign, digits) = text.strip_prefix('-').map_or((1, text), |rest| (-1, rest));
    if digits == "Infinity" {
        return Number::Wrong(if sign < 0 { "amount_must_not_be_negative" } else { "overflows_amount" });
    }
    let Ok(value) = digits.parse::<i128>() else { return Number::Wrong("amount_must_be_whole") };
    match sign * value {
        0 => Number::Wrong("amount_must_not_be_zero"),
        n if n < 0 => Number::Wrong("amount_must_not_be_negative"),
        n if n > AMOUNT_MAX => Number::Wrong("overflows_amount"),
        n => Number::Whole(n),
    }
}

fn given(id: Option<Uuid>) -> Option<Uuid> {
    id.filter(|id| !id.is_nil())
}

impl Model {
    /// Judges the items as if one after the other.
    pub(crate) fn post(&mut self, command: Command, items: &[Item]) -> Vec<&'static str> {
        let mut results: Vec<&'static str> = Vec::new();
        // Where the open chain began, and everything as it was then.
        let mut chain: Option<(usize, Model)> = None;
        let mut broken = false;
        for (index, item) in items.iter().enumerate() {
            if item.linked && chain.is_none() {
                chain = Some((index, self.clone()));
            }
            let open = item.linked && index + 1 == items.len();
            let result = if open {
                "linked_event_chain_open"
            } else if broken {
                "linked_event_failed"
            } else {
                self.post_one(command, item).err().unwrap_or("ok")
            };
            if result != "ok" {
                if let Some((start, before)) = chain.as_ref().filter(|_| !broken) {
                    *self = before.clone();
                    results[*start..].fill("linked_event_failed");
                    broken = true;
                }
                if let (true, Some(id)) = (spends_id(result), item.id) {
                    self.failed.insert(id, result);
                }
            }
            results.push(result);
            if !item.linked || open {
                chain = None;
                broken = false;
            }
        }
        results
    }

    fn post_one(&mut self, command: Command, item: &Item) -> Result<(), &'static str> {
        let known = ["plain", "pending", "post_pending", "void_pending"].contains(&item.kind);
        if !known || !(0..16).contains(&item.flags) {
            return Err("reserved_flag");
        }
        let id = given(item.id).ok_or("id_must_not_be_zero")?;
        if id.is_max() {
            return Err("id_must_not_be_int_max");
        }
        if let Some(old) = self.find(id) {
            return Err(self.compare(item, old));
        }
        if self.failed.contains_key(&id) {
            return Err("id_already_failed");
        }
        if id.get_version_num() != 7 || (unix_ms(id) * 1_000 - command.at).abs() > DAY_US {
            return Err("id_time_out_of_range");
        }
        if matches!(item.kind, "plain" | "pending") {
            self.post_new(command, id, item)
        } else {
            self.post_end(command, id, item)
        }
    }

    fn post_new(&mut self, command: Command, id: Uuid, item: &Item) -> Result<(), &'static str> {
        let debit_id = given(item.debit).ok_or("debit_account_id_must_not_be_zero")?;
        if debit_id.is_max() {
            return Err("debit_account_id_must_not_be_int_max");
        }
        let credit_id = given(item.credit).ok_or("credit_account_id_must_not_be_zero")?;
        if credit_id.is_max() {
            return Err("credit_account_id_must_not_be_int_max");
        }
        if debit_id == credit_id {
            return Err("accounts_must_be_different");
        }
        if given(item.pending).is_some() {
            return Err("pending_id_must_be_zero");
        }
        let pending = item.kind == "pending";
        let timeout_ms = item.timeout_ms.unwrap_or(0);
        if timeout_ms != 0 && !pending {
            return Err("timeout_reserved_for_pending_transfer");
        }
        if item.closes() && !pending {
            return Err("closing_transfer_must_be_pending");
        }
        if timeout_ms < 0 {
            return Err("timeout_must_not_be_negative");
        }
        if item.closes() && timeout_ms > 0 {
            return Err("closing_transfer_must_not_time_out");
        }
        let reverses = given(item.reverses);
        if reverses.is_some() && pending {
            return Err("reversal_must_be_plain");
        }
        if reverses.is_some() && item.flags != 0 {
            return Err("flags_are_mutually_exclusive");
        }
        if reverses == Some(id) {
            return Err("reverses_id_must_be_different");
        }
        // None: all that can be spared. A closing hold may hold nothing.
        let asked = match item.amount.as_deref().map(number) {
            None if item.balances() => None,
            None | Some(Number::Wrong("amount_must_not_be_zero")) if item.closes() => Some(0),
            None => return Err("amount_must_not_be_zero"),
            Some(Number::Wrong(result)) => return Err(result),
            Some(Number::Whole(amount)) => Some(amount),
        };
        let asset = item.asset.filter(|asset| *asset != 0).ok_or("asset_must_not_be_zero")?;
        let reason = item.reason.filter(|reason| !reason.is_empty()).ok_or("reason_must_not_be_empty")?;
        if item.effective.is_some() && pending {
            return Err("effective_at_reserved_for_posting");
        }
        self.check_event_time(command, item)?;
        let debit = self.accounts.get(&debit_id).ok_or("debit_account_not_found")?;
        let credit = self.accounts.get(&credit_id).ok_or("credit_account_not_found")?;
        if debit.asset != credit.asset {
            return Err("accounts_must_have_the_same_asset");
        }
        if asset != debit.asset {
            return Err("transfer_must_have_the_same_asset_as_accounts");
        }
        if debit.closed {
            return Err("debit_account_already_closed");
        }
        if credit.closed {
            return Err("credit_account_already_closed");
        }
        if let Some(reversed) = reverses {
            let old = self.find(reversed).ok_or("reversed_transfer_not_found")?;
            if !matches!(old.kind.as_str(), "plain" | "post_pending") {
                return Err("reversed_transfer_not_posted");
            }
            if (debit_id, credit_id) != (old.credit, old.debit) {
                return Err("reversal_must_mirror_accounts");
            }
            if asked != Some(old.amount) {
                return Err("reversal_has_different_amount");
            }
            if self.reversals.contains_key(&reversed) {
                return Err("reversed_transfer_already_reversed");
            }
        }

        // An expired hold is free at once, whether or not its expiry is written.
        let due_of = |side: fn(&Transfer) -> Uuid, account: Uuid| -> Vec<Transfer> {
            let due = |t: &&Transfer| self.is_open(t) && t.timeout_at.is_some_and(|end| end <= command.at);
            self.transfers.iter().filter(due).filter(|t| side(t) == account).cloned().collect()
        };
        let due_debits = due_of(|t| t.debit, debit_id);
        let due_credits = due_of(|t| t.credit, credit_id);
        let debits_pending = debit.debits_pending - due_debits.iter().map(|t| t.amount).sum::<i128>();
        let credits_pending = credit.credits_pending - due_credits.iter().map(|t| t.amount).sum::<i128>();

        // A balancing transfer moves no more than leaves that side's balance at zero.
        let mut amount = asked.unwrap_or(AMOUNT_MAX);
        if item.has(BALANCING_DEBIT) {
            amount = amount.min(debit.credits_posted - debit.debits_posted - debits_pending).max(0);
            if amount == 0 && !item.closes() {
                return Err("exceeds_credits");
            }
        }
        if item.has(BALANCING_CREDIT) {
            amount = amount.min(credit.debits_posted - credit.credits_posted - credits_pending).max(0);
            if amount == 0 && !item.closes() {
                return Err("exceeds_debits");
            }
        }
        // Nothing can bring back to zero what is below it already.
        let debits_limited = debit.debits_limited || item.has(BALANCING_DEBIT);
        let credits_limited = credit.credits_limited || item.has(BALANCING_CREDIT);
        if pending && debits_pending + amount > AMOUNT_MAX {
            return Err("overflows_debits_pending");
        }
        if pending && credits_pending + amount > AMOUNT_MAX {
            return Err("overflows_credits_pending");
        }
        if debit.debits_posted + amount > AMOUNT_MAX {
            return Err("overflows_debits_posted");
        }
        if credit.credits_posted + amount > AMOUNT_MAX {
            return Err("overflows_credits_posted");
        }
        if debits_pending + debit.debits_posted + amount > AMOUNT_MAX {
            return Err("overflows_debits");
        }
        if credits_pending + credit.credits_posted + amount > AMOUNT_MAX {
            return Err("overflows_credits");
        }
        if timeout_ms > TIMEOUT_MS_MAX {
            return Err("overflows_timeout");
        }
        if debits_limited && debits_pending + debit.debits_posted + amount > debit.credits_posted {
            return Err("exceeds_credits");
        }
        if credits_limited && credits_pending + credit.credits_posted + amount > credit.debits_posted {
            return Err("exceeds_debits");
        }

        // Whoever uses freed money writes the expiry; whoever does not need it leaves it be.
        let debits = debit.debits_pending + debit.debits_posted + amount;
        let credits = credit.credits_pending + credit.credits_posted + amount;
        let mut expiring: Vec<Transfer> = Vec::new();
        if debits > AMOUNT_MAX || (debits_limited && debits > debit.credits_posted) {
            expiring.extend(due_debits);
        }
        if credits > AMOUNT_MAX || (credits_limited && credits > credit.debits_posted) {
            expiring.extend(due_credits);
        }
        expiring.sort_by_key(|t| (t.timeout_at, t.id));
        expiring.dedup_by_key(|t| t.id);
        for hold in expiring {
            let hold_id = hold.id.expect("a pending transfer has an id");
            self.holds.insert(hold_id, "expired");
            self.add_pending(&hold, -hold.amount);
            let expiry = Transfer {
                id: None,
                kind: "expire_pending".into(),
                pending: Some(hold_id),
                timeout_at: None,
                reason: "expired".into(),
                flags: 0,
                ..hold
            };
            self.write(command, expiry);
        }
        let transfer = Transfer {
            id: Some(id),
            kind: item.kind.into(),
            debit: debit_id,
            credit: credit_id,
            asset,
            amount,
            pending: None,
            timeout_at: (timeout_ms > 0).then(|| command.at + timeout_ms * 1_000),
            journal: command.journal,
            reason: reason.into(),
            seq: 0,
            item: 0,
            at: 0,
            flags: item.flags,
            reverses,
            effective: item.effective.filter(|time| *time != command.at),
        };
        if let Some(reversed) = reverses {
            self.reversals.insert(reversed, id);
        }
        for (flag, account) in [(CLOSING_DEBIT, debit_id), (CLOSING_CREDIT, credit_id)] {
            if item.has(flag) {
                let account = self.accounts.get_mut(&account).expect("it was found above");
                account.closed = true;
                account.closed_by = Some(id);
            }
        }
        if pending {
            self.holds.insert(id, "pending");
            self.add_pending(&transfer, amount);
        } else {
            self.add_posted(&transfer, amount);
        }
        self.write(command, transfer);
        Ok(())
    }

    fn check_event_time(&self, command: Command, item: &Item) -> Result<(), &'static str> {
        let Some(time) = item.effective else { return Ok(()) };
        if time > command.at {
            return Err("effective_at_must_not_advance");
        }
        if self.period_end.is_some_and(|end| time < end) {
            return Err("effective_at_in_closed_period");
        }
        Ok(())
    }

    fn post_end(&mut self, command: Command, id: Uuid, item: &Item) -> Result<(), &'static str> {
        if item.flags != 0 {
            return Err("flags_are_mutually_exclusive");
        }
        let hold_id = given(item.pending).ok_or("pending_id_must_not_be_zero")?;
        if hold_id.is_max() {
            return Err("pending_id_must_not_be_int_max");
        }
        if hold_id == id {
            return Err("pending_id_must_be_different");
        }
        if item.timeout_ms.unwrap_or(0) != 0 {
            return Err("timeout_reserved_for_pending_transfer");
        }
        if given(item.reverses).is_some() {
            return Err("reversal_must_be_plain");
        }
        let amount = match item.amount.as_deref().map(number) {
            None => None,
            Some(Number::Wrong(result)) => return Err(result),
            Some(Number::Whole(amount)) => Some(amount),
        };
        let posts = item.kind == "post_pending";
        if item.effective.is_some() && !posts {
            return Err("effective_at_reserved_for_posting");
        }
        self.check_event_time(command, item)?;
        let hold = self.find(hold_id).ok_or("pending_transfer_not_found")?.clone();
        if hold.kind != "pending" {
            return Err("pending_transfer_not_pending");
        }
        if given(item.debit).is_some_and(|debit| debit != hold.debit) {
            return Err("pending_transfer_has_different_debit_account_id");
        }
        if given(item.credit).is_some_and(|credit| credit != hold.credit) {
            return Err("pending_transfer_has_different_credit_account_id");
        }
        if item.asset.is_some_and(|asset| asset != 0 && asset != hold.asset) {
            return Err("pending_transfer_has_different_asset");
        }
        let amount = amount.unwrap_or(hold.amount);
        if amount > hold.amount {
            return Err("exceeds_pending_transfer_amount");
        }
        if !posts && amount < hold.amount {
            return Err("pending_transfer_has_different_amount");
        }
        match self.holds[&hold_id] {
            "posted" => return Err("pending_transfer_already_posted"),
            "voided" => return Err("pending_transfer_already_voided"),
            "expired" => return Err("pending_transfer_expired"),
            _ => {}
        }
        if hold.timeout_at.is_some_and(|end| end <= command.at) {
            return Err("pending_transfer_expired");
        }
        // The only movement in a closed account is the release of a hold.
        if posts && self.accounts[&hold.debit].closed {
            return Err("debit_account_already_closed");
        }
        if posts && self.accounts[&hold.credit].closed {
            return Err("credit_account_already_closed");
        }
        // The void of what closed an account opens it again.
        for account in self.accounts.values_mut().filter(|account| account.closed_by == Some(hold_id)) {
            account.closed = false;
            account.closed_by = None;
        }
        self.holds.insert(hold_id, if posts { "posted" } else { "voided" });
        self.add_pending(&hold, -hold.amount);
        if posts {
            self.add_posted(&hold, amount);
        }
        let reason = item
            .reason
            .filter(|reason| !reason.is_empty())
            .map_or_else(|| hold.reason.clone(), str::to_owned);
        let end = Transfer {
            id: Some(id),
            kind: item.kind.into(),
            amount,
            pending: Some(hold_id),
            timeout_at: None,
            journal: command.journal,
            reason,
            flags: 0,
            effective: item.effective.filter(|time| *time != command.at),
            ..hold
        };
        self.write(command, end);
        Ok(())
    }

    /// A transfer of this id was posted before: is it the same?
    fn compare(&self, item: &Item, old: &Transfer) -> &'static str {
        let pending = given(item.pending);
        if item.kind != old.kind || item.flags != old.flags {
            return "exists_with_different_flags";
        }
        if pending != old.pending {
            return "exists_with_different_pending_id";
        }
        if given(item.reverses) != old.reverses {
            return "exists_with_different_reverses_id";
        }
        let timeout_ms = old.timeout_at.map_or(0, |end| (end - old.at) / 1_000);
        if item.timeout_ms.unwrap_or(0) != timeout_ms {
            return "exists_with_different_timeout";
        }
        // A post or void may leave out what its pending transfer says.
        let hold = pending.and_then(|id| self.find(id));
        let debit = if hold.is_some() { given(item.debit).or(Some(old.debit)) } else { item.debit };
        let credit = if hold.is_some() { given(item.credit).or(Some(old.credit)) } else { item.credit };
        let asset =
            if hold.is_some() { item.asset.filter(|a| *a != 0).or(Some(old.asset)) } else { item.asset };
        // What was cut the first time may be asked for again, or all that can be spared.
        let amount = match item.amount.as_deref().map(number) {
            None if item.balances() => Some(old.amount),
            None | Some(Number::Wrong("amount_must_not_be_zero")) if item.closes() => Some(0),
            Some(Number::Whole(amount)) if item.balances() => Some(amount.min(old.amount)),
            Some(Number::Whole(amount)) => Some(amount),
            Some(Number::Wrong(_)) => None,
            None => hold.map(|hold| hold.amount),
        };
        let reason = match hold {
            Some(hold) => Some(item.reason.filter(|r| !r.is_empty()).unwrap_or(&hold.reason)),
            None => item.reason,
        };
        if debit != Some(old.debit) {
            "exists_with_different_debit_account_id"
        } else if credit != Some(old.credit) {
            "exists_with_different_credit_account_id"
        } else if amount != Some(old.amount) {
            "exists_with_different_amount"
        } else if asset != Some(old.asset) {
            "exists_with_different_asset"
        } else if reason != Some(old.reason.as_str()) {
            "exists_with_different_reason"
        } else if item.effective.filter(|time| *time != old.at) != old.effective {
            "exists_with_different_effective_at"
        } else {
            "exists"
        }
    }

    fn find(&self, id: Uuid) -> Option<&Transfer> {
        self.transfers.iter().find(|t| t.id == Some(id))
    }

    fn is_open(&self, transfer: &Transfer) -> bool {
        transfer.kind == "pending" && transfer.id.is_some_and(|id| self.holds[&id] == "pending")
    }

    fn add_pending(&mut self, transfer: &Transfer, amount: i128) {
        self.accounts.get_mut(&transfer.debit).expect("debit account").debits_pending += amount;
        self.accounts.get_mut(&transfer.credit).expect("credit account").credits_pending += amount;
    }

    fn add_posted(&mut self, transfer: &Transfer, amount: i128) {
        self.accounts.get_mut(&transfer.debit).expect("debit account").debits_posted += amount;
        self.accounts.get_mut(&transfer.credit).expect("credit account").credits_posted += amount;
    }

    fn write(&mut self, command: Command, mut transfer: Transfer) {
        transfer.seq = command.seq;
        transfer.at = command.at;
        let before = self.transfers.iter().filter(|t| t.seq == command.seq).count();
        if transfer.id != Some(transfer.journal) {
            self.journals.insert((transfer.journal, command.seq));
        }
        transfer.item = i32::try_from(before + 1).expect("few items");
        self.transfers.push(transfer);
    }
}

/// Results that might differ at a later try.
fn spends_id(result: &str) -> bool {
    BTreeSet::from([
        "debit_account_not_found",
        "credit_account_not_found",
        "pending_transfer_not_found",
        "reversed_transfer_not_found",
        "exceeds_credits",
        "exceeds_debits",
        "debit_account_already_closed",
        "credit_account_already_closed",
    ])
    .contains(result)
}

fn unix_ms(id: Uuid) -> i64 {
    i64::try_from(id.as_u128() >> 80).expect("48 bits")
}
