//! Compiles every .proto file of the package with protox: no `protoc` needs to be installed.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::{env, fs};

use prost::Message as _;

/// Where the contracts lie, relative to this crate: the path is the package's name.
const PACKAGE_DIR: &str = "openagents/econ/v1";

fn main() -> Result<(), Box<dyn Error>> {
    let root = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?);
    let out = PathBuf::from(env::var("OUT_DIR")?);
    println!("cargo:rerun-if-changed={PACKAGE_DIR}");

    let files = proto_files(&root.join(PACKAGE_DIR))?;
    let mut compiler = protox::Compiler::new([&root])?;
    // Source info carries the comments: they become the documentation of the generated types.
    compiler.include_imports(true).include_source_info(true).open_files(&files)?;
    let mut descriptors = compiler.file_descriptor_set();
    prost_build::Config::new()
        // The full name of a message is in its DSSE payload type.
        .enable_type_names()
        .out_dir(&out)
        .compile_fds(descriptors.clone())?;

    for file in &mut descriptors.file {
        file.source_code_info = None;
    }
    fs::write(out.join("descriptors.bin"), descriptors.encode_to_vec())?;
    Ok(())
}

/// All .proto files of `dir`, sorted: the descriptor set must not depend on the order of a directory listing.
fn proto_files(dir: &Path) -> Result<Vec<PathBuf>, Box<dyn Error>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "proto") {
            println!("cargo:rerun-if-changed={}", path.display());
            files.push(path);
        }
    }
    files.sort();
    if files.is_empty() {
        return Err(format!("no .proto file in {}", dir.display()).into());
    }
    Ok(files)
}
