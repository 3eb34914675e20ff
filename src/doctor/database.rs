//! The database: can it be reached, read and written, is it quick, and what do its rows tell?

use std::collections::BTreeMap;

use mwid_core::dialog::{ACTIVE, Dialog, Row};
use rusqlite::Connection;

use super::Report;
use super::files::open_ledger;
use crate::clock;
use crate::config::{Config, DatabaseUrl, FindBy};
use crate::dialogs::session::{Cell, Dialect, Param, Question, Session, Tables};
use crate::dialogs::{DialogStore, Probe, StoreError};

/// Rows that are looked at one by one.
const MAX_ROWS: usize = 20_000;

/// Rows of one page.
const PAGE: i64 = 500;

/// Subscriptions that end in the same second are a storm when they are refreshed, from so many on.
const CROWD: i64 = 100;

/// Differences between two clocks, in milliseconds.
const NOTICED: i64 = 2_000;
const HARMFUL: i64 = 30_000;

const EVENT: &str = "message-summary";

pub(super) fn look(config: &Config, report: &mut Report) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    match runtime {
        Ok(runtime) => runtime.block_on(look_at(config, report)),
        Err(error) => {
            report.fail("database", error.to_string(), "too few resources: see ulimit -a")
        }
    }
}

async fn look_at(config: &Config, report: &mut Report) {
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
    let table = config.database.table.clone();
    match tables.ask(&MayWrite { table: table.clone() }).await {
        Ok(()) => report.ok("database rights", "CSeqs can be claimed: this user may UPDATE local_cseq"),
        Err(error) => report.fail(
            "database rights",
            format!("no CSeq can be claimed: {error}"),
            "GRANT SELECT, UPDATE (local_cseq) as in sql/mysql/user.sql, sql/postgres/user.sql; a replica takes no writes: name the primary; of an SQLite file the user must be able to write file and folder",
        ),
    }
    let unix = i64::try_from(clock::unix()).unwrap_or(i64::MAX);
    match tables.ask(&Survey { table, unix }).await {
        Ok(facts) => {
            clocks(&facts, report);
            indexes(&facts, config, report);
            numbers(&facts, config, report);
        }
        Err(error) => report.fail("rows", error.to_string(), remedy(&error, config)),
    }
    rows(&store, config, report).await;
}

fn remedy(error: &StoreError, config: &Config) -> String {
    match (error, &config.database.url) {
        (StoreError::MissingTable { .. } | StoreError::MissingColumn { .. }, _) => {
            "name the presence server's database and table in [database] url and table; kamdbctl or opensips-cli makes them".to_owned()
        }
        (_, DatabaseUrl::Sqlite(path)) => format!("may mwid's user read and write {}, and its folder?", path.display()),
        _ => "does it run, does it listen for this machine, and are user and password of [database] url right? sql/mysql/user.sql and sql/postgres/user.sql make the user".to_owned(),
    }
}

/// Writes nothing: no row is both.
#[derive(Clone)]
struct MayWrite {
    table: String,
}

impl Question for MayWrite {
    type Answer = ();

    async fn ask<S: Session>(&self, session: &mut S, dialect: Dialect) -> Result<(), S::Error> {
        let table = dialect.quote(&self.table);
        let sql = format!("UPDATE {table} SET local_cseq = local_cseq WHERE id = # AND id <> #");
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
                format!("mysql {} < sql/mysql/index.sql", server.database)
            }
            DatabaseUrl::Postgres(server) => {
                format!("psql {} -f sql/postgres/index.sql", server.database)
            }
            DatabaseUrl::Sqlite(path) => {
                format!("sqlite3 {} < sql/sqlite/index.sql", path.display())
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
    let counted = format!("{all} rows, {live} live subscriptions to messages");
    if *live == 0 {
        report.warn(
            "rows",
            format!("{counted}: no phone can be told anything"),
            "do the phones subscribe to message-summary, and does the presence server write its rows? OpenSIPS: fallback2db = 1; Kamailio: subs_db_mode = 3",
        );
    } else {
        report.ok("rows", counted);
    }
    if *over > live / 2 && *over > CROWD {
        report.warn(
            "expires",
            format!("{over} active rows are over by their expires: the presence server does not remove them, or writes refreshes late"),
            "OpenSIPS: db_update_period, or fallback2db = 1; Kamailio: db_update_period and subs_db_mode = 3; are the clocks the same?",
        );
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

/// The live rows one by one: which of them no NOTIFY can be made of, and which the server wrote back.
async fn rows(store: &DialogStore, config: &Config, report: &mut Report) {
    let unix = clock::unix();
    let (mut after, mut seen) = (i64::MIN, 0_usize);
    let mut bad: BTreeMap<String, (usize, i64)> = BTreeMap::new();
    let ledger = Ledger::open(config);
    let mut stale = 0_usize;
    while seen < MAX_ROWS {
        let page: Vec<Row> = match store.live_rows(after, unix, PAGE).await {
            Ok(page) => page,
            Err(error) => return report.fail("rows", error.to_string(), remedy(&error, config)),
        };
        let Some(last) = page.last() else { break };
        after = last.id;
        seen += page.len();
        for row in &page {
            match Dialog::from_row(row) {
                Err(error) => {
                    let why = format!("column {} {}", error.column, error.problem);
                    bad.entry(why).or_insert((0, row.id)).0 += 1;
                }
                Ok(dialog) => {
                    stale += usize::from(ledger.as_ref().is_some_and(|it| it.is_ahead_of(&dialog)))
                }
            }
        }
    }
    for (why, (count, row)) in bad.iter().take(5) {
        report.warn(
            "rows that cannot be told",
            format!("{count} live rows, {row} for one: {why}"),
            "a phone that subscribes anew mends its row; rubbish may be deleted",
        );
    }
    if bad.is_empty() && seen > 0 {
        report.ok("rows that cannot be told", format!("none of {seen} that were looked at"));
    }
    match (stale, &ledger) {
        (0, Some(_)) => report.ok("local_cseq", "no row counts less than mwid sent"),
        (0, None) => {}
        (stale, _) => report.warn(
            "local_cseq",
            format!("{stale} rows count less than mwid sent: the presence server keeps the CSeq in memory and writes its own back, so its next NOTIFYs are answered with 500"),
            "OpenSIPS: fallback2db = 1 lessens it, it counts in memory all the same; Kamailio: subs_db_mode = 3",
        ),
    }
}

/// What mwid itself sent, read beside the one who writes it.
struct Ledger(Connection);

impl Ledger {
    fn open(config: &Config) -> Option<Self> {
        let file = open_ledger(&config.state.path).ok()?;
        file.prepare("SELECT high_water FROM dialogs LIMIT 0").ok()?;
        Some(Self(file))
    }

    fn is_ahead_of(&self, dialog: &Dialog) -> bool {
        let sql = "SELECT high_water FROM dialogs WHERE call_id = ?1 AND local_tag = ?2 AND remote_tag = ?3";
        let sent = || -> rusqlite::Result<i64> {
            let keys = [&dialog.call_id, &dialog.local_tag, &dialog.remote_tag].map(|it| &**it);
            self.0.prepare_cached(sql)?.query_row(keys, |row| row.get(0))
        };
        let row = dialog.sent_cseq.map(i64::from);
        sent().ok().zip(row).is_some_and(|(sent, row)| sent > row)
    }
}
