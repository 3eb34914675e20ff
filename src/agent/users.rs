//! Who may subscribe by password: the proxy's table `subscriber`, and `[users]`.

use std::collections::HashMap;
use std::sync::OnceLock;

use mwid_core::agent::{Algorithm, Secrets};
use mwid_core::mailbox::Account;

use crate::config::{self, Config};
use crate::dialogs::StoreError;
use crate::dialogs::session::{Cell, Dialect, Param, Question, Session, Tables};

/// The table of OpenSIPS and Kamailio.
const TABLE: &str = "subscriber";

/// The users. For one that is not there as much is asked as for one that is.
pub struct Users {
    table: Option<Subscribers>,
    /// Those of the configuration.
    known: HashMap<Account, Secrets>,
}

/// The `subscriber` table.
struct Subscribers {
    tables: Tables,
    /// Whether it has the column `ha1_sha256` (OpenSIPS 3.2 has it, Kamailio has not).
    sha256: OnceLock<bool>,
}

impl Users {
    /// Those of a configuration; connects to nothing.
    ///
    /// # Errors
    /// [`StoreError`] when a setting cannot be used at all.
    pub fn new(config: &Config) -> Result<Self, StoreError> {
        let realm = config.agent.realm.as_deref().unwrap_or_default();
        let secrets = |user: &Account, password: &str| {
            let ha1 = |algorithm: Algorithm| Some(algorithm.ha1(user.user(), realm, password));
            Secrets { md5: ha1(Algorithm::Md5), sha256: ha1(Algorithm::Sha256) }
        };
        let users = config.watchers.users.iter();
        let known =
            users.map(|(user, secret)| (user.clone(), secrets(user, secret.reveal()))).collect();
        let table = config.agent.subscribers.as_ref().map(|url| {
            let settings = config::Database {
                url: url.clone(),
                table: TABLE.to_owned(),
                ..config.database.clone()
            };
            Tables::new(&settings).map(|tables| Subscribers { tables, sha256: OnceLock::new() })
        });
        Ok(Self { table: table.transpose()?, known })
    }

    /// The hashes that all users can be asked for; MD5 alone while nobody knows.
    #[must_use]
    pub fn algorithms(&self) -> Vec<Algorithm> {
        let table = self.table.as_ref();
        let all = table.is_none_or(|table| table.sha256.get().copied().unwrap_or(false));
        if all { Algorithm::ALL.into() } else { vec![Algorithm::Md5] }
    }

    /// Looks at the columns of the table, so that [`algorithms`](Self::algorithms) knows.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn look(&self) -> Result<(), StoreError> {
        match &self.table {
            Some(table) => table.has_sha256().await.map(drop),
            None => Ok(()),
        }
    }

    /// What is known of a user; `None` when there is no such user.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn find(&self, user: &str, domain: &str) -> Result<Option<Secrets>, StoreError> {
        let in_table = match &self.table {
            Some(table) => table.find(user, domain).await,
            None => Ok(None),
        };
        let name = Account::new(user, domain).ok();
        match name.and_then(|name| self.known.get(&name)) {
            Some(known) => Ok(Some(known.clone())),
            None => in_table,
        }
    }
}

/// What is wrong with the table, and what to do: an error as such speaks of `[database]`.
#[must_use]
pub fn explain(error: &StoreError) -> String {
    match error {
        StoreError::Unreachable { at, cause } => {
            format!("no connection to {at}: {cause}; check [agent] subscribers")
        }
        StoreError::MissingTable { at, .. } => {
            format!("{at} has no table {TABLE}; let [agent] subscribers name the proxy's database")
        }
        StoreError::Refused { at, cause, .. } => {
            format!("{at} does not let mwid read its table {TABLE}: {cause}; grant SELECT")
        }
        StoreError::Timeout { at, after } => {
            let after = after.as_secs_f32();
            format!(
                "{at} did not answer within {after} s; [agent] subscribers is overloaded, locked or cut off"
            )
        }
        other => other.to_string(),
    }
}

impl Subscribers {
    async fn has_sha256(&self) -> Result<bool, StoreError> {
        if let Some(known) = self.sha256.get() {
            return Ok(*known);
        }
        let has = self.tables.ask(&HasSha256).await?;
        Ok(*self.sha256.get_or_init(|| has))
    }

    async fn find(&self, user: &str, domain: &str) -> Result<Option<Secrets>, StoreError> {
        let sha256 = self.has_sha256().await?;
        let (user, domain) = (user.to_owned(), domain.to_owned());
        self.tables.ask(&Find { user, domain, sha256 }).await
    }
}

/// Whether the table has the column.
#[derive(Clone)]
struct HasSha256;

impl Question for HasSha256 {
    type Answer = bool;

    async fn ask<S: Session>(&self, session: &mut S, dialect: Dialect) -> Result<bool, S::Error> {
        // A table that is not there must be an error here, not a table without the column.
        session.rows("SELECT username FROM subscriber WHERE 1 = 0", &[]).await?;
        let sql = match dialect {
            Dialect::MySql => {
                "SELECT COUNT(*) FROM information_schema.COLUMNS WHERE TABLE_SCHEMA = DATABASE() \
                 AND TABLE_NAME = 'subscriber' AND COLUMN_NAME = 'ha1_sha256'"
            }
            Dialect::Postgres => {
                "SELECT COUNT(*)::int8 FROM pg_attribute WHERE attrelid = to_regclass('subscriber') \
                 AND attname = 'ha1_sha256' AND NOT attisdropped \
                 AND has_column_privilege(attrelid, attnum, 'SELECT')"
            }
            Dialect::Sqlite => {
                "SELECT COUNT(*) FROM pragma_table_info('subscriber') WHERE name = 'ha1_sha256'"
            }
        };
        let rows = session.rows(sql, &[]).await?;
        Ok(matches!(rows.first().map(Vec::as_slice), Some([Cell::Number(count)]) if *count > 0))
    }
}

/// The secrets of a user.
#[derive(Clone)]
struct Find {
    user: String,
    domain: String,
    sha256: bool,
}

impl Question for Find {
    type Answer = Option<Secrets>;

    async fn ask<S: Session>(
        &self,
        session: &mut S,
        dialect: Dialect,
    ) -> Result<Option<Secrets>, S::Error> {
        let mut columns = dialect.text("ha1");
        if self.sha256 {
            columns = format!("{columns}, {}", dialect.text("ha1_sha256"));
        }
        let sql = dialect
            .placed(&format!("SELECT {columns} FROM subscriber WHERE username = ? AND domain = ?"));
        let params = [Param::Text(&self.user), Param::Text(&self.domain)];
        let rows = session.rows(&sql, &params).await?;
        Ok(rows.into_iter().next().map(|row| {
            let mut cells = row.into_iter();
            Secrets { md5: hash(cells.next(), 32), sha256: hash(cells.next(), 64) }
        }))
    }
}

/// A hash in lower-case hexadecimal. An empty one is that of a table that holds passwords in clear
/// text, and fits nobody.
fn hash(cell: Option<Cell>, length: usize) -> Option<String> {
    let Some(Cell::Text(text)) = cell else { return None };
    let text = text.trim();
    let whole = text.len() == length && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    whole.then(|| text.to_ascii_lowercase())
}
