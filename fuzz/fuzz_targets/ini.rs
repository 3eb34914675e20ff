//! A configuration: it is refused with lines of the file, or what `mwid check` prints of it reads as
//! the same configuration.
#![no_main]

use std::io;
use std::path::Path;

use libfuzzer_sys::fuzz_target;
use mwid::config::{self, Environment, ReadError};

struct Nothing;

impl Environment for Nothing {
    fn variable(&self, name: &str) -> Option<String> {
        (name == "SECRET").then(|| "s3cret".to_owned())
    }

    fn read(&self, path: &Path, _limit: u64) -> Result<Vec<u8>, ReadError> {
        Err(ReadError::Io { path: path.to_owned(), source: io::ErrorKind::NotFound.into() })
    }
}

/// What stands in place of a password; it is refused when it is read.
const MASK: &str = "********";

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let file = Path::new("fuzz.conf");
    let loaded = match config::parse(file, text, &Nothing) {
        Ok(loaded) => loaded,
        Err(refused) => {
            let lines = text.split('\n').count();
            assert!(!refused.errors.is_empty());
            for error in &refused.errors {
                assert!(error.line.is_none_or(|line| (1..=lines).contains(&line)), "{error}");
                assert!(!error.to_string().contains(['\0', '\r']), "{error:?}");
            }
            return;
        }
    };
    for warning in &loaded.warnings {
        assert!(!warning.to_string().contains("s3cret"));
    }
    let printed = loaded.config.to_ini();
    assert!(!printed.contains(['\0', '\r']) && !printed.contains("s3cret"), "{printed}");
    if !printed.contains(MASK) {
        match config::parse(file, &printed, &Nothing) {
            Ok(again) => assert_eq!(again.config, loaded.config, "{printed}"),
            Err(errors) => panic!("{errors}\n{printed}"),
        }
    }
});
