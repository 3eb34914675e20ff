//! `[database] url`: which server, which database, as whom.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use thiserror::Error;
use url::{Host, Url};

use super::secret::MASK;
use crate::config::{Origin, Secret};

const MYSQL_PORT: u16 = 3306;
const POSTGRES_PORT: u16 = 5432;

/// A database address. `Display` prints it as it could have been written: the password masked, or
/// left out when it came from a file or the environment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DatabaseUrl {
    /// `mysql://user:password@host:port/database`, also for MariaDB.
    MySql(Server),
    /// `postgres://user:password@host:port/database`, also for what speaks its protocol.
    Postgres(Server),
    /// `sqlite:/path/to/file`
    Sqlite(PathBuf),
}

/// A database on a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// Host name or address, IPv6 without brackets; ignored when `socket` is given.
    pub host: String,
    /// TCP port: 3306 and 5432 unless given.
    pub port: u16,
    /// `?socket=/run/…`: the server's Unix socket (for PostgreSQL its folder).
    pub socket: Option<PathBuf>,
    /// Who connects.
    pub user: String,
    /// With which password, if any.
    pub password: Option<Secret>,
    /// Which database.
    pub database: String,
}

/// Why a database address was refused. No text holds a part of it that may be the password.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum UrlError {
    /// Not a URL at all.
    #[error(
        "is no URL ({0}); write mysql://user@host/database or postgres://user@host/database, and in a password %2F for /, %23 for #, %3F for ?, %40 for @"
    )]
    Syntax(#[from] url::ParseError),
    /// A scheme of which mwid has no database.
    #[error(
        "starts with none of the databases that mwid knows: mysql, mariadb, postgres, postgresql, sqlite"
    )]
    Scheme,
    /// No host between `//` and `/`.
    #[error("names no host; write mysql://user@host/database or postgres://user@host/database")]
    NoHost,
    /// No user before `@`.
    #[error("names no user; write mysql://user@host/database or postgres://user@host/database")]
    NoUser,
    /// Not one name behind the host.
    #[error(
        "must name one database behind the host; write mysql://user@host/database or postgres://user@host/database"
    )]
    Database,
    /// Port 0.
    #[error("has port 0; leave the port out or write a number from 1 to 65535")]
    Port,
    /// A part which, percent-decoded, is not text.
    #[error("has a {part} that is not UTF-8 or holds a control character once it is decoded")]
    Encoding {
        /// Which part.
        part: &'static str,
    },
    /// A query parameter other than `socket`, or `socket` twice.
    #[error(
        "has the parameter {found:?}; the only one is socket, once: ?socket=/run/mysqld/mysqld.sock"
    )]
    Parameter {
        /// Its name.
        found: String,
    },
    /// A `#` and something behind it.
    #[error("has a \"#\"; write %23 for one that belongs to the password")]
    Fragment,
    /// A file or socket path that does not start with `/`.
    #[error("must name a file by its absolute path: sqlite:/var/lib/mwid/dialogs.db")]
    Relative,
    /// The masked form that mwid prints.
    #[error("holds {MASK}, which mwid prints in place of a password; write the password itself")]
    Mask,
}

impl FromStr for DatabaseUrl {
    type Err = UrlError;

    fn from_str(text: &str) -> Result<Self, UrlError> {
        if text.chars().any(char::is_control) {
            return Err(UrlError::Encoding { part: "character" });
        }
        let url = Url::parse(text)?;
        if url.fragment().is_some() {
            return Err(UrlError::Fragment);
        }
        match url.scheme() {
            "mysql" | "mariadb" => server(&url, MYSQL_PORT).map(Self::MySql),
            "postgres" | "postgresql" => server(&url, POSTGRES_PORT).map(Self::Postgres),
            "sqlite" => sqlite(&url).map(Self::Sqlite),
            _ => Err(UrlError::Scheme),
        }
    }
}

impl DatabaseUrl {
    /// The server, where there is one.
    #[must_use]
    pub fn server(&self) -> Option<&Server> {
        match self {
            Self::MySql(server) | Self::Postgres(server) => Some(server),
            Self::Sqlite(_) => None,
        }
    }

    pub(super) fn server_mut(&mut self) -> Option<&mut Server> {
        match self {
            Self::MySql(server) | Self::Postgres(server) => Some(server),
            Self::Sqlite(_) => None,
        }
    }
}

fn server(url: &Url, default_port: u16) -> Result<Server, UrlError> {
    let host = match url.host() {
        Some(Host::Ipv6(address)) => address.to_string(),
        Some(host) => decode("host", &host.to_string())?,
        None => String::new(),
    };
    let user = decode("user", url.username())?;
    let database = decode("database", url.path().strip_prefix('/').unwrap_or_default())?;
    let password = url.password().map(|text| decode("password", text)).transpose()?;
    let socket = socket(url)?;
    if host.is_empty() {
        return Err(UrlError::NoHost);
    }
    if user.is_empty() {
        return Err(UrlError::NoUser);
    }
    if database.is_empty() || database.contains('/') {
        return Err(UrlError::Database);
    }
    if password.as_deref() == Some(MASK) {
        return Err(UrlError::Mask);
    }
    let port = url.port().unwrap_or(default_port);
    if port == 0 {
        return Err(UrlError::Port);
    }
    Ok(Server { host, port, socket, user, password: password.map(Secret::new), database })
}

fn socket(url: &Url) -> Result<Option<PathBuf>, UrlError> {
    let mut socket = None;
    for pair in url.query().into_iter().flat_map(|query| query.split('&')) {
        let (name, path) = pair.split_once('=').unwrap_or((pair, ""));
        if name != "socket" || socket.is_some() {
            return Err(UrlError::Parameter { found: name.chars().take(80).collect() });
        }
        socket = Some(absolute(&decode("socket", path)?)?);
    }
    Ok(socket)
}

fn sqlite(url: &Url) -> Result<PathBuf, UrlError> {
    if let Some(query) = url.query() {
        let name = query.split(['=', '&']).next().unwrap_or_default();
        return Err(UrlError::Parameter { found: name.chars().take(80).collect() });
    }
    if url.host_str().is_some_and(|host| !host.is_empty()) {
        return Err(UrlError::Relative);
    }
    absolute(&decode("path", url.path())?)
}

fn absolute(path: &str) -> Result<PathBuf, UrlError> {
    if path.starts_with('/') && !path.ends_with('/') {
        Ok(PathBuf::from(path))
    } else {
        Err(UrlError::Relative)
    }
}

fn decode(part: &'static str, text: &str) -> Result<String, UrlError> {
    let error = UrlError::Encoding { part };
    match percent_decode_str(text).decode_utf8() {
        Ok(decoded) if !decoded.chars().any(char::is_control) => Ok(decoded.into_owned()),
        _ => Err(error),
    }
}

impl fmt::Display for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::MySql(server) => write_server(f, "mysql", MYSQL_PORT, server),
            Self::Postgres(server) => write_server(f, "postgres", POSTGRES_PORT, server),
            Self::Sqlite(path) => write!(f, "sqlite:{}", encode_path(path)),
        }
    }
}

fn write_server(
    f: &mut fmt::Formatter<'_>,
    scheme: &str,
    default_port: u16,
    server: &Server,
) -> fmt::Result {
    write!(f, "{scheme}://{}", utf8_percent_encode(&server.user, RESERVED))?;
    if server.password.as_ref().is_some_and(|secret| *secret.origin() == Origin::Written) {
        write!(f, ":{MASK}")?;
    }
    if server.host.contains(':') {
        write!(f, "@[{}]", server.host)?;
    } else {
        write!(f, "@{}", utf8_percent_encode(&server.host, RESERVED))?;
    }
    if server.port != default_port {
        write!(f, ":{}", server.port)?;
    }
    write!(f, "/{}", utf8_percent_encode(&server.database, RESERVED))?;
    match &server.socket {
        Some(path) => write!(f, "?socket={}", encode_path(path)),
        None => Ok(()),
    }
}

/// All but the `unreserved` characters of RFC 3986 §2.3.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

fn encode_path(path: &Path) -> String {
    const PATH: &AsciiSet = &RESERVED.remove(b'/');
    utf8_percent_encode(&path.to_string_lossy(), PATH).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> DatabaseUrl {
        text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    #[test]
    fn user_and_password_are_percent_decoded_and_the_password_is_masked() {
        let url = parse("mysql://op%40sip:p%3A%2F%23+%C3%A9@db.example.com/opensips");
        let server = url.server().unwrap();
        assert_eq!((server.user.as_str(), server.port), ("op@sip", 3306));
        assert_eq!(server.password.as_ref().unwrap().reveal(), "p:/#+é");
        assert_eq!(url.to_string(), "mysql://op%40sip:********@db.example.com/opensips");
        assert!(!format!("{url:?}").contains("p:/#"));
    }

    #[test]
    fn every_scheme_has_its_database() {
        assert!(matches!(parse("mariadb://u@h/d"), DatabaseUrl::MySql(_)));
        assert!(matches!(parse("postgresql://u@h/d"), DatabaseUrl::Postgres(_)));
        assert_eq!(parse("postgres://u@h/d").server().unwrap().port, 5432);
        for text in ["sqlite:/var/lib/a%20b.db", "sqlite:///var/lib/a%20b.db"] {
            assert_eq!(parse(text), DatabaseUrl::Sqlite("/var/lib/a b.db".into()));
        }
    }

    #[test]
    fn what_is_printed_reads_back_the_same() {
        for text in [
            "mysql://u@h/d",
            "mysql://u@[2001:db8::1]:3307/d",
            "postgres://u%3A%40@localhost/my%20db?socket=/run/postgresql",
            "sqlite:/var/lib/mwid/dialogs.db",
        ] {
            assert_eq!(parse(text).to_string(), text);
            assert_eq!(parse(&parse(text).to_string()), parse(text));
        }
    }

    #[test]
    fn a_bad_url_is_refused_without_a_word_of_its_password() {
        for (text, error) in [
            ("redis://u:hunter2@h/d", UrlError::Scheme),
            ("mysql://u:hunter2@h/", UrlError::Database),
            ("mysql://u:hunter2@h", UrlError::Database),
            ("mysql://u:hunter2@h/a/b", UrlError::Database),
            ("mysql:///d", UrlError::NoHost),
            ("mysql://:hunter2@h/d", UrlError::NoUser),
            ("mysql://h/d", UrlError::NoUser),
            ("mysql://u:hunter2@h:0/d", UrlError::Port),
            ("mysql://u:%FFhunter2@h/d", UrlError::Encoding { part: "password" }),
            ("mysql://u%00:hunter2@h/d", UrlError::Encoding { part: "user" }),
            ("mysql://u:hunter2@h/d#x", UrlError::Fragment),
            ("mysql://u:hunter2@h/d?ssl=1", UrlError::Parameter { found: "ssl".into() }),
            ("mysql://u@h/d?socket=/a&socket=/b", UrlError::Parameter { found: "socket".into() }),
            ("mysql://u@h/d?socket=a", UrlError::Relative),
            ("mysql://u:********@h/d", UrlError::Mask),
            ("sqlite:dialogs.db", UrlError::Relative),
            ("sqlite://var/lib/x.db", UrlError::Relative),
            ("sqlite::memory:", UrlError::Relative),
            ("sqlite:/a?mode=ro", UrlError::Parameter { found: "mode".into() }),
        ] {
            assert_eq!(text.parse::<DatabaseUrl>(), Err(error), "{text}");
        }
        let slash = "mysql://u:hunter2/3@h/d".parse::<DatabaseUrl>().unwrap_err();
        assert!(matches!(slash, UrlError::Syntax(_)) && !slash.to_string().contains("hunter2"));
    }
}
