//! One package of messages, and the same names on both sides of every border.

use std::collections::BTreeSet;

use prost_types::FileDescriptorSet;
use proto::prost::Message as _;
use regex::Regex;

use super::{files, none, read};

const PACKAGE: &str = "openagents.econ.v1";

fn descriptors() -> FileDescriptorSet {
    FileDescriptorSet::decode(proto::FILE_DESCRIPTOR_SET).unwrap()
}

#[test]
fn every_message_is_in_the_package() {
    let set = descriptors();
    let findings: Vec<String> = set
        .file
        .iter()
        .filter(|file| file.package() != PACKAGE)
        .map(|file| format!("{} is in package {:?}", file.name(), file.package()))
        .collect();
    none("messages outside the contract", &findings);
    assert_eq!(set.file.len(), files("proto", ".proto").len(), "a .proto file is not compiled");
    let elsewhere: Vec<String> = files("", ".proto")
        .into_iter()
        .filter(|name| !name.starts_with("proto/openagents/econ/v1/"))
        .collect();
    none(".proto files outside the package's folder", &elsewhere);
}

#[test]
fn no_crate_makes_messages_of_its_own() {
    let derive = Regex::new(r"derive\([^)]*\bprost::").unwrap();
    let findings: Vec<String> = ["ledger", "splitter", "provider-agent", "analytics", "api"]
        .iter()
        .flat_map(|folder| files(folder, ".rs"))
        .filter(|name| derive.is_match(&read(name)))
        .collect();
    none("messages outside crate proto", &findings);
}

#[test]
fn field_numbers_and_names_are_unique_and_enums_start_unspecified() {
    let mut findings = Vec::new();
    for file in &descriptors().file {
        for message in &file.message_type {
            let numbers: BTreeSet<i32> = message.field.iter().map(|field| field.number()).collect();
            if numbers.len() != message.field.len() {
                findings.push(format!("{}: a field number is used twice", message.name()));
            }
        }
        for one in &file.enum_type {
            let first =
                one.value.first().map(|value| (value.number(), value.name().ends_with("UNSPECIFIED")));
            if first != Some((0, true)) {
                findings.push(format!("{}: its zero must be …_UNSPECIFIED", one.name()));
            }
        }
    }
    none("contract", &findings);
}

/// What a client can ask for is what the dispatcher calls is what the log's table of kinds knows.
#[test]
fn kinds_of_command_are_the_same_in_proto_table_and_dispatcher() {
    let set = descriptors();
    let body =
        set.file.iter().flat_map(|file| &file.message_type).find(|message| message.name() == "CommandBody");
    let contract: BTreeSet<String> = body
        .unwrap()
        .field
        .iter()
        .filter(|field| field.oneof_index.is_some())
        .map(|field| field.name().to_owned())
        .collect();

    let table = names(&inserted("base.command_kinds"), r"\('([a-z_]+)',");

    let calls = names(&read("sql/functions/base/dispatch.sql"), r"when '([a-z_]+)' then");
    assert_eq!(contract, table, "CommandBody and base.command_kinds differ");
    assert_eq!(table, calls, "base.command_kinds and base.dispatch differ");
}

#[test]
fn every_kind_of_command_is_permitted_to_somebody_and_nothing_else_is() {
    let kinds = names(&inserted("base.command_kinds"), r"\('([a-z_]+)',");
    let permitted = names(&inserted("identity.purpose_permits"), r"\('[a-z]+', '([a-z_]+)'\)");
    assert_eq!(kinds, permitted);
}

/// What the migrations, all of them, insert into a table of reference data.
fn inserted(table: &str) -> String {
    let insert = format!("insert into {table} values");
    let schema: String = files("sql/schema", ".sql").iter().map(|name| read(name)).collect();
    schema
        .split(&insert)
        .skip(1)
        .filter_map(|rest| rest.split(");\n").next())
        .map(|rows| format!("{rows})\n"))
        .collect()
}

fn names(text: &str, pattern: &str) -> BTreeSet<String> {
    Regex::new(pattern).unwrap().captures_iter(text).map(|found| found[1].to_owned()).collect()
}
