//! `sql/` is embedded in this crate; a macro cannot tell cargo about files that appear later.

fn main() {
    println!("cargo:rerun-if-changed=../sql");
}
