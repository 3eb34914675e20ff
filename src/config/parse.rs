//! From a file to a [`Config`], or to everything that is wrong with it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::Read as _;
use std::path::Path;

use ini::{Ini, ParseOption};

use super::agent;
use super::dialect::{self, Plain};
use super::error::{ConfigError, ConfigErrors, Cut, Problem, ReadError};
use super::table::{Body, Key, Names, SECTIONS, Section};
use super::{Config, Control, ValueError, Warning, Way, secrets, warning};

/// The largest configuration that is read, in bytes.
const MAX_FILE: u64 = 1024 * 1024;

/// A configuration that can be used.
#[derive(Debug)]
pub struct Loaded {
    /// What it says.
    pub config: Config,
    /// What deserves a second look.
    pub warnings: Vec<Warning>,
}

/// Where passwords come from that the file only names.
pub trait Environment {
    /// An environment variable; none when it is not set or not UTF-8.
    fn variable(&self, name: &str) -> Option<String>;

    /// The bytes of a small file.
    ///
    /// # Errors
    /// [`ReadError`] when it cannot be read, is no regular file or larger than `limit` bytes.
    fn read(&self, path: &Path, limit: u64) -> Result<Vec<u8>, ReadError>;
}

/// The environment of this process.
#[derive(Clone, Copy, Debug, Default)]
pub struct Process;

impl Environment for Process {
    fn variable(&self, name: &str) -> Option<String> {
        std::env::var(name).ok()
    }

    fn read(&self, path: &Path, limit: u64) -> Result<Vec<u8>, ReadError> {
        let io = |source| ReadError::Io { path: path.to_owned(), source };
        // Looked at before it is opened: opening a pipe would wait for its other end.
        if !fs::metadata(path).map_err(io)?.is_file() {
            return Err(ReadError::NotAFile { path: path.to_owned() });
        }
        let mut bytes = Vec::new();
        File::open(path).map_err(io)?.take(limit + 1).read_to_end(&mut bytes).map_err(io)?;
        if bytes.len() as u64 > limit {
            return Err(ReadError::TooLarge { path: path.to_owned(), limit });
        }
        Ok(bytes)
    }
}

/// Reads a configuration file, its passwords and the permissions of what holds them.
///
/// # Errors
/// [`ConfigErrors`] with everything that is wrong with it.
pub fn load(path: &Path) -> Result<Loaded, ConfigErrors> {
    let refused = |error| ConfigErrors { file: path.to_owned(), errors: vec![error] };
    let bytes = Process
        .read(path, MAX_FILE)
        .map_err(|error| refused(ConfigError::of_file(error.into())))?;
    let text = String::from_utf8(bytes).map_err(|error| {
        let good = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let line = 1 + good.iter().filter(|&&byte| byte == b'\n').count();
        refused(ConfigError::at(line, Problem::NotUtf8))
    })?;
    let mut loaded = parse(path, &text, &Process)?;
    loaded.warnings.extend(warning::permissions(path, &loaded.config));
    loaded.warnings.extend(warning::reply_folder(&loaded.config));
    Ok(loaded)
}

/// `[control]` alone, as far as it can be read, defaults elsewhere: whatever is wrong with the rest
/// of the file must not keep an operator from the daemon that still runs.
#[must_use]
pub fn control(path: &Path) -> Control {
    let text = Process.read(path, MAX_FILE).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    text.map(|text| read(&text).0.config.control).unwrap_or_default()
}

/// Reads all entries, good and bad.
fn read(text: &str) -> (Reader, Plain) {
    let mut plain = dialect::plain(text);
    let errors = std::mem::take(&mut plain.errors);
    let mut reader = Reader { config: Config::default(), given: Given::default(), errors };
    let option = ParseOption { enabled_quote: false, ..ParseOption::default() };
    match Ini::load_from_str_opt(&plain.text, option) {
        Ok(ini) => reader.all(&ini, &plain.headers, &plain.entries),
        Err(error) => reader.errors.push(ConfigError::at(error.line, Problem::Ini(error))),
    }
    (reader, plain)
}

/// Reads the text of a configuration. `file` is only what errors name.
///
/// # Errors
/// [`ConfigErrors`] with everything that is wrong with it.
pub fn parse(
    file: &Path,
    text: &str,
    environment: &dyn Environment,
) -> Result<Loaded, ConfigErrors> {
    let (Reader { mut config, given, mut errors }, plain) = read(text);
    secrets::fetch(&mut config, &given, environment, &mut errors);
    errors.extend(contradictions(&config, &given));
    errors.extend(agent::contradictions(&config, &given));
    agent::settle(&mut config, &given);
    if errors.is_empty() {
        let warnings = warning::of(&config, &given, &plain.glued);
        return Ok(Loaded { config, warnings });
    }
    errors.sort_by_key(|error| error.line.unwrap_or(usize::MAX));
    Err(ConfigErrors { file: file.to_owned(), errors })
}

/// The entries of known keys.
#[derive(Debug, Default)]
pub(super) struct Given {
    entries: BTreeMap<(&'static str, String), Entry>,
    refused: BTreeSet<(&'static str, String)>,
}

/// One entry.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) line: usize,
    pub(super) value: String,
}

impl Given {
    /// The entry of a key, unless it is empty: an empty value is the default.
    pub(super) fn get(&self, section: &'static str, key: &str) -> Option<&Entry> {
        self.entries.get(&(section, key.to_owned())).filter(|entry| !entry.value.is_empty())
    }

    /// The line of a key.
    pub(super) fn line(&self, section: &'static str, key: &str) -> Option<usize> {
        self.entries.get(&(section, key.to_owned())).map(|entry| entry.line)
    }

    /// Whether the value of a key was refused, so that no conclusion may be drawn from its default.
    pub(super) fn refused(&self, section: &'static str, key: &str) -> bool {
        self.refused.contains(&(section, key.to_owned()))
    }

    /// Section, key and line of each entry.
    pub(super) fn places(&self) -> impl Iterator<Item = (&'static str, &str, usize)> {
        self.entries.iter().map(|((section, key), entry)| (*section, key.as_str(), entry.line))
    }
}

struct Reader {
    config: Config,
    given: Given,
    errors: Vec<ConfigError>,
}

impl Reader {
    /// Reads what rust-ini found. It keeps the order of the file, so the lines that the pass in
    /// front of it wrote down belong to its headers and entries one by one.
    fn all(&mut self, ini: &Ini, headers: &[usize], entries: &[usize]) {
        let (mut headers, mut entries) = (headers.iter(), entries.iter());
        for (name, properties) in ini {
            // Its section without a name is always there and always empty.
            let Some(name) = name else { continue };
            let header = headers.next().copied().unwrap_or_default();
            let section = SECTIONS.iter().find(|section| section.name.eq_ignore_ascii_case(name));
            if section.is_none() {
                self.errors.push(ConfigError::at(header, unknown_section(name)));
            }
            for (key, value) in properties {
                let line = entries.next().copied().unwrap_or_default();
                let Some(section) = section else { continue };
                if let Err(problem) = self.entry(section, line, key, value) {
                    self.errors.push(ConfigError::at(line, problem));
                }
            }
        }
    }

    fn entry(
        &mut self,
        section: &'static Section,
        line: usize,
        name: &str,
        value: &str,
    ) -> Result<(), Problem> {
        let (key, canonical) = match &section.body {
            Body::Keys(keys) => {
                let key = keys.iter().find(|key| key.name.eq_ignore_ascii_case(name));
                let key = key.ok_or_else(|| unknown_key(section, keys, name))?;
                (Some(key), key.name.to_owned())
            }
            Body::Names(names) => match (names.canonical)(name) {
                Ok(canonical) => (None, canonical),
                Err(problem) => return Err(bad_value(section, name, problem)),
            },
        };
        let place = (section.name, canonical.clone());
        if let Some(first) = self.given.entries.get(&place) {
            let first = first.line;
            return Err(Problem::Duplicate { section: section.name, key: canonical, first });
        }
        self.given.entries.insert(place.clone(), Entry { line, value: value.to_owned() });
        let outcome = match (key, &section.body) {
            (Some(Key { set: Some(set), .. }), _) if !value.is_empty() => {
                set(&mut self.config, value)
            }
            (None, Body::Names(Names { add, .. })) => add(&mut self.config, &canonical, value),
            _ => Ok(()),
        };
        outcome.map_err(|problem| {
            self.given.refused.insert(place);
            bad_value(section, &canonical, problem)
        })
    }
}

fn bad_value(section: &Section, key: &str, problem: ValueError) -> Problem {
    Problem::Value { section: section.name, key: Cut(key).to_string(), problem }
}

fn unknown_section(name: &str) -> Problem {
    let names = || SECTIONS.iter().map(|section| section.name);
    Problem::UnknownSection {
        section: Cut(name).to_string(),
        hint: near_miss(name, names())
            .map(|near| format!("; did you mean [{near}]?"))
            .unwrap_or_default(),
        valid: names().collect::<Vec<_>>().join(", "),
    }
}

fn unknown_key(section: &Section, keys: &[Key], name: &str) -> Problem {
    let names = || keys.iter().map(|key| key.name);
    let elsewhere = SECTIONS.iter().find(|other| match &other.body {
        Body::Keys(keys) => keys.iter().any(|key| key.name.eq_ignore_ascii_case(name)),
        Body::Names(_) => false,
    });
    let hint = match (elsewhere, near_miss(name, names())) {
        (Some(other), _) => format!("; it belongs to [{}]", other.name),
        (None, Some(near)) => format!("; did you mean {near:?}?"),
        (None, None) => String::new(),
    };
    let valid = names().collect::<Vec<_>>().join(", ");
    Problem::UnknownKey { section: section.name, key: Cut(name).to_string(), hint, valid }
}

/// The valid name that is at most a third of its letters away.
fn near_miss(name: &str, valid: impl Iterator<Item = &'static str>) -> Option<&'static str> {
    let name = Cut(name).to_string().to_ascii_lowercase();
    valid
        .map(|candidate| (strsim::damerau_levenshtein(&name, candidate), candidate))
        .filter(|(distance, candidate)| distance * 3 <= candidate.len())
        .min()
        .map(|(_, candidate)| candidate)
}

/// What is wrong between keys that are right one by one.
fn contradictions(config: &Config, given: &Given) -> Vec<ConfigError> {
    let mut errors = Vec::new();
    let notifies = config.delivery.uses(Way::Notify) && !agent::goes_without_proxy(config, given);
    let publishes = config.delivery.uses(Way::Publish) && config.publish.server.is_empty();
    let needed = notifies || publishes;
    if needed && config.general.proxy.is_empty() && !given.refused("general", "proxy") {
        let line = given.line("general", "proxy");
        errors.push(ConfigError { line, problem: Problem::NoProxy });
    }
    errors.extend(ways_without_a_place(config, given));
    let timers = &config.timers;
    for (smaller, greater, wrong) in [
        ("t1", "t2", timers.t1 > timers.t2),
        ("retry_min", "retry_max", timers.retry_min > timers.retry_max),
    ] {
        if wrong && !given.refused("timers", smaller) && !given.refused("timers", greater) {
            let line = given.line("timers", greater).or(given.line("timers", smaller));
            let problem = Problem::Order { section: "timers", smaller, greater };
            errors.push(ConfigError { line, problem });
        }
    }
    errors.extend(of_http(config, given));
    errors
}

fn of_http(config: &Config, given: &Given) -> Vec<ConfigError> {
    let mut errors = Vec::new();
    // A token that could not be fetched has its own error.
    let mut keys = secrets::TOKEN.iter().chain(&secrets::READ_TOKEN);
    let wants_token = keys.any(|key| given.get("http", key).is_some());
    let outside = config.http.listen.iter().find(|address| !address.ip().is_loopback());
    if let Some(&address) = outside.filter(|_| !wants_token) {
        let line = given.line("http", "listen");
        errors.push(ConfigError { line, problem: Problem::NoToken { address } });
    }
    let [cert, key] = ["tls_cert", "tls_key"].map(|key| given.get("http", key).map(|it| it.line));
    let (half, given, missing) = match (cert, key) {
        (Some(line), None) => (Some(line), "tls_cert", "tls_key"),
        (None, line) => (line, "tls_key", "tls_cert"),
        (Some(_), Some(_)) => (None, "", ""),
    };
    if let Some(line) = half {
        errors.push(ConfigError::at(line, Problem::HalfTls { given, missing }));
    }
    errors
}

/// The ways that are used and do not say where to.
fn ways_without_a_place(config: &Config, given: &Given) -> Vec<ConfigError> {
    let mut errors = Vec::new();
    for way in Way::ALL.into_iter().filter(|way| config.delivery.uses(*way)) {
        let Some((section, key)) = missing_key(config, way) else { continue };
        if given.refused(section, key) {
            continue;
        }
        let line = given.line("delivery", "use").or_else(|| {
            let named = config.delivery.contexts.iter().find(|(_, ways)| ways.contains(way));
            named.and_then(|(context, _)| given.line("delivery_contexts", context))
        });
        errors.push(ConfigError { line, problem: Problem::NoPlace { way, section, key } });
    }
    errors
}

/// The key that a way cannot do without and that has no value: its section and name.
fn missing_key(config: &Config, way: Way) -> Option<(&'static str, &'static str)> {
    let (section, key, is_set) = match way {
        Way::Notify | Way::Publish => return None,
        Way::OpensipsMi => ("opensips-mi", "url", config.opensips_mi.url.is_some()),
        Way::KamailioRpc => ("kamailio-rpc", "url", config.kamailio_rpc.url.is_some()),
        Way::Sipx => ("sipx", "publisher", config.sipx.publisher.is_some()),
    };
    (!is_set).then_some((section, key))
}
