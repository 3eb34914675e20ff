//! `mwid externnotify` as a program of its own: small, static, gone within a millisecond.

use std::process::ExitCode;

fn main() -> ExitCode {
    mwid::source::externnotify::main(std::env::args_os().skip(1))
}
