//! The `woodchuck` command. All of it is in the library beside this file.

use std::process::ExitCode;

fn main() -> ExitCode {
    woodchuck_cli::main()
}
