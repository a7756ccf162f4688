//! `econ key`: the caller's own key.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use proto::ids::AgentId;
use proto::keys::KeyPair;

use super::failure::{Failure, Outcome};
use super::say;

/// What to do with keys.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum KeyCommand {
    /// Make a new key; an existing one is never replaced
    New {
        /// Where to keep it [default: econ/key.pem in your configuration folder]
        file: Option<PathBuf>,
        /// Print one JSON object
        #[arg(long)]
        json: bool,
    },
    /// Show the public half and the agent id of a key
    Show {
        /// Which [default: econ/key.pem in your configuration folder]
        file: Option<PathBuf>,
        /// Print one JSON object
        #[arg(long)]
        json: bool,
    },
}

/// `econ key …`.
pub(crate) fn run(command: KeyCommand) -> Outcome {
    match command {
        KeyCommand::New { file, json } => {
            let path = file.map_or_else(default_path, Ok)?;
            if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
                make_private(folder)?;
            }
            let key = KeyPair::generate()?;
            key.save(&path)?;
            show(&path, &key, json);
            if !json {
                say("Keep that file: whoever has it is this agent, and nobody can make it again.");
                say("Next: `econ register` makes the agent known to a market.");
            }
        }
        KeyCommand::Show { file, json } => {
            let path = file.map_or_else(default_path, Ok)?;
            show(&path, &load(&path)?, json);
        }
    }
    Ok(())
}

/// A key from a file, with a word about how to get one.
pub(crate) fn load(path: &Path) -> Outcome<KeyPair> {
    if !path.exists() {
        return Err(Failure::new(
            "UI112",
            format!(
                "there is no key at {}: make one with `econ key new`, or name one with --key",
                path.display()
            ),
        ));
    }
    Ok(KeyPair::load(path)?)
}

/// The key of a file, made when there is none yet.
pub(crate) fn load_or_make(path: &Path) -> Outcome<Arc<KeyPair>> {
    if !path.exists() {
        if let Some(folder) = path.parent() {
            make_private(folder)?;
        }
        KeyPair::generate()?.save(path)?;
    }
    Ok(Arc::new(KeyPair::load(path)?))
}

/// Where a person's key is when nothing else is said.
pub(crate) fn default_path() -> Outcome<PathBuf> {
    let absolute =
        |variable: &str| std::env::var_os(variable).map(PathBuf::from).filter(|dir| dir.is_absolute());
    absolute("XDG_CONFIG_HOME")
        .or_else(|| absolute("HOME").map(|home| home.join(".config")))
        .map(|dir| dir.join("econ").join("key.pem"))
        .ok_or_else(|| Failure::usage("there is no home folder to keep a key in: name a file"))
}

fn show(path: &Path, key: &KeyPair, json: bool) {
    let agent = AgentId::of_first_key(key.public());
    if json {
        let (file, public, id) = (path.display().to_string(), key.public().to_string(), key.id().to_string());
        say(
            serde_json::json!({ "file": file, "agent_id": agent.to_string(), "public_key": public, "key_id": id }),
        );
    } else {
        say(format_args!("file        {}", path.display()));
        say(format_args!("agent id    {agent}"));
        say(format_args!("public key  {}", key.public()));
        say(format_args!("key id      {}", key.id()));
    }
}

/// Makes a folder, and those above it, for this user only.
pub(crate) fn make_private(folder: &Path) -> Outcome {
    let mut builder = std::fs::DirBuilder::new();
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.recursive(true).create(folder).map_err(Failure::io("cannot create", folder))
}
