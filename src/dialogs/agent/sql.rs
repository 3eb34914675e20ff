//! The statements, for one table.

use mwid_core::dialog::Flavour;

use crate::dialogs::schema::Dialect;

/// The statements of the agent.
#[derive(Debug)]
pub(in crate::dialogs) struct Sql {
    /// How many rows an account has. In MySQL it is asked before: there an INSERT that counts locks
    /// what it counts, and two of them for one account are a deadlock.
    pub(super) room: String,
    pub(super) insert: String,
    /// The rows of a dialog.
    pub(super) state_of_dialog: String,
    /// Deletes them.
    pub(super) forget: String,
    pub(super) give_way: String,
    pub(super) update: String,
    pub(super) state: String,
    /// What ends subscriptions whose time is over; in MySQL, what finds them.
    pub(super) sweep: String,
    /// The same for those that this mwid answered.
    pub(super) drain: String,
    /// In MySQL, what ends those that were found; their ids and a `)` follow.
    pub(super) end_these: String,
    pub(super) purge: String,
    pub(super) ended: String,
    pub(super) count: String,
    pub(super) flavour: Flavour,
    /// Whether a change gives its rows.
    pub(super) returns: bool,
}

const OURS: &str = "event = 'message-summary'";

impl Sql {
    pub(in crate::dialogs) fn new(dialect: Dialect, table: &str, flavour: Flavour) -> Self {
        let name = dialect.quote(table);
        let returns = dialect != Dialect::MySql;
        let uri = dialect.text("presentity_uri");
        let number = |column| dialect.number(column);
        let same = dialog(dialect, flavour);
        let subscription = format!("{same} AND {}", dialect.same("COALESCE(event_id, '')"));
        let update = format!(
            "UPDATE {name} SET remote_cseq = #, expires = #, \
             contact = COALESCE(NULLIF(?, ''), contact), status = #, reason = NULLIF(?, '') \
             WHERE {subscription} AND status = 1 AND expires > # AND COALESCE(remote_cseq, 0) <= #"
        );
        let over = format!("{OURS} AND status = 1 AND expires <= # ORDER BY expires LIMIT #");
        let mine = format!(
            "{OURS} AND status = 1 AND expires > # AND {} ORDER BY id LIMIT #",
            dialect.same("local_contact")
        );
        let placed = |template: String| dialect.placed(&template);
        Self {
            room: placed(format!("SELECT {} {}", number("COUNT(*)"), counted(&name))),
            insert: placed(insert(dialect, &name, flavour)),
            state_of_dialog: placed(format!(
                "SELECT {}, {}, {}, {} FROM {name} WHERE {same}",
                number("remote_cseq"),
                number("status"),
                number("expires"),
                dialect.text("contact")
            )),
            forget: placed(format!("DELETE FROM {name} WHERE {same}")),
            give_way: placed(give_way(dialect, &name, flavour)),
            update: placed(if returns { format!("{update} RETURNING {uri}") } else { update }),
            state: placed(format!(
                "SELECT {uri}, {}, {}, {} FROM {name} WHERE {subscription}",
                number("remote_cseq"),
                number("status"),
                number("expires")
            )),
            sweep: placed(ending(dialect, &name, &over, " AND expires <= #")),
            drain: placed(ending(dialect, &name, &mine, "")),
            end_these: placed(format!(
                "UPDATE {name} SET status = 3, reason = ?, expires = # \
                 WHERE status = 1 AND expires <= # AND id IN ("
            )),
            purge: placed(purge(dialect, &name)),
            ended: placed(format!(
                "SELECT {}, {uri} FROM {name} WHERE {OURS} AND status = 3 AND expires > #",
                number("id")
            )),
            count: format!("SELECT {} FROM {name}", number("COUNT(*)")),
            flavour,
            returns,
        }
    }
}

/// A dialog and who is in it, byte by byte. `callid` stands in it twice: compared as the index of a
/// MySQL table has it, in the column's own collation, and then to the letter.
fn dialog(dialect: Dialect, flavour: Flavour) -> String {
    let (user, domain) = from(flavour);
    let same = ["callid", "to_tag", "from_tag", user, domain].map(|column| dialect.same(column));
    format!("callid = ? AND {} AND {OURS}", same.join(" AND "))
}

/// The columns of who subscribes.
fn from(flavour: Flavour) -> (&'static str, &'static str) {
    match flavour {
        Flavour::OpenSips => ("watcher_username", "watcher_domain"),
        Flavour::Kamailio => ("from_user", "from_domain"),
    }
}

/// One row, unless its account has as many as it may have, or the row is there.
fn insert(dialect: Dialect, name: &str, flavour: Flavour) -> String {
    // `updated` -1: nothing for the notifier of a Kamailio to do.
    let (columns, values) = match flavour {
        Flavour::OpenSips => ("", ""),
        Flavour::Kamailio => (", from_user, from_domain, updated, updated_winfo", ", ?, ?, -1, -1"),
    };
    let rest = match dialect {
        Dialect::MySql => format!("FROM DUAL ON DUPLICATE KEY UPDATE {name}.id = {name}.id"),
        Dialect::Postgres | Dialect::Sqlite => {
            format!("WHERE (SELECT COUNT(*) {}) < # ON CONFLICT DO NOTHING", counted(name))
        }
    };
    format!(
        "INSERT INTO {name} (presentity_uri, watcher_username, watcher_domain, to_user, to_domain, \
         to_tag, from_tag, callid, contact, record_route, event_id, socket_info, local_contact, \
         reason, local_cseq, remote_cseq, expires, status{columns}, event) \
         SELECT ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, NULLIF(?, ''), #, #, #, #{values}, \
         'message-summary' {rest}"
    )
}

/// The rows of an account that are live, or whose farewell is not over.
fn counted(name: &str) -> String {
    format!("FROM {name} WHERE presentity_uri = ? AND {OURS} AND status IN (1, 3) AND expires > #")
}

/// Deletes the oldest row of an account with this `contact` and watcher: behind two NATs two phones
/// may have the same address.
fn give_way(dialect: Dialect, name: &str, flavour: Flavour) -> String {
    let (user, domain) = from(flavour);
    let same = ["contact", user, domain].map(|column| dialect.same(column)).join(" AND ");
    let oldest = format!("presentity_uri = ? AND {OURS} AND status = 1 AND {same}");
    match dialect {
        Dialect::MySql => format!("DELETE FROM {name} WHERE {oldest} ORDER BY id LIMIT 1"),
        Dialect::Postgres | Dialect::Sqlite => {
            format!("DELETE FROM {name} WHERE id = (SELECT MIN(id) FROM {name} WHERE {oldest})")
        }
    }
}

/// Deletes rows whose farewell is over.
fn purge(dialect: Dialect, name: &str) -> String {
    let over = format!("{OURS} AND status = 3 AND expires <= # LIMIT #");
    match dialect {
        Dialect::MySql => format!("DELETE FROM {name} WHERE {over}"),
        Dialect::Postgres | Dialect::Sqlite => {
            format!("DELETE FROM {name} WHERE id IN (SELECT id FROM {name} WHERE {over})")
        }
    }
}

/// Ends what a condition finds, and gives whose it was; in MySQL it only finds it.
fn ending(dialect: Dialect, name: &str, which: &str, still: &str) -> String {
    if dialect == Dialect::MySql {
        return format!("SELECT id, presentity_uri FROM {name} WHERE {which}");
    }
    format!(
        "UPDATE {name} SET status = 3, reason = ?, expires = # \
         WHERE id IN (SELECT id FROM {name} WHERE {which}) AND status = 1{still} RETURNING {}",
        dialect.text("presentity_uri")
    )
}
