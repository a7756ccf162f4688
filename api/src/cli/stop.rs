//! What ends a long-running command: a signal, or the end of whoever started it.

use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};

use super::failure::{Failure, Outcome};

/// How often the parent is looked at.
const PARENT_INTERVAL: Duration = Duration::from_millis(200);

/// Waits for Ctrl-C or SIGTERM, and with `with_parent` for the parent's end too; says which it was.
pub(crate) async fn told_to_stop(with_parent: bool) -> Outcome<&'static str> {
    let listen =
        |kind| signal(kind).map_err(|error| Failure::outside(format!("cannot listen for signals: {error}")));
    let mut terminate = listen(SignalKind::terminate())?;
    let mut interrupt = listen(SignalKind::interrupt())?;
    let orphaned = async { if with_parent { orphaned().await } else { std::future::pending().await } };
    Ok(tokio::select! {
        _ = terminate.recv() => "SIGTERM",
        _ = interrupt.recv() => "Ctrl-C",
        why = orphaned => why,
    })
}

/// The parent died (this process was handed to another), or its end of our standard input closed. Both, because a parent
/// that dies between our start and the first look is no longer seen by the first way.
async fn orphaned() -> &'static str {
    let parent = std::os::unix::process::parent_id();
    let (ended, end) = tokio::sync::oneshot::channel();
    // A thread of its own: reading standard input cannot be cut short, and must not hold up the runtime's end.
    std::thread::spawn(move || {
        let _ = std::io::copy(&mut std::io::stdin().lock(), &mut std::io::sink());
        // Nobody waits any more when the process is already on its way out.
        let _ = ended.send(());
    });
    let handed_on = async {
        while std::os::unix::process::parent_id() == parent {
            tokio::time::sleep(PARENT_INTERVAL).await;
        }
    };
    tokio::select! {
        () = handed_on => "the parent process has ended",
        _ = end => "standard input has ended",
    }
}
