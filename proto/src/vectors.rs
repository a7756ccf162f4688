//! Published vectors in bulk. The folder is the one `ECON_DATA` names, or `../shared/data` beside the workspace; a
//! fresh clone has none, and each test then says which vectors it did without. A few of each kind are retyped in the
//! modules' own tests, which always run.

use std::fs;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::Value;

use crate::ids::Hash32;
use crate::keys::{KeyPair, PublicKey};
use crate::merkle::{TreeHash, verify_consistency, verify_inclusion};

/// The vectors at `path` below `vectors/`, or `None` after naming the skip.
fn vectors(path: &str) -> Option<PathBuf> {
    let data = std::env::var_os("ECON_DATA")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data"), PathBuf::from);
    let found = data.join("vectors").join(path);
    if found.exists() {
        return Some(found);
    }
    eprintln!("SKIPPED vectors/{path}: not there; set ECON_DATA to the folder that holds vectors/");
    None
}

fn json(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

/// Every .json file below `dir`, folders included.
fn json_files(dir: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(json_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "json") {
            files.push(path);
        }
    }
    files.sort();
    files
}

fn hex_of(value: &Value) -> Vec<u8> {
    hex::decode(value.as_str().unwrap()).unwrap()
}

#[test]
fn rfc_8032_vectors_sign_and_verify() {
    let Some(path) = vectors("ed25519/rfc8032-ed25519.json") else { return };
    let tests = json(&path);
    let tests = tests.as_array().unwrap();
    assert!(tests.len() >= 3);
    for (n, test) in tests.iter().enumerate() {
        let key = KeyPair::from_seed(&hex_of(&test["priv"]).try_into().unwrap());
        let (message, signature) = (hex_of(&test["msg"]), hex_of(&test["sig"]));
        assert_eq!(key.public(), &PublicKey::from_slice(&hex_of(&test["pub"])).unwrap(), "test {n}");
        assert_eq!(key.sign(&message).to_vec(), signature, "test {n}");
        assert_eq!(key.public().verify(&message, &signature), Ok(()), "test {n}");
    }
}

#[test]
fn wycheproof_agrees_about_every_signature() {
    let Some(path) = vectors("wycheproof/ed25519_test.json") else { return };
    let file = json(&path);
    let (mut valid, mut invalid) = (0, 0);
    for group in file["testGroups"].as_array().unwrap() {
        let key = PublicKey::from_slice(&hex_of(&group["publicKey"]["pk"]));
        for test in group["tests"].as_array().unwrap() {
            let verified = key
                .as_ref()
                .is_ok_and(|key| key.verify(&hex_of(&test["msg"]), &hex_of(&test["sig"])).is_ok());
            let expected = test["result"] == "valid";
            assert_eq!(verified, expected, "test {} ({})", test["tcId"], test["comment"]);
            if expected { valid += 1 } else { invalid += 1 }
        }
    }
    assert_eq!(valid + invalid, file["numberOfTests"].as_u64().unwrap());
    assert!(valid > 0 && invalid > 0);
}

#[test]
fn blake3_vectors_agree() {
    let Some(path) = vectors("blake3/test_vectors.json") else { return };
    let file = json(&path);
    let cases = file["cases"].as_array().unwrap();
    assert!(!cases.is_empty());
    for case in cases {
        let length = case["input_len"].as_u64().unwrap();
        let input: Vec<u8> = (0..=250_u8).cycle().take(usize::try_from(length).unwrap()).collect();
        let expected = &case["hash"].as_str().unwrap()[..64];
        assert_eq!(Hash32::of(&input).to_string(), expected, "length {length}");
    }
}

fn base64_of(value: &Value) -> Vec<u8> {
    value.as_str().map_or_else(Vec::new, |text| BASE64.decode(text).unwrap())
}

/// `None` for what our types refuse: hashes that have not 32 bytes.
fn tree_hash(value: &Value) -> Option<TreeHash> {
    TreeHash::from_slice(&base64_of(value)).ok()
}

fn proof(value: &Value) -> Option<Vec<TreeHash>> {
    value.as_array().map_or(Some(Vec::new()), |hashes| hashes.iter().map(tree_hash).collect())
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap()
}

/// Runs every file below `folder` and compares the answer with its `wantErr`.
fn check_merkle(folder: &str, verify: impl Fn(&Value) -> bool) {
    let Some(path) = vectors(&format!("merkle/testdata/{folder}")) else { return };
    let (mut good, mut bad) = (0, 0);
    for file in json_files(&path) {
        let test = json(&file);
        let expected = test["wantErr"] == false;
        assert_eq!(verify(&test), expected, "{}", file.display());
        if expected { good += 1 } else { bad += 1 }
    }
    assert!(good > 0 && bad > 0, "{folder}: {good} good, {bad} bad");
}

#[test]
fn merkle_inclusion_vectors_agree() {
    check_merkle("inclusion", |test| {
        let verify = || {
            let (index, size) = (number(&test["leafIdx"]), number(&test["treeSize"]));
            let (leaf, root) = (tree_hash(&test["leafHash"])?, tree_hash(&test["root"])?);
            verify_inclusion(&leaf, index, size, &proof(&test["proof"])?, &root).ok()
        };
        verify().is_some()
    });
}

#[test]
fn merkle_consistency_vectors_agree() {
    // One good vector compares two placeholders of 12 bytes with each other: roots are filled up to 32 here.
    let root = |value: &Value| {
        let mut bytes = base64_of(value);
        bytes.resize(32, 0);
        tree_hash(&Value::String(BASE64.encode(bytes)))
    };
    check_merkle("consistency", |test| {
        let verify = || {
            let (old, new) = (number(&test["size1"]), number(&test["size2"]));
            let (old_root, new_root) = (root(&test["root1"])?, root(&test["root2"])?);
            verify_consistency(old, new, &proof(&test["proof"])?, &old_root, &new_root).ok()
        };
        verify().is_some()
    });
}

#[test]
fn json_is_hashed_in_the_form_of_rfc_8785() {
    let Some(folder) = vectors("jcs/testdata") else { return };
    let mut checked = 0;
    for input in json_files(&folder.join("input")) {
        let output = folder.join("output").join(input.file_name().unwrap());
        let found = serde_json_canonicalizer::to_string(&json(&input)).unwrap();
        assert_eq!(found, fs::read_to_string(&output).unwrap().trim_end(), "{}", input.display());
        checked += 1;
    }
    assert!(checked >= 6, "{checked} files");
}
