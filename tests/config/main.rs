//! The configuration as an operator meets it: files in, values, errors and warnings out.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use mwid::config::{self, Config, ConfigErrors, Environment, Loaded, ReadError};

mod any_input;
mod errors;
mod files;
mod keys;
mod sample;
mod warnings;

/// Password files and environment variables of a test.
struct Known(BTreeMap<&'static str, &'static [u8]>);

impl Environment for Known {
    fn variable(&self, name: &str) -> Option<String> {
        self.0.get(name).and_then(|bytes| String::from_utf8(bytes.to_vec()).ok())
    }

    fn read(&self, path: &Path, _limit: u64) -> Result<Vec<u8>, ReadError> {
        let found = path.to_str().and_then(|path| self.0.get(path));
        let missing = || ReadError::Io {
            path: path.to_owned(),
            source: io::Error::from(io::ErrorKind::NotFound),
        };
        found.map(|bytes| bytes.to_vec()).ok_or_else(missing)
    }
}

fn known() -> Known {
    Known(BTreeMap::from([
        ("/etc/mwid/password", b"from file\n".as_slice()),
        ("/etc/mwid/two-lines", b"a\nb\n"),
        ("/etc/mwid/empty", b"\n"),
        ("/etc/mwid/latin1", b"\xe9"),
        ("MWID_PASSWORD", b"from env"),
        ("/etc/mwid/token", b"t0ken\n"),
        ("MWID_TOKEN", b"t0ken"),
    ]))
}

fn parse(text: &str) -> Result<Loaded, ConfigErrors> {
    config::parse(Path::new("t.conf"), text, &known())
}

fn good(text: &str) -> Config {
    parse(text).unwrap_or_else(|errors| panic!("{text}\n{errors}")).config
}

/// The errors of a text below `[general]` and its proxy, which are lines 1 and 2.
fn errors_below_proxy(text: &str) -> String {
    let text = format!("[general]\nproxy = p\n{text}");
    parse(&text).err().unwrap_or_else(|| panic!("accepted: {text}")).to_string()
}
