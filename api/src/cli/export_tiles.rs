//! `econ export tiles`: a log's checkpoint and tiles in the layout of C2SP tlog-tiles, for any web server.

use std::path::Path;

use ledger::pipeline::write_durably;
use ledger::receipts::{self, log};
use ledger::{Error, Reader};
use proto::tiles::{TILE_WIDTH, TileName, tiles_of};
use serde_json::json;

use super::failure::{Failure, Outcome};
use super::say;

/// Writes the log of a ledger (0: the forest) into a folder. The checkpoint comes last and each file is whole or absent: so
/// whatever checkpoint is there finds all of its tiles, and a run that was cut short is gone on with.
pub(super) async fn run(reader: &Reader, ledger_id: u32, dir: &Path, as_json: bool) -> Outcome {
    let checkpoint = receipts::read_checkpoint(reader, ledger_id).await?;
    let checkpoint =
        checkpoint.ok_or_else(|| Failure::new("UR402", "this log has no signed checkpoint yet"))?;
    let mut written: u64 = 0;
    for tile in tiles_of(checkpoint.head.size) {
        let path = dir.join("tile").join(tile.to_string());
        // What is there under a tile's name is that tile: names state the width, and hashes never change.
        if path.exists() {
            continue;
        }
        write(&path, &read(reader, ledger_id, tile).await?)?;
        written += 1;
    }
    if ledger_id == log::FOREST {
        written += entries(reader, checkpoint.head.size, dir).await?;
    }
    write(&dir.join("checkpoint"), checkpoint.note.as_bytes())?;
    if as_json {
        say(
            json!({ "dir": dir.display().to_string(), "size": checkpoint.head.size, "tiles_written": written }),
        );
    } else {
        say(format_args!(
            "log of {} leaves is in {}: {written} new tiles and its checkpoint",
            checkpoint.head.size,
            dir.display()
        ));
    }
    Ok(())
}

async fn read(reader: &Reader, ledger_id: u32, tile: TileName) -> Outcome<Vec<u8>> {
    let found = log::read_tile(reader, ledger_id, tile.level, tile.index, tile.width).await?;
    found.ok_or_else(|| {
        let why = format!("tile {tile} of the log is missing: run `econ verify`");
        Failure::from(Error::new("UR907", why))
    })
}

/// The forest's entries, which are public: bundles beside the tiles of level 0.
async fn entries(reader: &Reader, size: u64, dir: &Path) -> Outcome<u64> {
    let mut written = 0;
    for tile in tiles_of(size).filter(|tile| tile.level == 0) {
        let name = tile.to_string().replacen("0/", "tile/entries/", 1);
        let path = dir.join(name);
        if path.exists() {
            continue;
        }
        let from = tile.index * u64::from(TILE_WIDTH);
        let mut bytes = Vec::new();
        for entry in log::read_forest_entries(reader, from, tile.width).await? {
            bytes
                .extend_from_slice(&u16::try_from(entry.leaf.len()).map_err(Failure::outside)?.to_be_bytes());
            bytes.extend_from_slice(entry.leaf.as_bytes());
        }
        write(&path, &bytes)?;
        written += 1;
    }
    Ok(written)
}

fn write(path: &Path, bytes: &[u8]) -> Outcome {
    write_durably(path, bytes).map_err(Failure::io("cannot write", path))
}
