//! The program `econ`: the server, and everything a person or a script does with it from a shell.

mod bench;
mod cli;
mod demo;

fn main() -> std::process::ExitCode {
    cli::main()
}
