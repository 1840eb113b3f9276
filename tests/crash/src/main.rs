//! The command `woodchuck-crash`. All of it is in the library beside this file.

use std::process::ExitCode;

fn main() -> ExitCode {
    woodchuck_crash::main()
}
