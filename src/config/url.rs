//! `[database] url`: which server, which database, as whom.

use std::path::PathBuf;

use crate::config::Secret;

/// A database address. `Display` prints it as it was written, the password masked.
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
    /// Host name or address; ignored when `socket` is given.
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
