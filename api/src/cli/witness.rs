//! `econ witness`: cosigns the checkpoints of somebody's logs as long as they only grow. Run it on another machine, under
//! somebody else's hand, than the logs.

use std::net::SocketAddr;
use std::path::PathBuf;

use api::witness::{self, Witness, WitnessOptions};
use proto::note::{KeyUse, NoteName, VerifierKey};
use serde_json::json;

use super::failure::{Failure, Outcome};
use super::{say, stop};

/// Options of `econ witness`.
#[derive(Debug, clap::Args)]
pub(crate) struct WitnessArgs {
    /// Address to listen on
    #[arg(long, value_name = "IP:PORT", default_value = "127.0.0.1:8421")]
    listen: SocketAddr,
    /// Folder of its key and of what it has seen; losing what it has seen makes it worthless
    #[arg(long, value_name = "DIR")]
    dir: PathBuf,
    /// Key of a log to watch, as `GET /v1/info` tells it (log_key, forest_key); may be given several times
    #[arg(long = "log", value_name = "KEY", required = true)]
    logs: Vec<VerifierKey>,
    /// What it is called in its cosignatures [default: after its key]
    #[arg(long, value_name = "NAME")]
    name: Option<NoteName>,
    /// End when the parent process does
    #[arg(long, hide = true)]
    exit_with_parent: bool,
    /// Print one line of JSON when ready
    #[arg(long, hide = true)]
    ready_json: bool,
}

/// Serves until it is told to stop.
pub(crate) async fn run(args: WitnessArgs) -> Outcome {
    let told = stop::told_to_stop(args.exit_with_parent);
    if let Some(log) = args.logs.iter().find(|log| log.usage != KeyUse::Note) {
        return Err(Failure::usage(format!(
            "--log {}: this is the key of a witness, not of a log",
            log.name
        )));
    }
    let options = WitnessOptions { dir: args.dir, logs: args.logs, name: args.name };
    let witness = Witness::open(&options).map_err(Failure::outside)?;
    let (listener, address) = witness::bind(args.listen)
        .await
        .map_err(|error| Failure::outside(format!("cannot listen on {}: {error}", args.listen)))?;
    let (url, key) = (format!("http://{address}"), witness.verifier_key());
    if args.ready_json {
        say(json!({ "url": url, "pid": std::process::id(), "key": key.to_string() }));
    } else {
        say(format_args!("the witness is at {url}"));
        say(format_args!("  server    econ up --witness '{url}={key}'"));
        say("Ctrl-C stops it.");
    }
    let ended = witness::serve(witness, listener, async {
        match told.await {
            Ok(why) => tracing::info!(why, "closing down"),
            Err(error) => tracing::error!(%error, "closing down"),
        }
    });
    ended.await.map_err(|error| Failure::outside(format!("the listener ended: {error}")))
}
