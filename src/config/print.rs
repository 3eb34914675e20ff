//! The table printed: the effective configuration and the sample file.

use std::hash::{DefaultHasher, Hash, Hasher};

use serde_json::{Map, Value as Json};

use super::Config;
use super::table::{Body, Key, SECTIONS};
use super::value::text;

/// What the table knows about one key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyInfo {
    /// The section.
    pub section: &'static str,
    /// The key.
    pub key: &'static str,
    /// The default as text, empty where it is to have none.
    pub default: &'static str,
    /// One line of explanation.
    pub about: &'static str,
}

/// Every key, in the order of the sample file. The sections whose keys are names have none here.
pub fn keys() -> impl Iterator<Item = KeyInfo> {
    SECTIONS.iter().flat_map(|section| {
        let keys = match &section.body {
            Body::Keys(keys) => *keys,
            Body::Names(_) => &[],
        };
        keys.iter().map(|key| KeyInfo {
            section: section.name,
            key: key.name,
            default: key.default,
            about: key.about,
        })
    })
}

impl Config {
    /// Tells configurations apart, passwords left aside; the same in every process of one version.
    #[must_use]
    pub fn digest(&self) -> String {
        let mut hasher = DefaultHasher::new();
        self.to_ini().hash(&mut hasher);
        format!("{:016x}", hasher.finish())
    }

    /// Every key with its value, as an ini file. Passwords are masked, and a mask is refused when
    /// the file is read again; otherwise it reads as this configuration.
    #[must_use]
    pub fn to_ini(&self) -> String {
        let mut out = String::new();
        for section in SECTIONS {
            out.push_str(&format!("[{}]\n", section.name));
            for (key, value) in entries(self, &section.body) {
                let line = format!("{} = {}", escaped(&key), escaped(&text(&value)));
                out.push_str(line.trim_end());
                out.push('\n');
            }
            out.push('\n');
        }
        out.truncate(out.trim_end().len());
        out.push('\n');
        out
    }

    /// Every key with its value: numbers and truth values as such, lists as arrays, a key without
    /// a value as null. Passwords are masked.
    #[must_use]
    pub fn to_json(&self) -> Json {
        let section = |body| Json::Object(entries(self, body).into_iter().collect());
        let sections = SECTIONS.iter().map(|it| (it.name.to_owned(), section(&it.body)));
        Json::Object(sections.collect::<Map<_, _>>())
    }
}

fn entries(config: &Config, body: &Body) -> Vec<(String, Json)> {
    match body {
        Body::Keys(keys) => {
            keys.iter().map(|key| (key.name.to_owned(), (key.show)(config))).collect()
        }
        Body::Names(names) => (names.show)(config),
    }
}

fn escaped(text: &str) -> String {
    text.replace(';', "\\;")
}

const SAMPLE_HEAD: &str = "\
; The configuration of mwid. An existing zonkeymwi.conf of res_zonkey_mwi works as it is.
;
; Each key below stands at its default, or shows an example where the default is to have none;
; remove the ; in front of it to change it. Only proxy is required, or [agent] listen. `mwid check` prints
; what mwid understood, and says which line is wrong.
;
; key = value and key => value are the same; an empty value is the default. A ; starts a comment at
; the start of a line or after a space. \\; is always a plain ;, and so is a ; without a space in
; front of it (Asterisk would cut the value there; `mwid check` warns). ;-- to --; is a comment
; over several lines. A file with a password in it should not be readable by all: chmod 0640.
";

/// The sample file, `etc/zonkeymwi.conf`: every key, commented out.
#[must_use]
pub fn sample() -> String {
    let mut out = SAMPLE_HEAD.to_owned();
    for section in SECTIONS {
        out.push_str(&format!("\n; {}\n[{}]\n", section.about, section.name));
        match &section.body {
            Body::Keys(keys) => keys.iter().for_each(|key| out.push_str(&sample_key(key))),
            Body::Names(names) => {
                for (name, value) in names.examples {
                    out.push_str(&format!(";{name} = {value}\n"));
                }
            }
        }
    }
    out
}

fn sample_key(key: &Key) -> String {
    let value = if key.default.is_empty() { key.example } else { key.default };
    format!("; {}\n;{} = {}\n", key.about, key.name, escaped(value))
}
