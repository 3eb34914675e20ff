//! Why a configuration was refused: all that is wrong with it, each with its line.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use thiserror::Error;

use super::secret::MASK;
use crate::config::{ValueError, Way};

/// A refused configuration. `Display` prints one line for each error: `FILE:LINE: what is wrong`.
#[derive(Debug, Error)]
#[error("{}", self.lines())]
pub struct ConfigErrors {
    /// The file, as it was named.
    pub file: PathBuf,
    /// Everything that is wrong with it, by line; never empty.
    pub errors: Vec<ConfigError>,
}

impl ConfigErrors {
    fn lines(&self) -> String {
        let line = |error: &ConfigError| located(&self.file, error.line, &error.to_string());
        self.errors.iter().map(line).collect::<Vec<_>>().join("\n")
    }
}

/// What is said of a configuration, with its place; a text that names the file itself as it is.
pub(crate) fn located(file: &Path, line: Option<usize>, text: &str) -> String {
    let file = file.display().to_string();
    match line {
        Some(line) => format!("{file}:{line}: {text}"),
        None if text.contains(&file) => text.to_owned(),
        None => format!("{file}: {text}"),
    }
}

/// One thing that is wrong.
#[derive(Debug, Error)]
#[error("{problem}")]
pub struct ConfigError {
    /// The line, counted from 1; none when it is about the file as a whole.
    pub line: Option<usize>,
    /// What is wrong.
    #[source]
    pub problem: Problem,
}

impl ConfigError {
    pub(super) fn at(line: usize, problem: Problem) -> Self {
        Self { line: Some(line), problem }
    }

    pub(super) fn of_file(problem: Problem) -> Self {
        Self { line: None, problem }
    }
}

/// What can be wrong with a configuration.
#[derive(Debug, Error)]
pub enum Problem {
    /// The files that it names cannot be used: what `mwid check` looks at beyond the keys.
    #[error(transparent)]
    Files(Box<dyn std::error::Error + Send + Sync>),
    /// The file, or a password file, could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// A byte that is not part of UTF-8 text.
    #[error("not UTF-8; save the file as UTF-8 text")]
    NotUtf8,
    /// A control character outside of a comment.
    #[error("holds the control character {found:?}; remove it")]
    Control {
        /// The character.
        found: char,
    },
    /// A line that is neither a section, a key nor a comment.
    #[error("{word:?} has no \"=\" behind it; write key = value, or ; in front of a comment")]
    NoEquals {
        /// The first word of the line. The rest may be a password.
        word: String,
    },
    /// `= value`
    #[error("no key in front of \"=\"")]
    NoKey,
    /// A key above the first section.
    #[error("{key:?} stands before any section; write [general] above it")]
    OutsideSection {
        /// The key.
        key: String,
    },
    /// `[name` or `[]`
    #[error("not a section; write [name]")]
    SectionSyntax,
    /// `[name](template)`
    #[error(
        "section templates, [{section}](…), are not supported; write the keys into [{section}]"
    )]
    Template {
        /// The section.
        section: String,
    },
    /// `#include`, `#tryinclude`, `#exec`
    #[error("{directive} is not supported; put everything into this file")]
    Directive {
        /// The directive.
        directive: String,
    },
    /// `;--` without `--;`
    #[error("the comment that starts here with \";--\" has no end; close it with \"--;\"")]
    OpenComment,
    /// What rust-ini still refuses; the pass in front of it leaves nothing to refuse.
    #[error("not an ini file")]
    Ini(#[source] ini::ParseError),
    /// A section that mwid does not know.
    #[error("unknown section [{section}]{hint}; valid sections: {valid}")]
    UnknownSection {
        /// Its name.
        section: String,
        /// The near miss, as a clause of the text.
        hint: String,
        /// The sections that exist.
        valid: String,
    },
    /// A key that its section does not have.
    #[error("unknown key {key:?} in [{section}]{hint}; valid keys: {valid}")]
    UnknownKey {
        /// The section.
        section: &'static str,
        /// The key.
        key: String,
        /// The near miss or the right section, as a clause of the text.
        hint: String,
        /// The keys of the section.
        valid: String,
    },
    /// One key twice.
    #[error("[{section}] {key}: given twice, first in line {first}; remove one")]
    Duplicate {
        /// The section.
        section: &'static str,
        /// The key.
        key: String,
        /// The line of the first one.
        first: usize,
    },
    /// A value that its key cannot have.
    #[error("[{section}] {key}: {problem}")]
    Value {
        /// The section.
        section: &'static str,
        /// The key.
        key: String,
        /// What is wrong with the value.
        #[source]
        problem: ValueError,
    },
    /// The only required key.
    #[error("[general] proxy is missing; write the address of the SIP proxy: proxy = host:port")]
    NoProxy,
    /// A way of delivery that does not say where to.
    #[error(
        "the way {way} is used, and [{section}] {key} does not say where; set it, or take {way} out"
    )]
    NoPlace {
        /// The way.
        way: Way,
        /// Its section.
        section: &'static str,
        /// The key that has no value.
        key: &'static str,
    },
    /// An agent that nobody may talk to.
    #[error(
        "[agent] neither trusted nor realm is set, so nobody may subscribe; write trusted = the \
         addresses of the proxies, or realm with [users] or subscribers"
    )]
    NobodyMaySubscribe,
    /// A realm, and nobody in it.
    #[error(
        "[agent] realm: nobody has a password in it; write subscribers = the proxy's database, or [users]"
    )]
    NobodyInRealm,
    /// Passwords, and nobody who asks for them.
    #[error(
        "[agent] realm is missing, so nobody is asked for a password; write realm = the domain"
    )]
    NoRealm,
    /// `listen` names no address that could stand in a header.
    #[error(
        "[agent] listen = udp:{listen} is no address that phones could be told; write bindip = the \
         one that they reach"
    )]
    ListenAnywhere {
        /// The address.
        listen: String,
    },
    /// Two ports for one socket.
    #[error("[general] bindport: the port is that of [agent] listen; remove this line")]
    TwoPorts,
    /// Phones that would never be told.
    #[error(
        "[agent] max_per_account must not be greater than max_dialogs in [database]: the rest would \
         never be told"
    )]
    PerAccount,
    /// The agent's phones would never be told.
    #[error(
        "[delivery] use has no notify, without which nobody tells the phones of [agent]; add it"
    )]
    NoNotify,
    /// The agent's rows would not be found.
    #[error("[database] find_by must be presentity with [agent] listen; remove this line")]
    FindBy,
    /// Two keys which contradict each other.
    #[error("[{section}] {smaller} must not be greater than {greater}")]
    Order {
        /// The section.
        section: &'static str,
        /// The key that must be smaller or equal.
        smaller: &'static str,
        /// Than this one.
        greater: &'static str,
    },
    /// HTTP for everybody in the network.
    #[error(
        "[http] listen: {address} can be reached from other machines, so clients must show a token; write one of token, token_file, token_env, or listen on 127.0.0.1"
    )]
    NoToken {
        /// The address that is not loopback.
        address: SocketAddr,
    },
    /// Half of what TLS needs.
    #[error("[http] {given} without {missing}; write both, or neither for plain HTTP")]
    HalfTls {
        /// The key that is there.
        given: &'static str,
        /// The key that is not.
        missing: &'static str,
    },
    /// Two sources of one password.
    #[error("[{section}] {key}: the password is already given by {first}; keep one of them")]
    TwoSecrets {
        /// The section.
        section: &'static str,
        /// The later key.
        key: &'static str,
        /// The earlier key.
        first: &'static str,
    },
    /// A password that could not be fetched.
    #[error("[{section}] {key}: {problem}")]
    Secret {
        /// The section.
        section: &'static str,
        /// The key.
        key: &'static str,
        /// What is wrong with it.
        #[source]
        problem: SecretError,
    },
}

/// What is wrong with a password.
#[derive(Debug, Error)]
pub enum SecretError {
    /// Its file could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// Its file is not named by an absolute path.
    #[error(transparent)]
    Path(#[from] ValueError),
    /// Nothing in the file or variable.
    #[error("{place} is empty; put the password there")]
    Empty {
        /// The file or variable.
        place: String,
    },
    /// Not text of one line.
    #[error("{place} holds more than one line of UTF-8 text")]
    Text {
        /// The file or variable.
        place: String,
    },
    /// The environment has no such variable.
    #[error("the environment variable {name} is not set")]
    NoVariable {
        /// Its name.
        name: String,
    },
    /// What the effective configuration prints in place of a password.
    #[error("{MASK} is what mwid prints in place of a password; write the password itself")]
    Mask,
    /// A token that no header can carry.
    #[error("a token has letters, digits and -._~+/ only, and perhaps = at its end")]
    Token,
    /// A password for a database without one.
    #[error("the database of {url} has no password; remove this line")]
    NotWanted {
        /// The key that names the database.
        url: &'static str,
    },
    /// A password for a database that is not named here.
    #[error("a password without url; write url, or remove this line: [database] has its own")]
    NoUrl,
    /// A password, or a server that asks for one, and nobody whose it is.
    #[error("{what} without {user}; write {user} = name")]
    NoUser {
        /// What is there.
        what: &'static str,
        /// The key of the user.
        user: &'static str,
    },
    /// A user and no password.
    #[error("no password; write one of {}", keys.join(", "))]
    NoPassword {
        /// The keys that give one.
        keys: [&'static str; 3],
    },
}

/// A file that could not be read.
#[derive(Debug, Error)]
pub enum ReadError {
    /// The system says no.
    #[error("cannot read {}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A folder, a pipe, a device.
    #[error("{} is not a regular file", path.display())]
    NotAFile {
        /// What was named.
        path: PathBuf,
    },
    /// Larger than any such file can be.
    #[error("{} is larger than {limit} bytes", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// The most that is read.
        limit: u64,
    },
}

/// At most 80 characters of a hostile text, for an error.
pub(super) struct Cut<'a>(pub(super) &'a str);

impl fmt::Display for Cut<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.chars().take(80).try_for_each(|c| write!(f, "{c}"))
    }
}
