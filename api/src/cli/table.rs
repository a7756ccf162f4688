//! Tables and times for people.

use comfy_table::{Table, presets};

/// A table without lines, so that it can be copied and piped.
pub(crate) fn plain<const N: usize>(header: [&str; N]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(header);
    // Ids are long; a wrapped id cannot be copied.
    table.set_content_arrangement(comfy_table::ContentArrangement::Disabled);
    table
}

/// A moment of ledger time, in UTC to the second.
pub(crate) fn moment(us: i64) -> String {
    match jiff::Timestamp::from_microsecond(us) {
        Ok(timestamp) => timestamp.strftime("%Y-%m-%d %H:%M:%S").to_string(),
        Err(_) => format!("{us} us"),
    }
}
