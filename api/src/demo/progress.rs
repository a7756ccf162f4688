//! How far a run is: a bar on a terminal, plain lines elsewhere. Always on standard error; standard output is for results.

use std::io::Write as _;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// At least so long between two plain lines.
const LINE_PAUSE: Duration = Duration::from_secs(5);

/// Shows how orders end.
#[derive(Debug)]
pub(crate) struct Progress {
    bar: Option<ProgressBar>,
    total: usize,
    settled: usize,
    refunded: usize,
    said_at: Instant,
}

impl Progress {
    /// For `total` orders; with a bar if somebody watches.
    pub(crate) fn new(total: usize, on_terminal: bool) -> Self {
        let bar = on_terminal.then(|| {
            let bar = ProgressBar::with_draw_target(Some(total as u64), ProgressDrawTarget::stderr());
            // The template is ours; if it were broken, the plain bar would do.
            let style = ProgressStyle::with_template("  {bar:32} {pos:>5}/{len} orders  {msg}  {elapsed}")
                .unwrap_or_else(|_| ProgressStyle::default_bar());
            bar.set_style(style);
            bar.enable_steady_tick(Duration::from_millis(200));
            bar
        });
        Self { bar, total, settled: 0, refunded: 0, said_at: Instant::now() }
    }

    /// An order has ended in this state.
    pub(crate) fn ended(&mut self, state: &str) {
        if state == "settled" {
            self.settled += 1
        } else {
            self.refunded += 1
        }
        let done = self.settled + self.refunded;
        let message = format!("{} settled, {} refunded", self.settled, self.refunded);
        match &self.bar {
            Some(bar) => {
                bar.set_position(done as u64);
                bar.set_message(message);
            }
            None if done == self.total || self.said_at.elapsed() >= LINE_PAUSE => {
                self.said_at = Instant::now();
                self.line(&format!("{done} of {} orders ended: {message}", self.total));
            }
            None => {}
        }
    }

    /// Orders that ended.
    pub(crate) fn done(&self) -> usize {
        self.settled + self.refunded
    }

    /// A line of its own, above the bar.
    pub(crate) fn line(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.println(format!("  {text}")),
            None => line(text),
        }
    }

    /// Nothing more will come.
    pub(crate) fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// A line of progress when there is no bar (yet).
pub(crate) fn line(text: &str) {
    // Progress that nobody can read is no reason to stop.
    let _ = writeln!(std::io::stderr(), "  {text}");
}
