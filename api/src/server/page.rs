//! `/`: the market at a glance. Drawn here, needs no script.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract::State;
use axum::http::header::CACHE_CONTROL;
use axum::response::{Html, IntoResponse as _, Response};
use ledger::transparency::{self as views, DayVolume, LatencySegment, Outcome};
use ledger::{base, books, receipts};
use tokio::sync::Mutex;

use super::ServerState;
use super::problem::Problem;

/// The views add up the whole market: many visitors at once share one look at them.
const MEMORY: Duration = Duration::from_secs(2);

/// The last drawn page.
#[derive(Debug, Default)]
pub(super) struct Cache(Mutex<Option<(Instant, Arc<str>)>>);

/// GET /.
pub(super) async fn page(State(state): State<Arc<ServerState>>) -> Result<Response, Problem> {
    let mut cached = state.page.0.lock().await;
    let page = match cached.as_ref() {
        Some((at, page)) if at.elapsed() < MEMORY => page.clone(),
        _ => {
            let page: Arc<str> = draw(&state).await?.into();
            *cached = Some((Instant::now(), page.clone()));
            page
        }
    };
    drop(cached);
    Ok(([(CACHE_CONTROL, "no-cache")], Html(page.to_string())).into_response())
}

async fn draw(state: &ServerState) -> Result<String, Problem> {
    let reader = &state.reader;
    let (ledgers, assets) = tokio::try_join!(base::read_ledgers(reader), books::read_assets(reader))?;
    let mut out = String::with_capacity(16 * 1024);
    out.push_str(HEAD);
    for ledger in &ledgers {
        let id = ledger.ledger_id;
        let (supply, volume, outcomes, latency, balance, checkpoint) = tokio::try_join!(
            views::supply(reader, id),
            views::volume_by_day(reader, id, 14),
            views::outcomes(reader, id),
            views::latency_segments(reader, id),
            views::conservation(reader, id),
            receipts::read_checkpoint(reader, id),
        )?;
        let scale =
            |code: &str| assets.iter().find(|asset| asset.code == code).map_or(0, |asset| asset.scale);
        let _ = write!(
            out,
            "<header><h1>{}</h1><p class=\"sub\">Ledger {id} · <code>{}</code>{}</p></header>",
            escape(&ledger.name),
            escape(&ledger.origin),
            if state.pipeline.clock().is_simulated() {
                " · <b class=\"tag\">simulated time</b>"
            } else {
                ""
            }
        );
        let ended = |state: &str| -> u64 {
            outcomes.iter().filter(|row| row.state == state).map(|row| row.orders).sum()
        };
        let (settled, refunded) = (ended("settled"), ended("refunded"));
        let reachable: u64 = supply.iter().map(|row| row.providers_reachable).sum();
        let providers: u64 = supply.iter().map(|row| row.providers).sum();
        let balanced = balance.iter().all(|asset| asset.difference == "0");
        out.push_str("<section class=\"cards\">");
        card(&mut out, &group(ledger.last_seq), "commands, each with a receipt", "");
        card(&mut out, &group(settled), "orders settled", "");
        card(&mut out, &group(refunded), "orders refunded", "");
        card(&mut out, &format!("{reachable} / {providers}"), "providers reachable", "");
        let (word, class) = match (balance.is_empty(), balanced) {
            (true, _) => ("–", ""),
            (false, true) => ("balanced", " good"),
            (false, false) => ("NOT BALANCED", " bad"),
        };
        card(&mut out, word, "books: debits = credits", class);
        out.push_str("</section><div class=\"grid\">");
        draw_outcomes(&mut out, &outcomes, scale);
        draw_latency(&mut out, &latency);
        draw_volume(&mut out, &volume);
        draw_supply(&mut out, &supply, scale);
        draw_books(&mut out, &balance);
        draw_checkpoint(&mut out, id, checkpoint.as_ref());
        out.push_str("</div>");
    }
    if ledgers.is_empty() {
        out.push_str("<header><h1>No ledger yet</h1><p class=\"sub\">The first command of a ledger is its genesis.</p></header>");
    }
    out.push_str(FOOT);
    Ok(out)
}

fn card(out: &mut String, value: &str, label: &str, class: &str) {
    let _ = write!(out, "<div class=\"card{class}\"><b>{}</b><span>{label}</span></div>", escape(value));
}

fn draw_outcomes(out: &mut String, outcomes: &[Outcome], scale: impl Fn(&str) -> i16) {
    out.push_str("<section><h2>Outcomes</h2>");
    if outcomes.is_empty() {
        out.push_str("<p class=\"none\">No orders yet.</p></section>");
        return;
    }
    out.push_str("<table><thead><tr><th>state</th><th class=\"n\">orders</th><th></th><th class=\"n\">paid</th><th class=\"n\">refunded</th></tr></thead><tbody>");
    for row in outcomes {
        let money = |amount: Option<proto::money::Amount>| {
            amount.map_or_else(|| "–".to_owned(), |amount| units(&amount.to_string(), scale(&row.asset)))
        };
        let cause =
            row.cause.as_deref().map(|cause| format!(" <i>{}</i>", escape(cause))).unwrap_or_default();
        let _ = write!(
            out,
            "<tr><td><span class=\"dot {state}\"></span>{state}{cause}</td><td class=\"n\">{}</td><td class=\"bar\">{}</td>\
             <td class=\"n\">{}</td><td class=\"n\">{} <small>{}</small></td></tr>",
            group(row.orders),
            bar(row.share_of_orders, &row.state),
            money(row.paid),
            money(row.refunded),
            escape(&row.asset),
            state = escape(&row.state),
        );
    }
    out.push_str("</tbody></table></section>");
}

fn draw_latency(out: &mut String, latency: &[LatencySegment]) {
    out.push_str("<section><h2>Latency by segment</h2>");
    if latency.is_empty() {
        out.push_str("<p class=\"none\">No settled order yet.</p></section>");
        return;
    }
    let longest = latency.iter().map(|row| row.p95_ms).fold(1.0, f64::max);
    out.push_str("<table><thead><tr><th>segment</th><th class=\"n\">p50</th><th class=\"n\">p95</th><th></th></tr></thead><tbody>");
    for row in latency {
        let _ = write!(
            out,
            "<tr><td>{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td><td class=\"bar\">{}</td></tr>",
            escape(&row.segment),
            milliseconds(row.p50_ms),
            milliseconds(row.p95_ms),
            bar(row.p95_ms / longest, "latency"),
        );
    }
    out.push_str("</tbody></table></section>");
}

fn draw_volume(out: &mut String, volume: &[DayVolume]) {
    out.push_str("<section><h2>Volume by day</h2>");
    if volume.is_empty() {
        out.push_str("<p class=\"none\">Nothing closed yet.</p></section>");
        return;
    }
    let most = volume.iter().map(|day| day.orders_settled).max().unwrap_or(1).max(1);
    out.push_str("<table><thead><tr><th>day</th><th>work class</th><th class=\"n\">settled</th><th></th><th class=\"n\">refunded</th><th class=\"n\">paid</th></tr></thead><tbody>");
    for day in volume {
        #[allow(clippy::cast_precision_loss, reason = "the width of a bar")]
        let part = day.orders_settled as f64 / most as f64;
        let _ = write!(
            out,
            "<tr><td>{}</td><td>{}</td><td class=\"n\">{}</td><td class=\"bar\">{}</td><td class=\"n\">{}</td><td class=\"n\">{} <small>{}</small></td></tr>",
            escape(&day.day),
            escape(&day.work_class),
            group(day.orders_settled),
            bar(part, "settled"),
            group(day.orders_refunded),
            units(&day.paid.to_string(), day.scale),
            escape(&day.asset),
        );
    }
    out.push_str("</tbody></table></section>");
}

fn draw_supply(out: &mut String, supply: &[views::Supply], scale: impl Fn(&str) -> i16) {
    out.push_str("<section><h2>Supply</h2>");
    if supply.is_empty() {
        out.push_str("<p class=\"none\">No active capability ad.</p></section>");
        return;
    }
    out.push_str("<table><thead><tr><th>work class</th><th>region</th><th class=\"n\">reachable</th><th class=\"n\">owners</th><th class=\"n\">devices</th><th class=\"n\">price from</th></tr></thead><tbody>");
    for row in supply {
        let _ = write!(
            out,
            "<tr><td>{}</td><td>{}</td><td class=\"n\">{} / {}</td><td class=\"n\">{}</td><td class=\"n\">{}</td><td class=\"n\">{} <small>{}</small></td></tr>",
            escape(&row.work_class),
            escape(&row.region),
            row.providers_reachable,
            row.providers,
            row.owners,
            row.devices,
            units(&row.min_price.to_string(), scale(&row.asset)),
            escape(&row.asset),
        );
    }
    out.push_str("</tbody></table></section>");
}

fn draw_books(out: &mut String, balance: &[views::Conservation]) {
    out.push_str("<section><h2>Conservation</h2>");
    if balance.is_empty() {
        out.push_str("<p class=\"none\">No account yet.</p></section>");
        return;
    }
    out.push_str("<table><thead><tr><th>asset</th><th class=\"n\">accounts</th><th class=\"n\">debits</th><th class=\"n\">credits</th><th class=\"n\">difference</th></tr></thead><tbody>");
    for row in balance {
        let class = if row.difference == "0" { "good" } else { "bad" };
        let _ = write!(
            out,
            "<tr><td>{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td><td class=\"n {class}\">{}</td></tr>",
            escape(&row.asset),
            group(row.accounts),
            units(&row.debits, row.scale),
            units(&row.credits, row.scale),
            units(&row.difference, row.scale),
        );
    }
    out.push_str("</tbody></table></section>");
}

fn draw_checkpoint(out: &mut String, ledger_id: u32, checkpoint: Option<&receipts::StoredCheckpoint>) {
    out.push_str("<section><h2>Latest checkpoint</h2>");
    match checkpoint {
        Some(checkpoint) => {
            let _ = write!(
                out,
                "<p>{} receipts under one signed root. <a href=\"/v1/ledgers/{ledger_id}/checkpoint\">Signed note</a></p><pre>{}</pre>",
                group(checkpoint.head.size),
                escape(&checkpoint.note)
            );
        }
        None => out.push_str("<p class=\"none\">None yet.</p>"),
    }
    out.push_str("</section>");
}

/// A bar of a part between 0 and 1, as an inline drawing.
fn bar(part: f64, class: &str) -> String {
    let width = (part.clamp(0.0, 1.0) * 100.0).max(0.6);
    format!(
        "<svg viewBox=\"0 0 100 8\" preserveAspectRatio=\"none\" aria-hidden=\"true\"><rect class=\"{}\" width=\"{width:.1}\" height=\"8\" rx=\"1\"/></svg>",
        escape(class)
    )
}

fn milliseconds(ms: f64) -> String {
    match ms {
        ms if ms >= 10_000.0 => format!("{:.1} s", ms / 1_000.0),
        ms if ms >= 100.0 => format!("{ms:.0} ms"),
        ms => format!("{ms:.1} ms"),
    }
}

/// Digits in groups of three.
fn group(number: u64) -> String {
    group_digits(&number.to_string())
}

fn group_digits(digits: &str) -> String {
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push('\u{202f}');
        }
        out.push(digit);
    }
    out
}

/// Minor units, signed, as units of an asset with `scale` decimal places.
fn units(minor: &str, scale: i16) -> String {
    let (sign, digits) = minor.strip_prefix('-').map_or(("", minor), |digits| ("-", digits));
    let scale = usize::try_from(scale).unwrap_or(0);
    let padded = format!("{digits:0>width$}", width = scale + 1);
    let (whole, fraction) = padded.split_at(padded.len() - scale);
    let fraction = fraction.trim_end_matches('0');
    let dot = if fraction.is_empty() { "" } else { "." };
    format!("{sign}{}{dot}{fraction}", group_digits(whole))
}

fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            other => out.push(other),
        }
    }
    out
}

const HEAD: &str = "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\">\
<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"><title>Open Agent Economy</title>\
<link rel=\"stylesheet\" href=\"/assets/econ.css\"></head><body><nav><a class=\"brand\" href=\"/\">Open Agent Economy</a>\
<span><a href=\"/graphql\">GraphiQL</a><a href=\"/openapi.json\">OpenAPI</a><a href=\"/v1/info\">Info</a>\
<a href=\"/metrics\">Metrics</a><a href=\"/readyz\">Ready</a></span></nav><main>";

const FOOT: &str = "</main><footer>Amounts are exact integers. Times are ledger time. \
Every command, refusals included, has a signed receipt in the log above.</footer></body></html>";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn money_is_drawn_without_loss() {
        for (minor, scale, expected) in [
            ("0", 6, "0"),
            ("1", 6, "0.000001"),
            ("1500000", 6, "1.5"),
            ("-2000000", 6, "-2"),
            ("1234567890000000", 6, "1\u{202f}234\u{202f}567\u{202f}890"),
            ("42", 0, "42"),
        ] {
            assert_eq!(units(minor, scale), expected);
        }
    }

    #[test]
    fn nothing_from_outside_becomes_markup() {
        assert_eq!(escape("<b a='\"'>&"), "&lt;b a=&#39;&quot;&#39;&gt;&amp;");
        assert!(bar(0.5, "\"><script>").contains("&quot;&gt;&lt;script&gt;"));
    }
}
