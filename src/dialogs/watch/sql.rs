//! What a watch asks of a store, and the SQL of it. Every question is one range read of a primary
//! key, or a look at the catalogue.

use mwid_core::dialog::{Flavour, Row};

use crate::dialogs::schema::{Dialect, Schema, Values, read_row, select_list};
use crate::dialogs::script::triggers;
use crate::dialogs::verbs::Param;

/// The statements for one table.
#[derive(Debug)]
pub(in crate::dialogs) struct Sql {
    page: String,
    newest_row: String,
    parts: String,
    clock: String,
    changes: String,
    newest_change: String,
    trim: String,
}

impl Sql {
    pub(in crate::dialogs) fn new(dialect: Dialect, table: &str, flavour: Flavour) -> Self {
        let quoted = dialect.quote(table);
        let text = |column| dialect.text(column);
        let placed = |template: String| dialect.placed(&template);
        Self {
            page: placed(format!(
                "SELECT {}, {}, {} FROM {quoted} WHERE id > # AND event = 'message-summary' \
                 AND status = 1 AND expires > # ORDER BY id LIMIT #",
                select_list(dialect, flavour),
                text("watcher_username"),
                text("watcher_domain"),
            )),
            newest_row: format!("SELECT {} FROM {quoted}", dialect.number("MAX(id)")),
            parts: parts(dialect, table),
            clock: format!("SELECT {}", dialect.unix_millis()),
            changes: placed(
                "SELECT id, presentity_uri, watcher_username, watcher_domain \
                 FROM mwid_changes WHERE id > # ORDER BY id LIMIT #"
                    .to_owned(),
            ),
            newest_change: "SELECT MAX(id) FROM mwid_changes".to_owned(),
            trim: placed(match dialect {
                Dialect::MySql => {
                    "DELETE FROM mwid_changes WHERE id <= # ORDER BY id LIMIT #".into()
                }
                Dialect::Postgres | Dialect::Sqlite => "DELETE FROM mwid_changes WHERE id IN \
                     (SELECT id FROM mwid_changes WHERE id <= # ORDER BY id LIMIT #)"
                    .to_owned(),
            }),
        }
    }
}

/// Counts what the script installs, as far as this user may see it.
fn parts(dialect: Dialect, table: &str) -> String {
    let [insert, update] = triggers(table);
    match dialect {
        Dialect::MySql => format!(
            "SELECT (SELECT COUNT(*) FROM information_schema.TRIGGERS \
             WHERE TRIGGER_SCHEMA = DATABASE() AND EVENT_OBJECT_TABLE = '{table}' \
             AND TRIGGER_NAME IN ('{insert}', '{update}')) \
             + (SELECT COUNT(*) FROM information_schema.TABLES \
             WHERE TABLE_SCHEMA = DATABASE() AND TABLE_NAME = 'mwid_changes')"
        ),
        // The function is a part of the triggers: it cannot be dropped before them.
        Dialect::Postgres => format!(
            "SELECT 1 + count(*)::int8 FROM pg_trigger WHERE tgrelid = to_regclass('\"{table}\"') \
             AND tgname IN ('mwid_insert', 'mwid_update') AND tgenabled IN ('O', 'A')"
        ),
        Dialect::Sqlite => format!(
            "SELECT COUNT(*) FROM sqlite_master WHERE (type = 'trigger' \
             AND name IN ('{insert}', '{update}') AND tbl_name = '{table}' COLLATE NOCASE) \
             OR (type = 'table' AND name = 'mwid_changes')"
        ),
    }
}

/// How many parts there are when the script is installed.
pub(in crate::dialogs) const ALL_PARTS: i64 = 3;

/// A question whose answer is rows.
pub(in crate::dialogs) trait Question: Send + Sync + 'static {
    type Item: Send + 'static;

    fn sql<'a>(&self, schema: &'a Schema) -> &'a str;
    fn params(&self) -> Vec<Param<'_>>;
    fn read<V: Values>(values: &mut V, schema: &Schema) -> Result<Self::Item, V::Error>;
}

/// Asks a [`Question`]. Answer: a list of its items.
pub(in crate::dialogs) struct Ask<Q>(pub(in crate::dialogs) Q);

/// The rows of the table after an id, with the watcher's own columns. Live ones only.
pub(in crate::dialogs) struct Page {
    pub(in crate::dialogs) after: i64,
    pub(in crate::dialogs) unix: i64,
    pub(in crate::dialogs) limit: i64,
}

/// A row and who watches, as `find_by = watcher` compares it.
pub(in crate::dialogs) struct PageRow {
    pub(in crate::dialogs) row: Row,
    pub(in crate::dialogs) watcher_user: Option<String>,
    pub(in crate::dialogs) watcher_domain: Option<String>,
}

impl Question for Page {
    type Item = PageRow;

    fn sql<'a>(&self, schema: &'a Schema) -> &'a str {
        &schema.watch.page
    }

    fn params(&self) -> Vec<Param<'_>> {
        [self.after, self.unix, self.limit].map(Param::Number).to_vec()
    }

    fn read<V: Values>(values: &mut V, schema: &Schema) -> Result<PageRow, V::Error> {
        Ok(PageRow {
            row: read_row(values, schema.flavour)?,
            watcher_user: values.text(19)?,
            watcher_domain: values.text(20)?,
        })
    }
}

/// A number that the database knows.
#[derive(Clone, Copy, Debug)]
pub(in crate::dialogs) enum Number {
    /// The highest id of the table.
    NewestRow,
    /// The highest id of the change table.
    NewestChange,
    /// How many parts of the script are installed.
    Parts,
    /// The database's clock, in milliseconds of Unix time.
    Clock,
}

impl Question for Number {
    type Item = Option<i64>;

    fn sql<'a>(&self, schema: &'a Schema) -> &'a str {
        match self {
            Self::NewestRow => &schema.watch.newest_row,
            Self::NewestChange => &schema.watch.newest_change,
            Self::Parts => &schema.watch.parts,
            Self::Clock => &schema.watch.clock,
        }
    }

    fn params(&self) -> Vec<Param<'_>> {
        Vec::new()
    }

    fn read<V: Values>(values: &mut V, _: &Schema) -> Result<Option<i64>, V::Error> {
        values.number(0)
    }
}

/// The rows of the change table after an id.
pub(in crate::dialogs) struct Changes {
    pub(in crate::dialogs) after: i64,
    pub(in crate::dialogs) limit: i64,
}

/// A row of the change table; nothing in it is believed.
pub(in crate::dialogs) struct ChangeRow {
    pub(in crate::dialogs) id: i64,
    pub(in crate::dialogs) presentity: Option<String>,
    pub(in crate::dialogs) user: Option<String>,
    pub(in crate::dialogs) domain: Option<String>,
}

impl Question for Changes {
    type Item = ChangeRow;

    fn sql<'a>(&self, schema: &'a Schema) -> &'a str {
        &schema.watch.changes
    }

    fn params(&self) -> Vec<Param<'_>> {
        [self.after, self.limit].map(Param::Number).to_vec()
    }

    fn read<V: Values>(values: &mut V, _: &Schema) -> Result<ChangeRow, V::Error> {
        Ok(ChangeRow {
            id: values.number(0)?.unwrap_or(i64::MAX),
            presentity: values.text(1)?,
            user: values.text(2)?,
            domain: values.text(3)?,
        })
    }
}

/// Deletes the oldest rows of the change table, up to an id. Answer: how many.
pub(in crate::dialogs) struct Trim {
    pub(in crate::dialogs) upto: i64,
    pub(in crate::dialogs) limit: i64,
}

impl Trim {
    pub(in crate::dialogs) fn sql<'a>(&self, schema: &'a Schema) -> &'a str {
        &schema.watch.trim
    }

    pub(in crate::dialogs) fn params(&self) -> Vec<Param<'_>> {
        [self.upto, self.limit].map(Param::Number).to_vec()
    }
}
