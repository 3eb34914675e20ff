//! Passwords: each may be written in the file, or stand in a file of its own, or in the
//! environment; in one of these places, not in two.

use super::error::{ConfigError, Problem, SecretError};
use super::parse::{Entry, Environment, Given};
use super::secret::MASK;
use super::value::{self, AbsolutePath, Codec};
use super::{Config, Credentials, DatabaseUrl, MiUrl, Origin, Secret, Sipx};

const AUTH_PASSWORD: [&str; 3] = ["auth_password", "auth_password_file", "auth_password_env"];
const SECRET: [&str; 3] = ["secret", "secret_file", "secret_env"];

const PASSWORD: [&str; 3] = ["password", "password_file", "password_env"];

/// The largest password file that is read, in bytes.
const MAX_SECRET: u64 = 64 * 1024;

/// Fetches the passwords of `[general]`, `[ami]`, `[database]`, `[cluster]` and `[capture]` and the
/// tokens of `[http]` and `[webhook]`, and puts them where they belong.
pub(super) fn fetch(
    config: &mut Config,
    given: &Given,
    environment: &dyn Environment,
    errors: &mut Vec<ConfigError>,
) {
    let search = Search { given, environment };
    match search.credentials("general", "auth_user", AUTH_PASSWORD) {
        Ok(credentials) => config.general.credentials = credentials,
        Err(error) => errors.push(error),
    }
    match search.manager(config) {
        Ok(login) => config.ami.login = login,
        Err(error) => errors.push(error),
    }
    match search.token("http", &TOKEN) {
        Ok(token) => config.http.token = token,
        Err(error) => errors.push(error),
    }
    match search.token("http", &READ_TOKEN) {
        Ok(token) => config.http.read_token = token,
        Err(error) => errors.push(error),
    }
    match search.webhook(config) {
        Ok(token) => config.webhook.token = token,
        Err(error) => errors.push(error),
    }
    match search.one_of("capture", &PASSWORD) {
        Ok(found) => config.capture.password = found.map(|(.., password)| password),
        Err(error) => errors.push(error),
    }
    const OF_URL: [&str; 2] = ["password_file", "password_env"];
    const OF_SUBSCRIBERS: [&str; 2] = ["subscribers_password_file", "subscribers_password_env"];
    errors.extend(search.url("database", "url", OF_URL, Some(&mut config.database.url)).err());
    errors.extend(search.url("cluster", "url", OF_URL, config.cluster.url.as_mut()).err());
    let subscribers = config.agent.subscribers.as_mut();
    errors.extend(search.url("agent", "subscribers", OF_SUBSCRIBERS, subscribers).err());
}

/// The password of `[general]`.
pub(super) fn of_general(config: &Config) -> Option<&Secret> {
    config.general.credentials.as_ref().map(|credentials| &credentials.password)
}

/// The password of `[ami]`.
pub(super) fn of_ami(config: &Config) -> Option<&Secret> {
    config.ami.login.as_ref().map(|login| &login.password)
}

/// The password of `[database]`.
pub(super) fn of_database(config: &Config) -> Option<&Secret> {
    config.database.url.server().and_then(|server| server.password.as_ref())
}

/// The password of `[cluster]`.
pub(super) fn of_cluster(config: &Config) -> Option<&Secret> {
    config.cluster.url.as_ref()?.server()?.password.as_ref()
}

/// The password of the subscribers' database.
pub(super) fn of_subscribers(config: &Config) -> Option<&Secret> {
    config.agent.subscribers.as_ref()?.server()?.password.as_ref()
}

/// The passwords of the addresses that are asked by HTTP.
pub(super) fn of_http(config: &Config) -> impl Iterator<Item = &Secret> {
    let mi = match &config.opensips_mi.url {
        Some(MiUrl::Http(url)) => Some(url),
        _ => None,
    };
    let Sipx { publisher, voicemail, .. } = &config.sipx;
    let (rpc, webhook) = (&config.kamailio_rpc.url, &config.webhook.url);
    let urls = [mi, rpc.as_ref(), publisher.as_ref(), voicemail.as_ref(), webhook.as_ref()];
    urls.into_iter().flatten().filter_map(|url| url.user.as_ref()?.password.as_ref())
}

/// The password of `[capture]`.
pub(super) fn of_capture(config: &Config) -> Option<&Secret> {
    config.capture.password.as_ref()
}

/// The token of `[http]`.
pub(super) fn of_door(config: &Config) -> Option<&Secret> {
    config.http.token.as_ref()
}

/// The token of `[http]` for those who only ask.
pub(super) fn of_readers(config: &Config) -> Option<&Secret> {
    config.http.read_token.as_ref()
}

/// The token of `[webhook]`.
pub(super) fn of_webhook(config: &Config) -> Option<&Secret> {
    config.webhook.token.as_ref()
}

/// The keys that give the token of `[http]`, and that of `[webhook]`.
pub(super) const TOKEN: [&str; 3] = ["token", "token_file", "token_env"];

/// The keys that give the token of `[http]` for those who only ask.
pub(super) const READ_TOKEN: [&str; 3] = ["read_token", "read_token_file", "read_token_env"];

struct Search<'a> {
    given: &'a Given,
    environment: &'a dyn Environment,
}

impl Search<'_> {
    /// A user, named by the key `user`, and the password that one of `keys` gives.
    fn credentials(
        &self,
        section: &'static str,
        user: &'static str,
        keys: [&'static str; 3],
    ) -> Result<Option<Credentials>, ConfigError> {
        let password = self.one_of(section, &keys)?;
        let Some(entry) = self.given.get(section, user) else {
            let alone = SecretError::NoUser { what: "a password", user };
            return match password {
                None => Ok(None),
                Some((key, entry, _)) => Err(error(section, key, entry, alone)),
            };
        };
        let problem = |problem| Problem::Value { section, key: user.to_owned(), problem };
        let name = value::header(&entry.value)
            .map_err(|cause| ConfigError::at(entry.line, problem(cause)))?;
        match password {
            Some((_, _, password)) => Ok(Some(Credentials { user: name, password })),
            None => Err(error(section, user, entry, SecretError::NoPassword { keys })),
        }
    }

    /// The login of `[ami]`, without which no manager lets anybody in.
    fn manager(&self, config: &Config) -> Result<Option<Credentials>, ConfigError> {
        let (section, key, user) = ("ami", "host", "user");
        let login = self.credentials(section, user, SECRET)?;
        match self.given.get(section, key) {
            Some(entry) if login.is_none() && config.ami.host.is_some() => {
                Err(error(section, key, entry, SecretError::NoUser { what: "a host", user }))
            }
            _ => Ok(login),
        }
    }

    /// The password of the database that the key `named` of a section names, if it does.
    fn url(
        &self,
        section: &'static str,
        named: &'static str,
        keys: [&'static str; 2],
        url: Option<&mut DatabaseUrl>,
    ) -> Result<(), ConfigError> {
        let Some((key, entry, secret)) = self.one_of(section, &keys)? else { return Ok(()) };
        if self.given.refused(section, named) {
            return Ok(());
        }
        if url.is_none() && section == "cluster" {
            return Err(error(section, key, entry, SecretError::NoUrl));
        }
        match url.and_then(DatabaseUrl::server_mut) {
            None => Err(error(section, key, entry, SecretError::NotWanted { url: named })),
            Some(server) if server.password.is_some() => {
                let problem = Problem::TwoSecrets { section, key, first: named };
                Err(ConfigError::at(entry.line, problem))
            }
            Some(server) => {
                server.password = Some(secret);
                Ok(())
            }
        }
    }

    /// The token of `[webhook]`, where its address has no user: both would be `Authorization`.
    fn webhook(&self, config: &Config) -> Result<Option<Secret>, ConfigError> {
        let (section, first) = ("webhook", "url");
        let token = self.token(section, &TOKEN)?;
        let has_user = config.webhook.url.as_ref().is_some_and(|url| url.user.is_some());
        let Some((key, entry, _)) = self.one_of(section, &TOKEN)?.filter(|_| has_user) else {
            return Ok(token);
        };
        Err(ConfigError::at(entry.line, Problem::TwoSecrets { section, key, first }))
    }

    fn token(
        &self,
        section: &'static str,
        keys: &[&'static str],
    ) -> Result<Option<Secret>, ConfigError> {
        match self.one_of(section, keys)? {
            Some((key, entry, token)) if !is_token68(token.reveal()) => {
                Err(error(section, key, entry, SecretError::Token))
            }
            found => Ok(found.map(|(.., token)| token)),
        }
    }

    /// The password that one of these keys gives, and which one it was.
    fn one_of(
        &self,
        section: &'static str,
        keys: &[&'static str],
    ) -> Result<Option<(&'static str, &Entry, Secret)>, ConfigError> {
        let mut found = keys.iter().filter_map(|&key| Some((key, self.given.get(section, key)?)));
        let Some((key, entry)) = found.next() else { return Ok(None) };
        if let Some((second, other)) = found.next() {
            let problem = Problem::TwoSecrets { section, key: second, first: key };
            return Err(ConfigError::at(other.line, problem));
        }
        let secret = self.secret(key, &entry.value);
        secret
            .map(|secret| Some((key, entry, secret)))
            .map_err(|cause| error(section, key, entry, cause))
    }

    fn secret(&self, key: &str, value: &str) -> Result<Secret, SecretError> {
        if key.ends_with("_file") {
            let path = AbsolutePath.parse(value)?;
            let bytes = self.environment.read(&path, MAX_SECRET)?;
            let text = String::from_utf8(bytes)
                .map_err(|_| SecretError::Text { place: value.to_owned() })?;
            let line = text.strip_suffix('\n').unwrap_or(&text);
            let line = line.strip_suffix('\r').unwrap_or(line);
            return secret(line, value, Origin::File(path));
        }
        if key.ends_with("_env") {
            let clear = self
                .environment
                .variable(value)
                .ok_or_else(|| SecretError::NoVariable { name: value.to_owned() })?;
            let place = format!("the environment variable {value}");
            return secret(&clear, &place, Origin::Environment(value.to_owned()));
        }
        secret(value, "the value", Origin::Written)
    }
}

/// What can stand behind `Bearer` (RFC 9110 §11.2).
fn is_token68(text: &str) -> bool {
    let letters = text.trim_end_matches('=');
    !letters.is_empty()
        && letters.chars().all(|c| c.is_ascii_alphanumeric() || "-._~+/".contains(c))
}

fn secret(clear: &str, place: &str, origin: Origin) -> Result<Secret, SecretError> {
    if clear.is_empty() {
        return Err(SecretError::Empty { place: place.to_owned() });
    }
    if clear == MASK {
        return Err(SecretError::Mask);
    }
    if clear.chars().any(char::is_control) {
        return Err(SecretError::Text { place: place.to_owned() });
    }
    Ok(Secret::from(clear, origin))
}

fn error(
    section: &'static str,
    key: &'static str,
    entry: &Entry,
    problem: SecretError,
) -> ConfigError {
    ConfigError::at(entry.line, Problem::Secret { section, key, problem })
}
