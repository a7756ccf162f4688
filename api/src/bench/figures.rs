//! Measured figures, each with what it is compared with, as a table or as lines of JSON.

use super::{figure, line};
use crate::cli::{say, table};

/// What a benchmark has measured so far.
#[derive(Debug, Default)]
pub(crate) struct Figures(Vec<Figure>);

#[derive(Debug)]
struct Figure {
    name: String,
    value: f64,
    unit: &'static str,
    baseline: Option<(String, f64)>,
}

impl Figures {
    /// Adds one.
    pub(crate) fn note(&mut self, name: &str, value: f64, unit: &'static str, baseline: Option<(&str, f64)>) {
        let baseline = baseline.map(|(name, of)| (name.to_owned(), of));
        tracing::info!(name, value, unit, "measured");
        self.0.push(Figure { name: name.to_owned(), value, unit, baseline });
    }

    /// Lines of JSON, or a table.
    pub(crate) fn show(&self, json: bool) {
        if json {
            for at in &self.0 {
                let of = at.baseline.as_ref().map(|(name, of)| (name.as_str(), *of));
                line(&at.name, at.value, at.unit, of);
            }
            return;
        }
        let mut shown = table::plain(["figure", "value", "unit", "baseline", "its value", "ratio"]);
        for at in &self.0 {
            let of = at.baseline.as_ref().map(|(name, of)| (name.as_str(), *of));
            let shows = figure(&at.name, at.value, at.unit, of);
            let number =
                |value: f64| if value >= 1_000.0 { format!("{value:.0}") } else { format!("{value:.3}") };
            let (name, of) = at.baseline.clone().unzip();
            shown.add_row([
                at.name.clone(),
                number(at.value),
                at.unit.to_owned(),
                name.unwrap_or_default(),
                of.map(number).unwrap_or_default(),
                shows["ratio"].as_f64().map(|ratio| format!("{ratio:.3}")).unwrap_or_default(),
            ]);
        }
        say(shown);
    }
}
