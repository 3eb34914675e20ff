//! What presence servers answer over their interfaces: see `mwid::delivery::fuzzing`.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mwid::delivery::fuzzing::{etag, json_rpc, mi_lines, xml_rpc};

fuzz_target!(|data: &[u8]| {
    json_rpc(data);
    mi_lines(data);
    xml_rpc(data);
    etag(data);
});
