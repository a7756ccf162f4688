//! `econ bench`: figures, each beside a baseline that was taken in the same run on the same machine.

mod baseline;
mod cycle;
mod stats;

use serde_json::{Value, json};

use crate::cli::failure::Outcome;
use crate::cli::say;

/// What to measure.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum BenchCommand {
    /// Full cycles from request to settlement, over HTTP and WebSocket, signatures and receipts on
    Cycle(cycle::CycleArgs),
}

/// Runs a benchmark.
pub(crate) async fn run(command: BenchCommand) -> Outcome {
    match command {
        BenchCommand::Cycle(args) => cycle::run(args).await,
    }
}

/// One line of `--json`.
fn line(bench: &str, value: f64, unit: &str, baseline: Option<(&str, f64)>) {
    say(figure(bench, value, unit, baseline));
}

fn figure(bench: &str, value: f64, unit: &str, baseline: Option<(&str, f64)>) -> Value {
    let rounded = |value: f64| (value * 1_000.0).round() / 1_000.0;
    let ratio =
        baseline.map(|(_, of)| (value / of * 10_000.0).round() / 10_000.0).filter(|ratio| ratio.is_finite());
    json!({
        "bench": bench, "value": rounded(value), "unit": unit,
        "baseline": baseline.map(|(name, _)| name), "baseline_value": baseline.map(|(_, of)| rounded(of)), "ratio": ratio,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_figure_has_exactly_the_agreed_fields() {
        let with = figure("cycle.32", 150.0, "cycles/s", Some(("pgbench_simple_update.8", 1_200.0)));
        assert_eq!(with["ratio"], 0.125);
        let without = figure("cycle.32.total.p50", 12.3456, "ms", None);
        assert_eq!((&without["value"], &without["ratio"]), (&json!(12.346), &Value::Null));
        for value in [with, without] {
            let mut fields: Vec<&String> = value.as_object().unwrap().keys().collect();
            fields.sort();
            assert_eq!(fields, ["baseline", "baseline_value", "bench", "ratio", "unit", "value"]);
        }
    }
}
