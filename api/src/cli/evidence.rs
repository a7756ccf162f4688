//! `econ evidence` and `econ verify bundle`: an order's proof, and its judgement on any machine.

use std::io::{IsTerminal as _, Read as _, Write as _};
use std::path::{Path, PathBuf};

use ledger::Reader;
use proto::evidence::{self, Judgement, Trust};
use proto::ids::{AgentId, OrderId};
use proto::keys::{KeyPair, PublicKey};
use proto::note::VerifierKey;
use proto::prost::Message as _;
use proto::v1;

use super::client::{ClientArgs, operator_key};
use super::failure::{Failure, Outcome};
use super::files;
use super::place::{Database, PlaceArgs, default_data_dir};
use super::say;

/// Options of `econ evidence`.
#[derive(Debug, clap::Args)]
pub(crate) struct EvidenceArgs {
    /// The order
    order: OrderId,
    /// Write to this file instead of standard output
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Ask this server, with your key, instead of reading the data dir's database
    #[arg(long, env = "ECON_API", value_name = "URL")]
    api: Option<String>,
    /// The key to ask with [default: econ/key.pem in your configuration folder]
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
    /// The ledger
    #[arg(long, value_name = "ID", default_value_t = 1)]
    ledger: u32,
    #[command(flatten)]
    place: PlaceArgs,
}

/// Options of `econ verify bundle`.
#[derive(Debug, clap::Args)]
pub(crate) struct BundleArgs {
    /// The bundle; `-` reads standard input
    file: PathBuf,
    /// The market's receipt key as it was published: 64 hex digits, or a verifier key NAME+HASH+BASE64. Without it the bundle
    /// is only checked against the key that it names itself
    #[arg(long, value_name = "KEY", value_parser = receipt_key)]
    key: Option<PublicKey>,
    /// A witness that must have cosigned: its verifier key NAME+HASH+BASE64. Repeatable
    #[arg(long = "witness", value_name = "VKEY")]
    witnesses: Vec<VerifierKey>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// `econ evidence`: writes the bundle.
pub(crate) async fn evidence(args: EvidenceArgs) -> Outcome {
    if args.output.is_none() && std::io::stdout().is_terminal() {
        return Err(Failure::usage(
            "a bundle is binary: write it to a file with `-o FILE`, then read it with `econ verify bundle FILE`",
        ));
    }
    let bytes =
        if args.api.is_some() || args.key.is_some() { ask(&args).await? } else { read(&args).await? };
    match &args.output {
        Some(path) => files::write_durably(path, &bytes),
        None => std::io::stdout()
            .lock()
            .write_all(&bytes)
            .map_err(|error| Failure::outside(format!("cannot write: {error}"))),
    }
}

/// From a server, as whoever holds the key.
async fn ask(args: &EvidenceArgs) -> Outcome<Vec<u8>> {
    let client = ClientArgs {
        api: args.api.clone(),
        key: args.key.clone(),
        ledger: Some(args.ledger),
        data_dir: args.place.data_dir.clone(),
        json: false,
    };
    let market = client.market().await?;
    let path = format!("/v1/orders/{}/evidence?ledger={}", args.order, args.ledger);
    let bytes = market.client.get(&path, "application/octet-stream").await?;
    Ok(bytes.to_vec())
}

/// From the data dir's own database, as the operator, whether a server runs or not.
async fn read(args: &EvidenceArgs) -> Outcome<Vec<u8>> {
    let mut looked = Vec::new();
    for data_dir in data_dirs(&args.place)? {
        let place = PlaceArgs { data_dir: Some(data_dir.clone()), ..args.place.clone() };
        let key = operator_key(&data_dir);
        if !key.exists() {
            continue;
        }
        let operator = AgentId::of_first_key(KeyPair::load(&key)?.public());
        let database = Database::open(&place).await?;
        let found = match Reader::new(database.config("econ_api"), 2) {
            Ok(reader) => {
                ledger::evidence::read_bundle(&reader, Some(operator), args.ledger, args.order).await
            }
            Err(error) => Err(error),
        };
        database.close().await?;
        if let Some(bundle) = found? {
            return Ok(evidence::to_bytes(&bundle));
        }
        looked.push(data_dir.display().to_string());
    }
    if looked.is_empty() {
        return Err(Failure::new(
            "UI112",
            "this needs the operator's key of a data dir, or a server to ask: name one with --data-dir DIR or --api URL",
        ));
    }
    Err(Failure::new("UM403", format!("there is no order {} in {}", args.order, looked.join(" or "))))
}

/// The data dir that was named; else the house's own, then the demo's.
fn data_dirs(place: &PlaceArgs) -> Outcome<Vec<PathBuf>> {
    match &place.data_dir {
        Some(data_dir) => Ok(vec![data_dir.clone()]),
        None => Ok(vec![default_data_dir("econ")?, default_data_dir("econ-demo")?]),
    }
}

/// `econ verify bundle`: exit status 1 when the evidence does not hold. Needs neither network nor database.
pub(crate) fn bundle(args: &BundleArgs) -> Outcome<bool> {
    let bytes = load(&args.file)?;
    let bundle = evidence::from_bytes(&bytes)
        .map_err(|error| Failure::new("UR151", format!("{}: {error}", args.file.display())))?;
    let trust = Trust { receipt_key: args.key, witnesses: &args.witnesses, rederive: Some(&rederive) };
    let judgement = evidence::judge(&bundle, &trust);
    if args.json {
        say(to_json(&judgement))
    } else {
        say(&judgement)
    }
    Ok(judgement.passed())
}

fn load(path: &Path) -> Outcome<Vec<u8>> {
    let mut bytes = Vec::new();
    // One byte more than is ever judged: then it is refused as too large, and a device without end is not read whole.
    let limit = evidence::BYTES_MAX as u64 + 1;
    if path == Path::new("-") {
        std::io::stdin()
            .take(limit)
            .read_to_end(&mut bytes)
            .map_err(|error| Failure::outside(format!("cannot read standard input: {error}")))?;
    } else {
        let file = std::fs::File::open(path).map_err(Failure::io("cannot read", path))?;
        file.take(limit).read_to_end(&mut bytes).map_err(Failure::io("cannot read", path))?;
    }
    Ok(bytes)
}

fn to_json(judgement: &Judgement) -> serde_json::Value {
    let mut json = serde_json::to_value(judgement).unwrap_or_default();
    json["passed"] = judgement.passed().into();
    json
}

/// From a signed GraphQL request to the command it asks for.
fn rederive(body: &[u8]) -> Result<(u32, Vec<u8>), String> {
    let (ledger_id, command) = api::graphql::command_of(body).map_err(|error| error.to_string())?;
    Ok((ledger_id, v1::CommandBody::encode_to_vec(&command)))
}

/// A public key in hex, or the key of a C2SP verifier key.
fn receipt_key(text: &str) -> Result<PublicKey, String> {
    if text.contains('+') {
        return text.parse::<VerifierKey>().map(|verifier| verifier.key).map_err(|error| error.to_string());
    }
    text.parse().map_err(|_| "a key is 64 hex digits, or NAME+HASH+BASE64".to_owned())
}
