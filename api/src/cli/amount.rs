//! Amounts as people write them. Inside the house there are whole minor units only; decimals live here, at the edge.

use proto::money::Amount;
use provider_agent::client::{AssetInfo, Info};

use super::failure::{Failure, Outcome};

/// The asset with this code (`USD`), whatever its letters' case, or this number.
pub(crate) fn asset<'a>(info: &'a Info, wanted: &str) -> Outcome<&'a AssetInfo> {
    let by_number = wanted.parse::<u32>().ok();
    info.assets
        .iter()
        .find(|asset| asset.code.eq_ignore_ascii_case(wanted) || Some(asset.asset_id) == by_number)
        .ok_or_else(|| {
            let known: Vec<&str> = info.assets.iter().map(|asset| asset.code.as_str()).collect();
            Failure::new(
                "UB123",
                format!("there is no asset {wanted:?} here: choose one of {}", known.join(", ")),
            )
        })
}

/// `1.25` of an asset, as minor units above zero.
pub(crate) fn parse(text: &str, asset: &AssetInfo) -> Outcome<Amount> {
    let refuse =
        |why: String| Failure::new("UB122", format!("{text:?} is not an amount of {}: {why}", asset.code));
    let amount = Amount::from_decimal_str(text, asset.scale).map_err(|error| refuse(error.to_string()))?;
    if amount.is_zero() {
        return Err(refuse("it must be above zero".into()));
    }
    Ok(amount)
}

/// Minor units as a person reads them: thousands apart, no needless zeros, at least two decimal places where the asset
/// has them, and the asset's code. Exact.
pub(crate) fn show(amount: Amount, asset: &AssetInfo) -> String {
    format!("{} {}", decimal(amount, asset.scale), asset.code)
}

/// [`show`] for the text of an API answer; what is not an amount is shown as it came.
pub(crate) fn show_minor(text: &str, asset: &AssetInfo) -> String {
    match Amount::parse_minor(text) {
        Ok(amount) => show(amount, asset),
        Err(_) => format!("{text} {} (minor units)", asset.code),
    }
}

/// Thousands apart, trailing zeros beyond the second decimal place left out.
pub(crate) fn decimal(amount: Amount, scale: u8) -> String {
    let exact = amount.to_decimal_string(scale);
    let (whole, fraction) = exact.split_once('.').unwrap_or((&exact, ""));
    let kept = fraction.trim_end_matches('0').len().max(fraction.len().min(2));
    let whole = thousands(whole);
    if kept == 0 { whole } else { format!("{whole}.{}", &fraction[..kept]) }
}

/// `1234567` as `1,234,567`.
pub(crate) fn thousands(digits: &str) -> String {
    let mut out = String::with_capacity(digits.len() * 4 / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// `1 payee`, `1,234 payees`.
pub(crate) fn counted(count: impl std::fmt::Display, what: &str) -> String {
    let digits = count.to_string();
    let s = if digits == "1" { "" } else { "s" };
    format!("{} {what}{s}", thousands(&digits))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn usd() -> AssetInfo {
        AssetInfo { asset_id: 1, code: "USD".into(), scale: 6 }
    }

    #[test]
    fn people_write_decimals_and_the_house_counts_minor_units() {
        for (text, units) in [("1.25", 1_250_000), ("12", 12_000_000), ("0.000001", 1)] {
            assert_eq!(parse(text, &usd()).unwrap().as_u128(), units, "{text}");
        }
    }

    #[test]
    fn what_is_no_amount_is_refused_with_code_and_reason() {
        for (text, reason) in [
            ("1.0000001", "6"),
            ("0", "above zero"),
            ("0.000000", "above zero"),
            ("-1", "negative"),
            ("NaN", "not a number"),
            ("1e3", "exponent"),
            ("", "empty"),
            ("99999999999999999999999999999", "large"),
        ] {
            let failure = parse(text, &usd()).unwrap_err();
            assert_eq!(failure.code(), Some("UB122"), "{text}");
            let said = failure.to_string().to_lowercase();
            assert!(said.contains(reason), "{text}: {said}");
        }
    }

    #[test]
    fn one_is_singular() {
        assert_eq!((counted(1, "payee"), counted(1_234, "payee")), ("1 payee".into(), "1,234 payees".into()));
    }

    #[test]
    fn amounts_read_well_and_lose_nothing() {
        for (units, text) in [
            (1_250_000, "1.25 USD"),
            (1, "0.000001 USD"),
            (0, "0.00 USD"),
            (1_234_567_890_123, "1,234,567.890123 USD"),
            (12_000_000, "12.00 USD"),
        ] {
            assert_eq!(show(Amount::from_u64(units), &usd()), text);
        }
        let whole = AssetInfo { asset_id: 3, code: "GPUSEC".into(), scale: 0 };
        assert_eq!(show(Amount::from_u64(1_000), &whole), "1,000 GPUSEC");
    }
}
