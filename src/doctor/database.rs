//! The database: can it be reached, read and written, is it quick, and what do its rows tell?

use mwid_core::dialog::ACTIVE;
use mwid_core::mailbox::Mailbox;

use super::{Report, files, rows};
use crate::clock;
use crate::config::{Cleanup, Config, DatabaseUrl, FindBy};
use crate::dialogs::session::{Cell, Dialect, Param, Question, Session, Tables};
use crate::dialogs::{DialogStore, Probe, StoreError};
use crate::shipped;

/// Subscriptions that end in the same second are a storm when they are refreshed, from so many on.
const CROWD: i64 = 100;

/// Differences between two clocks, in milliseconds.
const NOTICED: i64 = 2_000;
const HARMFUL: i64 = 30_000;

const EVENT: &str = "message-summary";

/// `mailboxes`: those of the spool; `None` where it is not used or not there.
pub(super) fn look(config: &Config, mailboxes: Option<&[Mailbox]>, report: &mut Report) {
    let DatabaseUrl::Sqlite(path) = &config.database.url else {
        return connect(config, mailboxes, report);
    };
    match config.agent.listen.is_some() && !path.exists() {
        true => files::to_be_made("database", path, report),
        false => connect(config, mailboxes, report),
    }
}

fn connect(config: &Config, mailboxes: Option<&[Mailbox]>, report: &mut Report) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    match runtime {
        Ok(runtime) => runtime.block_on(look_at(config, mailboxes, report)),
        Err(error) => {
            report.fail("database", error.to_string(), "too few resources: see ulimit -a")
        }
    }
}

async fn look_at(config: &Config, mailboxes: Option<&[Mailbox]>, report: &mut Report) {
    let store = match DialogStore::new(&config.database) {
        Ok(store) => store,
        Err(error) => {
            return report.fail("database", error.to_string(), "[database] in the configuration");
        }
    };
    match store.probe().await {
        Ok(Probe { server, flavour, table }) => {
            let url = &config.database.url;
            report.ok("database", format!("{url}: {server}, table {table} as {flavour} makes it"));
        }
        Err(error) => return report.fail("database", error.to_string(), remedy(&error, config)),
    }
    let tables = match Tables::new(&config.database) {
        Ok(tables) => tables,
        Err(error) => {
            return report.fail("database", error.to_string(), "[database] in the configuration");
        }
    };
    rights(&tables, config, report).await;
    let table = config.database.table.clone();
    let unix = i64::try_from(clock::unix()).unwrap_or(i64::MAX);
    match tables.ask(&Survey { table, unix }).await {
        Ok(facts) => {
            clocks(&facts, report);
            indexes(&facts, config, report);
            numbers(&facts, config, report);
        }
        Err(error) => report.fail("rows", error.to_string(), remedy(&error, config)),
    }
    rows::look(&store, config, mailboxes, report).await;
}

pub(super) fn remedy(error: &StoreError, config: &Config) -> String {
    let is_agent = config.agent.listen.is_some();
    match (error, &config.database.url) {
        (StoreError::MissingTable { .. } | StoreError::MissingColumn { .. }, _) if is_agent => {
            "mwid sql --apply makes the table of mwid's own presence agent; an older one of that name must go before".to_owned()
        }
        (StoreError::MissingTable { .. } | StoreError::MissingColumn { .. }, _) => {
            "name the presence server's database and table in [database] url and table; kamdbctl or opensips-cli makes them".to_owned()
        }
        (_, DatabaseUrl::Sqlite(path)) => format!("may mwid's user read and write {}, and its folder?", path.display()),
        (_, url) => format!(
            "does it run, does it listen for this machine, and are user and password of [database] url right? {} makes the user",
            user_script(url)
        ),
    }
}

fn user_script(url: &DatabaseUrl) -> String {
    shipped::path(match url {
        DatabaseUrl::MySql(_) => "sql/mysql/user.sql",
        DatabaseUrl::Postgres(_) => "sql/postgres/user.sql",
        DatabaseUrl::Sqlite(_) => return String::new(),
    })
}

/// What mwid must be able to do with the rows. Each is tried on none.
async fn rights(tables: &Tables, config: &Config, report: &mut Report) {
    const CHECK: &str = "database rights";
    let is_agent = config.agent.listen.is_some();
    let mut needed = vec![Right::Claim];
    if is_agent {
        needed.extend([Right::Update, Right::Insert]);
    }
    if is_agent || config.general.cleanup == Cleanup::Delete {
        needed.push(Right::Delete);
    }
    let url = &config.database.url;
    for right in &needed {
        let table = config.database.table.clone();
        let Err(error) = tables.ask(&May { table, right: *right }).await else { continue };
        let remedy = match url {
            DatabaseUrl::Sqlite(path) => {
                format!("mwid's user must be able to write {}, and its folder", path.display())
            }
            _ => format!(
                "GRANT {} as in {}; a replica takes no writes: name the primary",
                if is_agent { "SELECT, INSERT, UPDATE, DELETE" } else { right.grant() },
                user_script(url)
            ),
        };
        return report.fail(CHECK, format!("{}: {error}", right.without()), remedy);
    }
    let may = match is_agent {
        true => "subscriptions can be written, and CSeqs be claimed",
        false => "CSeqs can be claimed: this user may UPDATE local_cseq",
    };
    report.ok(CHECK, may);
}

/// What a user may be allowed to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Right {
    Claim,
    Update,
    Insert,
    Delete,
}

impl Right {
    /// What is to be granted to one who is no agent.
    fn grant(self) -> &'static str {
        match self {
            Self::Delete => "DELETE",
            _ => "SELECT, UPDATE (local_cseq)",
        }
    }

    /// What cannot be done without it.
    fn without(self) -> &'static str {
        match self {
            Self::Claim => "no CSeq can be claimed",
            Self::Update => "no subscription can be refreshed",
            Self::Insert => "no subscription can be stored",
            Self::Delete => "no row can be deleted",
        }
    }

    /// Of no row: none is both.
    fn sql(self, table: &str) -> String {
        let none = "WHERE id = # AND id <> #";
        match self {
            Self::Claim => format!("UPDATE {table} SET local_cseq = local_cseq {none}"),
            Self::Update => format!(
                "UPDATE {table} SET remote_cseq = remote_cseq, expires = expires, contact = contact, status = status, reason = reason {none}"
            ),
            Self::Insert => {
                let columns = "presentity_uri, watcher_username, watcher_domain, to_user, to_domain, event, to_tag, from_tag, callid, local_cseq, remote_cseq, contact, record_route, expires, status, version, socket_info, local_contact";
                format!("INSERT INTO {table} ({columns}) SELECT {columns} FROM {table} {none}")
            }
            Self::Delete => format!("DELETE FROM {table} {none}"),
        }
    }
}

/// Whether this user has a right.
#[derive(Clone)]
struct May {
    table: String,
    right: Right,
}

impl Question for May {
    type Answer = ();

    async fn ask<S: Session>(&self, session: &mut S, dialect: Dialect) -> Result<(), S::Error> {
        let sql = self.right.sql(&dialect.quote(&self.table));
        session.run(&dialect.placed(&sql), &[Param::Number(0), Param::Number(0)]).await?;
        Ok(())
    }
}

/// What the table as a whole tells.
#[derive(Clone)]
struct Survey {
    table: String,
    /// Now, in Unix seconds.
    unix: i64,
}

/// What a [`Survey`] found.
struct Facts {
    all: i64,
    live: i64,
    /// Active, and over by their `expires`.
    over: i64,
    /// The second in which most end, and how many.
    crowd: Option<(i64, i64)>,
    /// The account with most, and how many.
    busiest: Option<(String, i64)>,
    /// The columns that some index begins with.
    indexed: Vec<String>,
    /// By how many milliseconds the database is ahead.
    ahead: i64,
}

impl Question for Survey {
    type Answer = Facts;

    async fn ask<S: Session>(&self, session: &mut S, dialect: Dialect) -> Result<Facts, S::Error> {
        let table = dialect.quote(&self.table);
        let count = dialect.number("count(*)");
        let (event, active, unix) =
            (Param::Text(EVENT), Param::Number(ACTIVE), Param::Number(self.unix));
        let ours = "event = ? AND status = #";
        let sql = |text: String| dialect.placed(&text);
        let all = session.rows(&sql(format!("SELECT {count} FROM {table}")), &[]).await?;
        let of =
            |is: &str| sql(format!("SELECT {count} FROM {table} WHERE {ours} AND expires {is} #"));
        let live = session.rows(&of(">"), &[event, active, unix]).await?;
        let over = session.rows(&of("<="), &[event, active, unix]).await?;
        let most = |column: &str, shown: String| {
            sql(format!(
                "SELECT {shown}, {count} FROM {table} WHERE {ours} AND expires > # GROUP BY {column} ORDER BY count(*) DESC LIMIT 1"
            ))
        };
        let crowd = most("expires", dialect.number("expires"));
        let crowd = session.rows(&crowd, &[event, active, unix]).await?;
        let busiest = most("presentity_uri", dialect.text("presentity_uri"));
        let busiest = session.rows(&busiest, &[event, active, unix]).await?;
        let name = match dialect {
            Dialect::Postgres => table.clone(),
            Dialect::MySql | Dialect::Sqlite => self.table.clone(),
        };
        let indexed = session.rows(&sql(first_columns(dialect)), &[Param::Text(&name)]).await?;
        let clock = session.rows(&format!("SELECT {}", dialect.unix_millis()), &[]).await?;
        let here = i64::try_from(clock::since_1970().as_millis()).unwrap_or(i64::MAX);
        let there = number(&clock, 0);
        Ok(Facts {
            all: number(&all, 0).unwrap_or_default(),
            live: number(&live, 0).unwrap_or_default(),
            over: number(&over, 0).unwrap_or_default(),
            crowd: number(&crowd, 0).zip(number(&crowd, 1)),
            busiest: text(&busiest).zip(number(&busiest, 1)),
            indexed: indexed.iter().filter_map(|row| text(std::slice::from_ref(row))).collect(),
            ahead: there.map_or(0, |there| there - here),
        })
    }
}

fn number(rows: &[Vec<Cell>], column: usize) -> Option<i64> {
    match rows.first()?.get(column)? {
        Cell::Number(number) => Some(*number),
        // MySQL gives a decimal as text.
        Cell::Text(text) => text.parse().ok(),
        Cell::Other => None,
    }
}

fn text(rows: &[Vec<Cell>]) -> Option<String> {
    match rows.first()?.first()? {
        Cell::Text(text) => Some(text.clone()),
        _ => None,
    }
}

/// The first column of each index of the table.
fn first_columns(dialect: Dialect) -> String {
    match dialect {
        Dialect::MySql => "SELECT column_name FROM information_schema.statistics WHERE table_schema = DATABASE() AND table_name = ? AND seq_in_index = 1".to_owned(),
        Dialect::Postgres => format!(
            "SELECT {} FROM pg_index i JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0] WHERE i.indrelid = to_regclass(?) AND i.indisvalid",
            dialect.text("a.attname")
        ),
        Dialect::Sqlite => "SELECT i.name FROM pragma_index_list(?) AS l JOIN pragma_index_info(l.name) AS i WHERE i.seqno = 0".to_owned(),
    }
}

fn clocks(facts: &Facts, report: &mut Report) {
    let text = match facts.ahead {
        0.. => format!("the database's clock is {} ms ahead", facts.ahead),
        _ => format!("the database's clock is {} ms behind", -facts.ahead),
    };
    let remedy =
        "timedatectl on both machines says which one is not synchronised; chrony keeps it so";
    match facts.ahead.abs() {
        HARMFUL.. => {
            report.fail("clock", format!("{text}: subscriptions end too early or too late"), remedy)
        }
        NOTICED.. => report.warn("clock", text, remedy),
        _ => report.ok("clock", text),
    }
}

fn indexes(facts: &Facts, config: &Config, report: &mut Report) {
    let has = |column: &str| facts.indexed.iter().any(|it| it.eq_ignore_ascii_case(column));
    let find_by = config.database.find_by;
    let mut missing = Vec::new();
    if find_by != FindBy::Watcher && !has("presentity_uri") {
        let table = &config.database.table;
        missing.push((
            "presentity_uri",
            format!("CREATE INDEX mwid_presentity ON {table} (presentity_uri, event)"),
        ));
    }
    if find_by != FindBy::Presentity && !has("watcher_username") {
        let script = match &config.database.url {
            DatabaseUrl::MySql(server) => {
                format!("mysql {} < {}", server.database, shipped::path("sql/mysql/index.sql"))
            }
            DatabaseUrl::Postgres(server) => {
                format!("psql {} -f {}", server.database, shipped::path("sql/postgres/index.sql"))
            }
            DatabaseUrl::Sqlite(path) => {
                format!("sqlite3 {} < {}", path.display(), shipped::path("sql/sqlite/index.sql"))
            }
        };
        missing.push(("watcher_username", script));
    }
    if missing.is_empty() {
        report.ok("index", "look-ups use an index");
    }
    for (column, remedy) in missing {
        let text =
            format!("no index begins with {column}: each look-up reads all {} rows", facts.all);
        report.warn("index", text, remedy);
    }
}

fn numbers(facts: &Facts, config: &Config, report: &mut Report) {
    let Facts { all, live, over, .. } = facts;
    let is_agent = config.agent.listen.is_some();
    let counted = format!("{all} rows, {live} live subscriptions to messages");
    if *live == 0 {
        report.warn(
            "rows",
            format!("{counted}: no phone can be told anything"),
            match is_agent {
                true => "do the phones subscribe to message-summary, and do their SUBSCRIBEs reach [agent] listen? mwid watch shows what happens",
                false => "do the phones subscribe to message-summary, and does the presence server write its rows? OpenSIPS: fallback2db = 1; Kamailio: subs_db_mode = 3",
            },
        );
    } else {
        report.ok("rows", counted);
    }
    if *over > live / 2 && *over > CROWD {
        let (why, remedy) = match is_agent {
            true => (
                "mwid ends them while it runs",
                "systemctl start mwid; if it runs, mwid status says what keeps it from writing",
            ),
            false => (
                "the presence server does not remove them, or writes refreshes late",
                "OpenSIPS: db_update_period, or fallback2db = 1; Kamailio: db_update_period and subs_db_mode = 3; are the clocks the same?",
            ),
        };
        let text = format!("{over} active rows are over by their expires: {why}");
        report.warn("expires", text, remedy);
    }
    if let Some((at, count)) =
        facts.crowd.filter(|(_, count)| *count >= CROWD && count * 10 >= *live)
    {
        report.warn(
            "expires",
            format!("{count} of {live} subscriptions end in the same second ({at}): their phones refresh as one, and each refresh is to be answered with the counts"),
            "let phones or the presence server choose expires with some chance in it; [timers] rate bounds what mwid sends",
        );
    }
    let cap = i64::from(config.database.max_dialogs);
    if let Some((account, count)) = facts.busiest.as_ref().filter(|(_, count)| *count > cap) {
        report.warn(
            "max_dialogs",
            format!("{account} has {count} live subscriptions, more than [database] max_dialogs = {cap}: only the newest are told"),
            "a phone that subscribes anew each time leaves such rows: see its log; or raise max_dialogs",
        );
    }
}
