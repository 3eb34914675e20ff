//! The table as it is: whose flavour its columns have, and the SQL that fits it.
//!
//! Only the checked table name and the fixed column names below are ever written into SQL; every
//! value is bound. In the templates `?` stands for a bound text and `#` for a bound integer.

use std::time::Instant;

use mwid_core::dialog::{Flavour, MAX_CSEQ, Row};
use mwid_core::mailbox::Account;

use super::agent;
use super::error::StoreError;
use super::together::{Sizes, padded};
use super::verbs::{Claim, Find, FindAll, Identity, Param};
use super::watch::sql::Sql;
use crate::config::FindBy;

/// The columns that both flavours must have besides the watcher's two.
const REQUIRED: [&str; 20] = [
    "id",
    "presentity_uri",
    "watcher_username",
    "watcher_domain",
    "to_user",
    "to_domain",
    "event",
    "event_id",
    "to_tag",
    "from_tag",
    "callid",
    "local_cseq",
    "remote_cseq",
    "contact",
    "record_route",
    "expires",
    "status",
    "reason",
    "local_contact",
    "socket_info",
];

/// Which SQL a database speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dialect {
    MySql,
    Postgres,
    Sqlite,
}

impl Dialect {
    pub(crate) fn quote(self, name: &str) -> String {
        match self {
            Self::MySql => format!("`{name}`"),
            Self::Postgres | Self::Sqlite => format!("\"{name}\""),
        }
    }

    /// A column as text. PostgreSQL is told the type, so that no width or type of the table can
    /// surprise the driver, and asked for bytes: a `SQL_ASCII` database holds any, and would
    /// refuse all rows for one that is no UTF-8.
    pub(crate) fn text(self, column: &str) -> String {
        if self == Self::Postgres {
            format!(
                "convert_to({column}::text, \
                 CASE getdatabaseencoding() WHEN 'SQL_ASCII' THEN 'SQL_ASCII' ELSE 'UTF8' END)"
            )
        } else {
            column.to_owned()
        }
    }

    pub(crate) fn number(self, column: &str) -> String {
        if self == Self::Postgres { format!("{column}::int8") } else { column.to_owned() }
    }

    /// This instant by the database's clock, in milliseconds of Unix time. `UTC_TIMESTAMP`, since
    /// local time has an hour twice each autumn.
    pub(crate) fn unix_millis(self) -> &'static str {
        match self {
            Self::MySql => {
                "(TIMESTAMPDIFF(MICROSECOND, '1970-01-01 00:00:00', UTC_TIMESTAMP(3)) DIV 1000)"
            }
            Self::Postgres => "(extract(epoch FROM clock_timestamp()) * 1000)::int8",
            Self::Sqlite => "CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER)",
        }
    }

    /// Equal to the letter. MySQL compares in the column's collation, most of which ignore case;
    /// Call-IDs are compared byte by byte (RFC 3261 §8.1.1.4), and so is what this row was read as.
    pub(super) fn same(self, column: &str) -> String {
        match self {
            Self::MySql => format!("{column} = CONVERT(? USING utf8mb4) COLLATE utf8mb4_bin"),
            Self::Postgres | Self::Sqlite => format!("{column} = ?"),
        }
    }

    /// Writes the placeholders of this dialect.
    pub(crate) fn placed(self, template: &str) -> String {
        let mut sql = String::with_capacity(template.len() + 32);
        let mut count = 0;
        for c in template.chars() {
            match (self, c) {
                (Self::Postgres, '?' | '#') => {
                    count += 1;
                    sql.push_str(&format!("${count}"));
                    if c == '#' {
                        sql.push_str("::int8");
                    }
                }
                (_, '#') => sql.push('?'),
                _ => sql.push(c),
            }
        }
        sql
    }
}

/// A database's table: where it is, what it is called, and what the configuration wants of it.
#[derive(Clone, Debug)]
pub(super) struct Table {
    /// Which database, for errors.
    pub(super) at: String,
    pub(super) dialect: Dialect,
    pub(super) find_by: FindBy,
    /// `[database] max_dialogs`.
    pub(super) max_dialogs: u32,
    name: String,
}

impl Table {
    /// Checks the name: it is the only part of any SQL that is not ours.
    pub(super) fn new(
        at: String,
        dialect: Dialect,
        settings: &crate::config::Database,
    ) -> Result<Self, StoreError> {
        let name = settings.table.clone();
        let plain = name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
        if !plain || name.len() > 63 || !name.starts_with(|c: char| !c.is_ascii_digit()) {
            return Err(StoreError::BadTable { table: name });
        }
        let (find_by, max_dialogs) = (settings.find_by, settings.max_dialogs);
        Ok(Self { at, dialect, find_by, max_dialogs, name })
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Asks for no row and all columns.
    pub(super) fn look(&self) -> String {
        format!("SELECT * FROM {} LIMIT 0", self.dialect.quote(&self.name))
    }

    fn missing(&self, column: &'static str) -> StoreError {
        StoreError::MissingColumn { at: self.at.clone(), table: self.name.clone(), column }
    }
}

/// The flavour of a table and the SQL for it.
#[derive(Debug)]
pub(super) struct Schema {
    pub(super) flavour: Flavour,
    /// When the columns were looked at.
    pub(super) seen: Instant,
    pub(super) find: String,
    /// [`Schema::find`] for several accounts; the last column says which one found the row.
    pub(super) find_all: Sizes,
    pub(super) claim: String,
    /// [`Schema::claim`] for several rows; MySQL cannot say what they became, so there each is raised if
    /// it is what was read.
    pub(super) claim_all: Sizes,
    /// The numbers of several rows, for [`Schema::claim_all`] of MySQL.
    pub(super) numbers: Sizes,
    /// Finds the row of a claim that changed nothing because no CSeq is left.
    pub(super) exhausted: String,
    pub(super) delete: String,
    /// For those who watch the table.
    pub(super) watch: Sql,
    /// For mwid's own presence agent.
    pub(super) agent: agent::sql::Sql,
    find_by: FindBy,
    pub(super) limit: i64,
}

impl Schema {
    /// Tells the flavour by the columns: Kamailio has `from_user` and `from_domain`.
    ///
    /// # Errors
    /// [`StoreError::MissingColumn`] names the first column that is not there.
    pub(super) fn new(table: &Table, columns: &[String]) -> Result<Self, StoreError> {
        let has = |name: &str| columns.iter().any(|column| column.eq_ignore_ascii_case(name));
        if let Some(column) = REQUIRED.into_iter().find(|name| !has(name)) {
            return Err(table.missing(column));
        }
        let flavour = match (has("from_user"), has("from_domain")) {
            (true, true) => Flavour::Kamailio,
            (false, false) => Flavour::OpenSips,
            (false, true) => return Err(table.missing("from_user")),
            (true, false) => return Err(table.missing("from_domain")),
        };
        let (dialect, name) = (table.dialect, table.dialect.quote(&table.name));
        let sql = |template: String| dialect.placed(&template);
        let same = format!(
            "id = # AND event = 'message-summary' AND {} AND {} AND {}",
            dialect.same("callid"),
            dialect.same("from_tag"),
            dialect.same("to_tag")
        );
        let columns = select_list(dialect, flavour);
        let who = who(table.find_by, "?", "?", "?");
        let find = |columns: &str| {
            format!(
                "SELECT {columns} FROM {name} WHERE {who} AND event = 'message-summary' \
                 AND status IN (1, #) AND expires > # ORDER BY id DESC LIMIT #"
            )
        };
        let find_all = match dialect {
            Dialect::MySql => Sizes::each(|count| {
                let one = |ask| format!("({})", find(&format!("{columns}, {ask} AS ask")));
                sql((0..count).map(one).collect::<Vec<_>>().join(" UNION ALL "))
            }),
            Dialect::Postgres => Sizes::Any(find_arrays(&columns, &name, table.find_by)),
            Dialect::Sqlite => Sizes::None,
        };
        let (claim_all, numbers) = match dialect {
            Dialect::MySql => (
                Sizes::each(|count| sql(claim_if_read(&name, &same, count))),
                Sizes::each(|count| sql(numbers(&name, &same, count))),
            ),
            Dialect::Postgres => (Sizes::Any(claim_arrays(&name)), Sizes::None),
            Dialect::Sqlite => (Sizes::None, Sizes::None),
        };
        Ok(Self {
            flavour,
            seen: Instant::now(),
            find: sql(find(&columns)),
            find_all,
            claim: sql(claim(dialect, &name, &same)),
            claim_all,
            numbers,
            exhausted: sql(format!("SELECT 1 FROM {name} WHERE {same} AND local_cseq >= #")),
            delete: sql(format!("DELETE FROM {name} WHERE {same}")),
            watch: Sql::new(dialect, &table.name, flavour),
            agent: agent::sql::Sql::new(dialect, &table.name, flavour),
            find_by: table.find_by,
            limit: i64::from(table.max_dialogs) + 1,
        })
    }

    /// What [`Schema::find`] binds.
    pub(super) fn find_params<'a>(&self, find: &'a Find) -> Vec<Param<'a>> {
        self.params_of(&find.account, find.also, find.unix)
    }

    /// What [`Schema::find_all`] of MySQL binds.
    pub(super) fn find_all_params<'a>(&self, find: &'a FindAll) -> Vec<Param<'a>> {
        let FindAll { accounts, unix, also } = find;
        accounts.iter().flat_map(|account| self.params_of(account, *also, *unix)).collect()
    }

    fn params_of<'a>(&self, account: &'a Account, also: i64, unix: i64) -> Vec<Param<'a>> {
        let uri = Param::Text(account.as_str());
        let watcher = [Param::Text(account.user()), Param::Text(account.domain())];
        let mut params = match self.find_by {
            FindBy::Presentity => vec![uri],
            FindBy::Watcher => watcher.to_vec(),
            FindBy::Either => [&[uri], &watcher[..]].concat(),
        };
        let numbers = [also, unix, self.limit];
        params.extend(numbers.map(Param::Number));
        params
    }

    /// What [`Schema::claim`] binds.
    pub(super) fn claim_params<'a>(&self, claim: &'a Claim) -> Vec<Param<'a>> {
        let mut params = vec![Param::Number(self.floor(claim.above))];
        params.extend(self.exhausted_params(&claim.identity));
        params
    }

    /// The least that a row becomes by a claim. Never beyond the highest: who had that already learns
    /// that none is left.
    pub(super) fn floor(&self, above: u32) -> i64 {
        self.flavour.row((i64::from(above) + 1).min(i64::from(MAX_CSEQ)))
    }

    /// The highest that a row can have.
    pub(super) fn highest(&self) -> i64 {
        self.flavour.row(i64::from(MAX_CSEQ))
    }

    /// The number that a claim's row was read with, and the one that it gets; `None` when it can count no
    /// further.
    pub(super) fn next(&self, claim: &Claim) -> Option<(i64, i64)> {
        let read = claim.read.map_or(0, |wire| self.flavour.row(wire));
        let next = (read + 1).max(self.flavour.row(i64::from(claim.above) + 1));
        (next <= self.highest()).then_some((read, next))
    }

    /// What [`Schema::claim_all`] of MySQL binds, and the numbers that the rows have then. `None` when one of
    /// them can count no further. The last is named several times where there are less than go together.
    pub(super) fn claim_all_params<'a>(
        &self,
        claims: &'a [Claim],
    ) -> Option<(Vec<Param<'a>>, Vec<i64>)> {
        let (mut set, mut who, mut rows) = (Vec::new(), Vec::new(), Vec::new());
        let last = claims.last()?;
        let all = claims.iter().chain(std::iter::repeat(last)).take(padded(claims.len()));
        for claim in all {
            let (read, next) = self.next(claim)?;
            set.extend([claim.identity.id(), next].map(Param::Number));
            who.extend(claim.identity.params());
            who.push(Param::Number(read));
            rows.push(next);
        }
        set.extend(who);
        rows.truncate(claims.len());
        Some((set, rows))
    }

    /// What [`Schema::exhausted`] binds: the row, and the highest number it can hold.
    pub(super) fn exhausted_params<'a>(&self, identity: &'a Identity) -> Vec<Param<'a>> {
        let mut params = identity.params();
        params.push(Param::Number(self.highest()));
        params
    }
}

fn who(find_by: FindBy, uri: &str, user: &str, domain: &str) -> String {
    let presentity = format!("presentity_uri = {uri}");
    let watcher = format!("watcher_username = {user} AND watcher_domain = {domain}");
    match find_by {
        FindBy::Presentity => presentity,
        FindBy::Watcher => watcher,
        FindBy::Either => format!("({presentity} OR ({watcher}))"),
    }
}

/// `$1` to `$3`: the URIs, users and domains of the accounts. A subquery for each of them: PostgreSQL
/// takes far longer to plan one statement that has as many.
fn find_arrays(columns: &str, table: &str, find_by: FindBy) -> String {
    let who = who(find_by, "q.uri", "q.username", "q.domain");
    format!(
        "SELECT w.*, q.ask - 1 FROM unnest($1::text[], $2::text[], $3::text[]) \
         WITH ORDINALITY AS q(uri, username, domain, ask) CROSS JOIN LATERAL \
         (SELECT {columns} FROM {table} WHERE {who} AND event = 'message-summary' \
         AND status IN (1, $4::int8) AND expires > $5::int8 ORDER BY id DESC LIMIT $6::int8) w"
    )
}

/// One statement raises the number and says what it became, so that no two claims get the same.
fn claim(dialect: Dialect, table: &str, same: &str) -> String {
    let next = format!("COALESCE({}, 0) + 1", dialect.number("local_cseq"));
    let (set, answer) = match dialect {
        Dialect::MySql => (format!("LAST_INSERT_ID(GREATEST({next}, #))"), ""),
        Dialect::Postgres => (format!("GREATEST({next}, #)"), " RETURNING local_cseq::int8"),
        Dialect::Sqlite => (format!("MAX({next}, #)"), " RETURNING local_cseq"),
    };
    format!(
        "UPDATE {table} SET local_cseq = {set} WHERE {same} \
         AND COALESCE(local_cseq, 0) < #{answer}"
    )
}

/// `$1` to `$5`: the rows and the least that each becomes; `$6`: the highest that one can have. A row
/// that is no longer there, or can count no further, is left out of the answer.
fn claim_arrays(table: &str) -> String {
    format!(
        "UPDATE {table} AS t SET local_cseq = GREATEST(COALESCE(t.local_cseq::int8, 0) + 1, q.floor) \
         FROM unnest($1::int8[], $2::text[], $3::text[], $4::text[], $5::int8[]) \
         WITH ORDINALITY AS q(id, callid, from_tag, to_tag, floor, ask) \
         WHERE t.id = q.id AND t.event = 'message-summary' AND t.callid = q.callid \
         AND t.from_tag = q.from_tag AND t.to_tag = q.to_tag \
         AND COALESCE(t.local_cseq, 0) < $6::int8 RETURNING q.ask - 1, t.local_cseq::int8"
    )
}

/// Sets each row to a number of its own if it still has the one that was read. When as many rows
/// changed as were asked for, all are claimed; when fewer did, nobody knows which, and they are read again
/// and claimed anew: that leaves a gap.
fn claim_if_read(table: &str, same: &str, count: usize) -> String {
    let cases = "WHEN # THEN # ".repeat(count);
    let row = format!("({same} AND COALESCE(local_cseq, 0) = #)");
    format!(
        "UPDATE {table} SET local_cseq = CASE id {cases}END WHERE {}",
        vec![row; count].join(" OR ")
    )
}

/// The numbers of so many rows.
fn numbers(table: &str, same: &str, count: usize) -> String {
    let rows = vec![format!("({same})"); count].join(" OR ");
    format!("SELECT id, local_cseq FROM {table} WHERE {rows}")
}

/// The columns of a [`Row`], in the order in which [`read_row`] takes them.
pub(super) fn select_list(dialect: Dialect, flavour: Flavour) -> String {
    let (from_user, from_domain) = match flavour {
        Flavour::OpenSips => ("watcher_username", "watcher_domain"),
        Flavour::Kamailio => ("from_user", "from_domain"),
    };
    let number = |name| dialect.number(name);
    let text = |name| dialect.text(name);
    [
        number("id"),
        text("presentity_uri"),
        text(from_user),
        text(from_domain),
        text("to_user"),
        text("to_domain"),
        text("to_tag"),
        text("from_tag"),
        text("callid"),
        number("local_cseq"),
        number("remote_cseq"),
        text("contact"),
        text("record_route"),
        number("expires"),
        text("event_id"),
        text("local_contact"),
        text("socket_info"),
        number("status"),
        text("reason"),
    ]
    .join(", ")
}

/// The values of one row as a driver has them, each taken once, by its place.
pub(super) trait Values {
    type Error;
    /// A text, U+FFFD where it is no UTF-8; `None` for NULL.
    fn text(&mut self, place: usize) -> Result<Option<String>, Self::Error>;
    /// An integer; `None` for NULL.
    fn number(&mut self, place: usize) -> Result<Option<i64>, Self::Error>;
}

/// Where [`Schema::find_all`] says which account found the row.
pub(super) const ASK: usize = 19;

/// Reads what [`Schema::find`] selected.
pub(super) fn read_row<V: Values>(values: &mut V, flavour: Flavour) -> Result<Row, V::Error> {
    let local_cseq = values.number(9)?;
    Ok(Row {
        id: values.number(0)?.unwrap_or_default(),
        presentity_uri: values.text(1)?,
        from_user: values.text(2)?,
        from_domain: values.text(3)?,
        to_user: values.text(4)?,
        to_domain: values.text(5)?,
        to_tag: values.text(6)?,
        from_tag: values.text(7)?,
        callid: values.text(8)?,
        local_cseq,
        remote_cseq: values.number(10)?,
        contact: values.text(11)?,
        record_route: values.text(12)?,
        expires: values.number(13)?,
        event_id: values.text(14)?,
        local_contact: values.text(15)?,
        socket_info: values.text(16)?,
        status: values.number(17)?,
        reason: values.text(18)?,
        sent_cseq: local_cseq.map(|row| flavour.wire(row)),
    })
}
