//! `mwid externnotify` as a program of its own: small, static, gone within a millisecond.

use std::process::ExitCode;

use mwid::source::externnotify::{self, Doors};

fn main() -> ExitCode {
    externnotify::main(std::env::args_os().skip(1), Doors::default())
}
