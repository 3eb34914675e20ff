//! What a manager says, in whatever pieces it arrives: see `mwid::source::ami::fuzzing`.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mwid::source::ami::fuzzing::conversation;

fuzz_target!(|data: &[u8]| conversation(data));
