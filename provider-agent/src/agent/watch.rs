//! What ends an agent: a signal, or the end of whoever started it.

use std::io::Read;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;

/// How often the parent is looked at.
const PARENT_INTERVAL: Duration = Duration::from_millis(250);

/// Waits for Ctrl-C or SIGTERM, and with `with_parent` for the parent's end too; says which it was.
pub(super) async fn told_to_stop(with_parent: bool) -> std::io::Result<&'static str> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let orphaned = async { if with_parent { orphaned().await } else { std::future::pending().await } };
    Ok(tokio::select! {
        _ = terminate.recv() => "SIGTERM",
        _ = interrupt.recv() => "Ctrl-C",
        why = orphaned => why,
    })
}

/// The parent died (the process was handed to another), or its end of our standard input closed. Both,
/// because a parent that dies between our start and the first look is no longer seen by the first way.
async fn orphaned() -> &'static str {
    let parent = std::os::unix::process::parent_id();
    let (ended, end) = oneshot::channel();
    // A thread of its own: reading standard input cannot be cut short, and must not hold up the runtime.
    std::thread::spawn(move || {
        let mut input = std::io::stdin().lock();
        let mut nothing = [0; 64];
        while matches!(input.read(&mut nothing), Ok(read) if read > 0) {}
        // Nobody waits any more when the agent is already on its way out.
        let _ = ended.send(());
    });
    let handed_on = async {
        let mut ticks = tokio::time::interval(PARENT_INTERVAL);
        while std::os::unix::process::parent_id() == parent {
            ticks.tick().await;
        }
    };
    tokio::select! {
        () = handed_on => "the parent process has ended",
        _ = end => "standard input has ended",
    }
}
