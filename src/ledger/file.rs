//! The file: its schema, its version, and what to do with one that cannot be used.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use mwid_core::dialog::{Facts, Identity, MAX_CSEQ};
use mwid_core::mailbox::{Account, Mailbox};
use mwid_core::reconciler::Remembered;
use mwid_core::summary::Summary;
use rusqlite::ffi::{SQLITE_IOERR_SHMSIZE, SQLITE_IOERR_WRITE};
use rusqlite::{Connection, ErrorCode, OpenFlags, Row};
use thiserror::Error;

use super::checkpoint::MOST_PAGES;
use super::{Given, Last, Member, Memory, owner, publications};
use crate::lock;

/// More than there are statements in `order` and `publications`.
const STATEMENTS: usize = 32;

/// "mwid" in ASCII: marks the file as ours (`PRAGMA application_id`).
const APPLICATION: i32 = 0x6d77_6964;

/// Each migration takes the schema one version further (`PRAGMA user_version`).
const MIGRATIONS: [&str; 6] = [
    "
    CREATE TABLE dialogs (
        call_id TEXT NOT NULL, local_tag TEXT NOT NULL, remote_tag TEXT NOT NULL,
        high_water INTEGER NOT NULL,
        new INTEGER, old INTEGER, new_urgent INTEGER, old_urgent INTEGER,
        dead INTEGER NOT NULL DEFAULT 0,
        remote_cseq INTEGER NOT NULL, expires INTEGER NOT NULL, contact TEXT NOT NULL,
        PRIMARY KEY (call_id, local_tag, remote_tag)
    ) WITHOUT ROWID;
    CREATE INDEX dialogs_expires ON dialogs (expires);
    CREATE TABLE mailboxes (
        context TEXT NOT NULL, number TEXT NOT NULL,
        new INTEGER NOT NULL, old INTEGER NOT NULL,
        new_urgent INTEGER NOT NULL, old_urgent INTEGER NOT NULL,
        PRIMARY KEY (context, number)
    ) WITHOUT ROWID;",
    "ALTER TABLE mailboxes ADD COLUMN stamp INTEGER NOT NULL DEFAULT 0;",
    "
    CREATE TABLE accounts (
        account TEXT NOT NULL PRIMARY KEY,
        new INTEGER NOT NULL, old INTEGER NOT NULL,
        new_urgent INTEGER NOT NULL, old_urgent INTEGER NOT NULL
    ) WITHOUT ROWID;
    CREATE TABLE members (
        account TEXT NOT NULL, context TEXT NOT NULL, number TEXT NOT NULL,
        here INTEGER NOT NULL,
        PRIMARY KEY (account, context, number)
    ) WITHOUT ROWID;
    CREATE TABLE contexts (
        context TEXT NOT NULL PRIMARY KEY, inode INTEGER NOT NULL
    ) WITHOUT ROWID;",
    "
    CREATE TABLE publications (
        account TEXT NOT NULL, way TEXT NOT NULL,
        etag TEXT, expires INTEGER,
        new INTEGER, old INTEGER, new_urgent INTEGER, old_urgent INTEGER,
        PRIMARY KEY (account, way)
    ) WITHOUT ROWID;",
    "CREATE TABLE ways (way TEXT NOT NULL PRIMARY KEY, server TEXT NOT NULL) WITHOUT ROWID;",
    "CREATE TABLE running (boot TEXT NOT NULL);",
];

/// Since which version the last summary of each account is in it.
const ACCOUNTS_SINCE: i64 = 3;

/// A dialog is forgotten this many seconds after its subscription has ended: by then the presence
/// server has removed its row.
const KEEP: i64 = 86_400;

/// Why a file cannot be used.
#[derive(Debug, Error)]
pub(super) enum FileError {
    #[error("it is no ledger of mwid")]
    Foreign,
    #[error("it is of version {found}, from a newer mwid; this one knows {known}")]
    Newer { found: i64, known: usize },
    #[error("it is damaged: {0}")]
    Damaged(String),
    #[error("{0}")]
    Sqlite(#[from] rusqlite::Error),
    #[error("{0}")]
    Io(#[from] io::Error),
}

impl FileError {
    /// Another program holds a lock on it.
    pub(super) fn is_busy(&self) -> bool {
        let Self::Sqlite(error) = self else { return false };
        let code = error.sqlite_error_code();
        code.is_some_and(|code| {
            [ErrorCode::DatabaseBusy, ErrorCode::DatabaseLocked].contains(&code)
        })
    }

    /// One word for the name of the file that is set aside.
    pub(super) fn word(&self) -> &'static str {
        match self {
            Self::Foreign => "foreign",
            Self::Newer { .. } => "newer",
            _ if self.is_busy() => "locked",
            Self::Damaged(_) | Self::Sqlite(_) | Self::Io(_) => "damaged",
        }
    }

    /// The disk is full. With a WAL even opening a file to read it needs some room, and SQLite calls
    /// the lack of it an I/O error then.
    pub(super) fn is_no_room(&self) -> bool {
        let Self::Sqlite(error) = self else { return false };
        let extended = error.sqlite_error().map(|error| error.extended_code);
        error.sqlite_error_code() == Some(ErrorCode::DiskFull)
            || extended
                .is_some_and(|code| [SQLITE_IOERR_SHMSIZE, SQLITE_IOERR_WRITE].contains(&code))
    }
}

/// How long another program may hold it: at the start, and while lamps wait.
const OPENING: Duration = Duration::from_secs(10);
const RUNNING: Duration = Duration::from_secs(2);

/// How many CSeqs of a dialog a power loss may have taken along, at most.
const LOST: u32 = 100;

/// Opens the file, brings its schema up to date, drops what has ended.
pub(super) fn open(path: &Path, unix: u64) -> Result<(Connection, Memory), FileError> {
    make_folder(path)?;
    owner::make(path);
    let connection = Connection::open(path)?;
    connection.busy_timeout(OPENING)?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    // A commit survives the end of the process at once, that of the machine after a checkpoint:
    // then the database and a 500 tell the CSeq.
    connection.pragma_update(None, "synchronous", "NORMAL")?;
    connection.pragma_update(None, "wal_autocheckpoint", MOST_PAGES)?;
    check(&connection)?;
    migrate(&connection)?;
    begin(&connection)?;
    prune(&connection, unix)?;
    connection
        .execute("DELETE FROM contexts WHERE context NOT IN (SELECT context FROM members)", [])?;
    let memory = load(&connection)?;
    connection.busy_timeout(RUNNING)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS);
    Ok((connection, memory))
}

/// All that it says, without writing anything: while another program is writing to it.
pub(super) fn read(path: &Path) -> Result<Memory, FileError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    check(&connection)?;
    Ok(load(&connection)?)
}

/// From here on a mwid of this boot has it. Without `synchronous = FULL` a power loss takes the last
/// commits along: then it is not known what the phones show, and other CSeqs than these were used.
fn begin(connection: &Connection) -> Result<(), FileError> {
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let mut query = connection.prepare("SELECT boot FROM running WHERE boot <> ?1")?;
    let lost = query.exists([boot.trim()])?;
    if lost {
        tracing::warn!(
            "the machine went down while mwid ran: what the ledger wrote last may be missing, so every phone is told once more"
        );
    }
    connection.pragma_update(None, "synchronous", "FULL")?;
    let transaction = connection.unchecked_transaction()?;
    if lost {
        let unknown = "new = NULL, old = NULL, new_urgent = NULL, old_urgent = NULL";
        transaction.execute(
            &format!("UPDATE dialogs SET high_water = min(high_water + ?1, ?2), {unknown}"),
            [LOST, MAX_CSEQ],
        )?;
        transaction.execute(&format!("UPDATE publications SET {unknown}"), [])?;
    }
    end(&transaction)?;
    transaction.execute("INSERT INTO running (boot) VALUES (?1)", [boot.trim()])?;
    transaction.commit()?;
    connection.pragma_update(None, "synchronous", "NORMAL")?;
    Ok(())
}

/// No mwid has it any more, and all of it is written.
pub(super) fn end(connection: &Connection) -> Result<usize, rusqlite::Error> {
    connection.execute("DELETE FROM running", [])
}

/// Whether a mwid has run here before.
pub(super) fn was_here(path: &Path) -> bool {
    fs::symlink_metadata(lock::beside(path)).is_ok()
}

/// There is nothing to remember, neither here nor where a ledger was moved away to.
pub(super) fn is_lost(path: &Path) -> bool {
    fs::metadata(path).map_or(true, |file| file.len() == 0) && !moved_away(path).exists()
}

/// Drops the dialogs and the publications that ended long ago: by our clock, and by the end of the
/// newest one. A clock that was set years ahead drops nothing that way.
pub(super) fn prune(connection: &Connection, unix: u64) -> Result<usize, rusqlite::Error> {
    let unix = i64::try_from(unix).unwrap_or(i64::MAX);
    let from = |table| {
        format!(
            "DELETE FROM {table} WHERE expires < min(?1, (SELECT max(expires) FROM {table})) - ?2"
        )
    };
    let publications = connection.execute(&from("publications"), [unix, KEEP])?;
    Ok(publications + connection.execute(&from("dialogs"), [unix, KEEP])?)
}

/// The folder that the ledger and its lock are in.
pub(super) fn make_folder(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(folder) => DirBuilder::new().recursive(true).mode(0o750).create(folder),
        None => Ok(()),
    }
}

fn migrate(connection: &Connection) -> Result<(), FileError> {
    let application = pragma(connection, "application_id")?;
    let version = pragma(connection, "user_version")?;
    let tables: i64 =
        connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    let ours = application == i64::from(APPLICATION);
    if !ours && tables > 0 {
        return Err(FileError::Foreign);
    }
    let known = MIGRATIONS.len();
    let Ok(from) = usize::try_from(version) else { return Err(FileError::Foreign) };
    if from > known {
        return Err(FileError::Newer { found: version, known });
    }
    for (index, migration) in MIGRATIONS.iter().enumerate().skip(from) {
        let version = index + 1;
        connection.execute_batch(&format!(
            "BEGIN IMMEDIATE; {migration} PRAGMA application_id = {APPLICATION}; PRAGMA user_version = {version}; COMMIT;"
        ))?;
    }
    Ok(())
}

fn pragma(connection: &Connection, name: &str) -> Result<i64, rusqlite::Error> {
    connection.pragma_query_value(None, name, |row| row.get(0))
}

fn load(connection: &Connection) -> Result<Memory, rusqlite::Error> {
    let mut dialogs = connection.prepare(
        "SELECT call_id, local_tag, remote_tag, high_water, new, old, new_urgent, old_urgent, dead,
         remote_cseq, expires, contact FROM dialogs",
    )?;
    let dialogs = dialogs.query_map([], dialog)?.collect::<Result<_, _>>()?;
    let (mailboxes, accounts) = (mailboxes(connection)?, accounts(connection)?);
    let publications = publications::load(connection)?;
    let (servers, contexts) = (publications::servers(connection)?, contexts(connection)?);
    Ok(Memory { dialogs, mailboxes, publications, servers, accounts, contexts })
}

/// Names that are none any more are left out.
fn accounts(connection: &Connection) -> Result<Vec<Last>, rusqlite::Error> {
    let mut query = connection.prepare(
        "SELECT account, new, old, new_urgent, old_urgent, number, context, here
         FROM accounts LEFT JOIN members USING (account) ORDER BY account",
    )?;
    let mut rows = query.query([])?;
    let mut accounts: Vec<(Account, Summary, Vec<Member>)> = Vec::new();
    while let Some(row) = rows.next()? {
        let name = row.get_ref(0)?.as_str()?;
        if accounts.last().is_none_or(|(account, ..)| account.as_str() != name) {
            let read = name.parse::<Account>().ok().zip(summary(row, 1)?);
            let Some((account, summary)) = read else { continue };
            accounts.push((account, summary, Vec::new()));
        }
        let (Some((.., members)), Some(number)) =
            (accounts.last_mut(), row.get_ref(5)?.as_str_or_null()?)
        else {
            continue;
        };
        if let Ok(mailbox) = Mailbox::new(number, row.get_ref(6)?.as_str()?) {
            members.push(Member { mailbox, here: row.get(7)? });
        }
    }
    let last = |(account, summary, mut members): (_, _, Vec<Member>)| {
        members.sort_unstable();
        Last { account, summary, members: members.into() }
    };
    Ok(accounts.into_iter().map(last).collect())
}

fn contexts(connection: &Connection) -> Result<Vec<(Box<str>, u64)>, rusqlite::Error> {
    let mut contexts = connection.prepare("SELECT context, inode FROM contexts")?;
    let context = |row: &Row<'_>| Ok((row.get(0)?, row.get::<_, i64>(1)?.cast_unsigned()));
    contexts.query_map([], context)?.collect()
}

fn mailboxes(connection: &Connection) -> Result<Vec<Given>, rusqlite::Error> {
    let mut mailboxes = connection.prepare(
        "SELECT number, context, new, old, new_urgent, old_urgent, stamp FROM mailboxes",
    )?;
    mailboxes.query_map([], mailbox)?.filter_map(Result::transpose).collect()
}

/// What a ledger that was moved away says of mailboxes and accounts; without room on the disk as
/// well.
pub(super) fn read_moved(path: &Path) -> Result<Memory, FileError> {
    let connection = open_moved(path)?;
    check(&connection)?;
    recall(&connection)
}

/// The same of one that is damaged or of a newer mwid, as far as its tables can be read.
pub(super) fn salvage(path: &Path) -> Result<Memory, FileError> {
    let connection = open_moved(path)?;
    if pragma(&connection, "application_id")? != i64::from(APPLICATION) {
        return Err(FileError::Foreign);
    }
    recall(&connection)
}

fn open_moved(path: &Path) -> Result<Connection, FileError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    // The index of its journal is in memory then, not in a file.
    connection.pragma_update(None, "locking_mode", "EXCLUSIVE")?;
    Ok(connection)
}

fn recall(connection: &Connection) -> Result<Memory, FileError> {
    let mut memory = Memory { mailboxes: mailboxes(connection)?, ..Memory::default() };
    // An older mwid has moved it away.
    if pragma(connection, "user_version")? >= ACCOUNTS_SINCE {
        memory.accounts = accounts(connection)?;
        memory.contexts = contexts(connection)?;
    }
    Ok(memory)
}

fn check(connection: &Connection) -> Result<(), FileError> {
    let check: String = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
    if check == "ok" { Ok(()) } else { Err(FileError::Damaged(check)) }
}

fn dialog(row: &Row<'_>) -> Result<(Identity, Remembered), rusqlite::Error> {
    let text = |index: usize| row.get_ref(index)?.as_str().map_err(rusqlite::Error::from);
    let identity = Identity::of(text(0)?, text(1)?, text(2)?);
    let facts = Facts {
        remote_cseq: row.get(9)?,
        expires: u64::try_from(row.get::<_, i64>(10)?).unwrap_or_default(),
        remote_target: text(11)?,
    };
    let remembered = Remembered {
        high_water: row.get(3)?,
        delivered: summary(row, 4)?,
        dead: row.get(8)?,
        version: facts.version(),
        expires: facts.expires,
    };
    Ok((identity, remembered))
}

/// A name that is no mailbox any more is left out.
fn mailbox(row: &Row<'_>) -> Result<Option<Given>, rusqlite::Error> {
    let mailbox = Mailbox::new(row.get_ref(0)?.as_str()?, row.get_ref(1)?.as_str()?);
    let stamp = u64::try_from(row.get::<_, i64>(6)?).unwrap_or_default();
    let counted = mailbox.ok().zip(summary(row, 2)?);
    Ok(counted.map(|(mailbox, summary)| Given { mailbox, summary, stamp }))
}

pub(super) fn summary(row: &Row<'_>, from: usize) -> Result<Option<Summary>, rusqlite::Error> {
    let [new, old, new_urgent, old_urgent]: [Option<u32>; 4] =
        [row.get(from)?, row.get(from + 1)?, row.get(from + 2)?, row.get(from + 3)?];
    let all = (new, old, new_urgent, old_urgent);
    let (Some(new), Some(old), Some(new_urgent), Some(old_urgent)) = all else { return Ok(None) };
    Ok(Some(Summary { new, old, new_urgent, old_urgent }))
}

/// Moves a file that cannot be used out of the way. Gives its new name.
pub(super) fn set_aside(path: &Path, cause: &str, unix: u64) -> io::Result<PathBuf> {
    let aside = with_suffix(path, &format!(".{cause}-{unix}"));
    rename(path, &aside)?;
    Ok(aside)
}

/// Where a ledger is that could not be written any more: what it says was given still holds.
pub(super) fn moved_away(path: &Path) -> PathBuf {
    with_suffix(path, ".given")
}

/// Moves a file that cannot be written away.
pub(super) fn move_away(path: &Path) -> io::Result<()> {
    let away = moved_away(path);
    remove(&away)?;
    rename(path, &away)
}

/// With its journal: what is in there has been committed.
fn rename(from: &Path, to: &Path) -> io::Result<()> {
    fs::rename(from, to)?;
    for suffix in ["-wal", "-shm"] {
        match fs::rename(with_suffix(from, suffix), with_suffix(to, suffix)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

/// Removes the file and its journal: also the one that SQLite keeps while it makes a file.
pub(super) fn remove(path: &Path) -> io::Result<()> {
    for suffix in ["", "-wal", "-shm", "-journal"] {
        match fs::remove_file(with_suffix(path, suffix)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

pub(super) fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}
