//! The b24mirror binary: everything is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    b24mirror::cli::main()
}
