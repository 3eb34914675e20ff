//! The questions to the tables of a cluster (`sql/*/cluster.sql`). All SQL of the cluster is here.

use std::time::Instant;

use mwid_core::mailbox::Mailbox;
use mwid_core::ownership::{Node, ViewId};
use mwid_core::summary::Summary;

use super::names::{decode, encode};
use crate::dialogs::session::{Cell, Dialect, Param, Question, Session};

/// Rows of `mwid_counts` in one page.
pub(super) const PAGE: i64 = 1000;

/// How many rows one INSERT takes, most first: few lengths, so that each is prepared once.
const BATCHES: [usize; 3] = [100, 10, 1];

/// The row may be overwritten: the table `mwid_counts` is there before, `new` is the new row. One's
/// own row always; the common row only by what was observed later. A time that has not come yet is
/// that of a clock that was set back since. That a mailbox could not be counted (2) replaces no
/// counts, and any counts replace it.
fn replaceable(dialect: Dialect, new: impl Fn(&str) -> String, old: &str) -> String {
    format!(
        "({} <> 2 AND ({old}given = 2 OR {old}node <> '*' OR {} >= {old}observed \
         OR {old}observed > {}))",
        new("given"),
        new("observed"),
        dialect.unix_millis()
    )
}

/// "I am alive", and the view of this node. Answer: whether another process has this name.
#[derive(Clone)]
pub(super) struct Beat {
    pub(super) node: String,
    /// Tells two processes of the same name apart.
    pub(super) instance: String,
    pub(super) lease: i64,
    pub(super) view: ViewId,
    /// The row was written by this process before: if it is another's now, there are two.
    pub(super) again: bool,
}

impl Question for Beat {
    type Answer = bool;

    async fn ask<S: Session>(&self, session: &mut S, dialect: Dialect) -> Result<bool, S::Error> {
        let now = dialect.unix_millis();
        let (node, instance) = (Param::Text(&self.node), Param::Text(&self.instance));
        if self.again {
            let sql = dialect.placed(&format!(
                "SELECT 1 FROM mwid_nodes WHERE node = ? AND instance <> ? \
                 AND ABS({now} - seen) <= lease"
            ));
            if !session.rows(&sql, &[node, instance]).await?.is_empty() {
                return Ok(true);
            }
        }
        let columns = ["instance", "seen", "lease", "view_id"];
        let update = match dialect {
            Dialect::MySql => {
                let set = columns.map(|column| format!("{column} = VALUES({column})")).join(", ");
                format!("ON DUPLICATE KEY UPDATE {set}")
            }
            Dialect::Postgres | Dialect::Sqlite => {
                let set = columns.map(|column| format!("{column} = excluded.{column}")).join(", ");
                format!("ON CONFLICT (node) DO UPDATE SET {set}")
            }
        };
        let sql = dialect.placed(&format!(
            "INSERT INTO mwid_nodes (node, instance, seen, lease, view_id) \
             VALUES (?, ?, {now}, #, #) {update}"
        ));
        let params = [node, instance, Param::Number(self.lease), Param::Number(self.view)];
        session.run(&sql, &params).await?;
        Ok(false)
    }
}

/// "I am gone."
#[derive(Clone)]
pub(super) struct Leave {
    pub(super) node: String,
    pub(super) instance: String,
}

impl Question for Leave {
    type Answer = ();

    async fn ask<S: Session>(&self, session: &mut S, dialect: Dialect) -> Result<(), S::Error> {
        let sql = dialect.placed("DELETE FROM mwid_nodes WHERE node = ? AND instance = ?");
        session.run(&sql, &[Param::Text(&self.node), Param::Text(&self.instance)]).await?;
        Ok(())
    }
}

/// Who is alive, how far the changes are, and those after a revision.
#[derive(Clone, Copy)]
pub(super) struct Look {
    /// The number of changes at the last look: while it stands, nothing else is read.
    pub(super) counter: Option<i64>,
    /// Rows after this revision.
    pub(super) after: i64,
}

/// What [`Look`] saw.
pub(super) struct Seen {
    pub(super) nodes: Vec<Node>,
    /// `None`: the row that counts is not there.
    pub(super) counter: Option<i64>,
    /// The database's clock, in milliseconds of Unix time.
    pub(super) now: i64,
    /// At most [`PAGE`], in the order of their revisions.
    pub(super) rows: Vec<CountRow>,
}

/// A row of `mwid_counts`; `part` is `None` when it cannot be believed.
pub(super) struct CountRow {
    pub(super) revision: i64,
    pub(super) part: Option<Part>,
}

/// What one node counts in one mailbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Part {
    pub(super) node: String,
    pub(super) mailbox: Mailbox,
    pub(super) summary: Summary,
    pub(super) origin: Origin,
}

/// How a node knows the counts of a mailbox: the column `given`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// It counted them in its spool.
    Counted = 0,
    /// A call gave them.
    Given = 1,
    /// Not at all: the mailbox is there and could not be counted yet.
    Unknown = 2,
}

impl Question for Look {
    type Answer = Seen;

    async fn ask<S: Session>(&self, session: &mut S, dialect: Dialect) -> Result<Seen, S::Error> {
        let number = |column| dialect.number(column);
        let nodes = format!(
            "SELECT node, {} FROM mwid_nodes WHERE ABS({} - seen) <= lease",
            number("view_id"),
            dialect.unix_millis()
        );
        let nodes = session.rows(&nodes, &[]).await?.into_iter().filter_map(read_node).collect();
        // Read before the rows: what is counted up to here has been committed.
        let counter = format!("SELECT {} FROM mwid_cluster WHERE id = 1", number("revision"));
        let counter = first_number(&session.rows(&counter, &[]).await?);
        let now = format!("SELECT {}", dialect.unix_millis());
        let now = first_number(&session.rows(&now, &[]).await?).unwrap_or_default();
        let mut rows = Vec::new();
        if counter.is_some() && counter != self.counter {
            let columns = ["new_messages", "old_messages", "new_urgent", "old_urgent", "given"];
            let sql = dialect.placed(&format!(
                "SELECT {}, node, context, number, {} FROM mwid_counts WHERE revision > # \
                 ORDER BY revision LIMIT #",
                number("revision"),
                columns.map(number).join(", "),
            ));
            let params = [Param::Number(self.after), Param::Number(PAGE)];
            rows = session.rows(&sql, &params).await?.into_iter().filter_map(read_count).collect();
        }
        Ok(Seen { nodes, counter, now, rows })
    }
}

fn first_number(rows: &[Vec<Cell>]) -> Option<i64> {
    match rows.first().map(Vec::as_slice) {
        Some([Cell::Number(number)]) => Some(*number),
        _ => None,
    }
}

fn read_node(cells: Vec<Cell>) -> Option<Node> {
    match <[Cell; 2]>::try_from(cells) {
        Ok([Cell::Text(name), Cell::Number(view)]) => Some(Node { name, view }),
        _ => None,
    }
}

fn read_count(cells: Vec<Cell>) -> Option<CountRow> {
    let [Cell::Number(revision), node, context, number, counts @ ..] = cells.as_slice() else {
        return None;
    };
    let part = || {
        let (Cell::Text(node), Cell::Text(context), Cell::Text(number)) = (node, context, number)
        else {
            return None;
        };
        let mailbox = Mailbox::new(&decode(number)?, &decode(context)?).ok()?;
        let count = |place: usize| match counts.get(place) {
            Some(Cell::Number(count)) => u32::try_from(*count).ok(),
            _ => None,
        };
        let summary = Summary {
            new: count(0)?,
            old: count(1)?,
            new_urgent: count(2)?,
            old_urgent: count(3)?,
        };
        let origin = match count(4)? {
            0 => Origin::Counted,
            2 => Origin::Unknown,
            _ => Origin::Given,
        };
        Some(Part { node: node.clone(), mailbox, summary, origin })
    };
    Some(CountRow { revision: *revision, part: part() })
}

/// Writes counts. Answer: whether it was done; not, when the row that counts changes is missing.
#[derive(Clone)]
pub(super) struct Publish {
    /// Under which name: this node's, or `*`.
    pub(super) node: String,
    pub(super) counts: Vec<Count>,
}

/// What was observed of a mailbox.
#[derive(Clone, Debug)]
pub(super) struct Count {
    pub(super) mailbox: Mailbox,
    pub(super) summary: Summary,
    pub(super) origin: Origin,
    pub(super) at: Instant,
}

impl Question for Publish {
    type Answer = bool;

    /// The row that counts the changes is locked until the commit: whoever sees a revision has seen
    /// all those before it.
    async fn ask<S: Session>(&self, session: &mut S, dialect: Dialect) -> Result<bool, S::Error> {
        // Above all rows, should somebody have set the number back. Read apart: inside the UPDATE
        // MySQL would lock what it reads, and two who publish would stand in each other's way.
        let highest = format!("SELECT {} FROM mwid_counts", dialect.number("MAX(revision)"));
        let highest = first_number(&session.rows(&highest, &[]).await?).unwrap_or(0);
        session.plain(if dialect == Dialect::Sqlite { "BEGIN IMMEDIATE" } else { "BEGIN" }).await?;
        let greatest = if dialect == Dialect::Sqlite { "MAX" } else { "GREATEST" };
        let raise = dialect.placed(&format!(
            "UPDATE mwid_cluster SET revision = # + {greatest}(revision, #) WHERE id = 1"
        ));
        let length = i64::try_from(self.counts.len()).unwrap_or(i64::MAX);
        session.run(&raise, &[length, highest].map(Param::Number)).await?;
        let read = format!("SELECT {} FROM mwid_cluster WHERE id = 1", dialect.number("revision"));
        let Some(last) = first_number(&session.rows(&read, &[]).await?) else {
            session.plain("ROLLBACK").await?;
            return Ok(false);
        };
        let mut revision = last.saturating_sub(length);
        let mut rest = self.counts.as_slice();
        while let Some(size) = BATCHES.iter().find(|size| **size <= rest.len()) {
            let (batch, others) = rest.split_at(*size);
            self.insert(session, dialect, batch, &mut revision).await?;
            rest = others;
        }
        session.plain("COMMIT").await?;
        Ok(true)
    }
}

impl Publish {
    async fn insert<S: Session>(
        &self,
        session: &mut S,
        dialect: Dialect,
        batch: &[Count],
        revision: &mut i64,
    ) -> Result<(), S::Error> {
        let row = format!("(?, ?, ?, #, #, #, #, #, {} - #, #)", dialect.unix_millis());
        let rows = vec![row; batch.len()].join(", ");
        let sql = dialect.placed(&format!(
            "INSERT INTO mwid_counts (node, context, number, new_messages, old_messages, \
             new_urgent, old_urgent, given, observed, revision) VALUES {rows} {}",
            upsert(dialect)
        ));
        let names: Vec<(String, String)> = batch
            .iter()
            .map(|count| (encode(count.mailbox.context()), encode(count.mailbox.number())))
            .collect();
        let mut params = Vec::with_capacity(10 * batch.len());
        for (count, (context, number)) in batch.iter().zip(&names) {
            *revision += 1;
            let Summary { new, old, new_urgent, old_urgent } = count.summary;
            params.extend([&self.node, context, number].map(|text| Param::Text(text)));
            params.extend([new, old, new_urgent, old_urgent].map(|n| Param::Number(n.into())));
            // By the database's clock: those of the nodes may differ.
            let age = i64::try_from(count.at.elapsed().as_millis()).unwrap_or(i64::MAX);
            params.extend([count.origin as i64, age, *revision].map(Param::Number));
        }
        session.run(&sql, &params).await?;
        Ok(())
    }
}

/// What an INSERT does where the row is there.
fn upsert(dialect: Dialect) -> String {
    // MySQL sets one after the other, and these two are compared for each: they come last.
    let columns = [
        "new_messages",
        "old_messages",
        "new_urgent",
        "old_urgent",
        "revision",
        "observed",
        "given",
    ];
    match dialect {
        Dialect::MySql => {
            let may = replaceable(dialect, |name| format!("VALUES({name})"), "");
            let set = columns.map(|name| format!("{name} = IF({may}, VALUES({name}), {name})"));
            format!("ON DUPLICATE KEY UPDATE {}", set.join(", "))
        }
        Dialect::Postgres | Dialect::Sqlite => format!(
            "ON CONFLICT (node, context, number) DO UPDATE SET {} WHERE {}",
            columns.map(|name| format!("{name} = excluded.{name}")).join(", "),
            replaceable(dialect, |name| format!("excluded.{name}"), "mwid_counts.")
        ),
    }
}
