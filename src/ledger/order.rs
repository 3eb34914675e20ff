//! What is to be written, and the SQL that writes it.

use std::sync::Arc;

use mwid_core::dialog::Dialog;
use mwid_core::mailbox::{Account, Mailbox};
use mwid_core::publication::Way;
use mwid_core::reconciler::Published;
use mwid_core::summary::Summary;
use rusqlite::{Connection, params};
use tokio::sync::oneshot;

use super::last::Member;
use super::{Given, publications};
use crate::source::Receipt;

/// Something to be written.
#[derive(Debug)]
pub(super) enum Order {
    Sending {
        notifies: Vec<(Arc<Dialog>, u32)>,
        done: oneshot::Sender<()>,
    },
    Unused {
        dialog: Arc<Dialog>,
        cseq: u32,
    },
    Delivered {
        dialog: Arc<Dialog>,
        cseq: u32,
        summary: Summary,
    },
    Dead {
        dialog: Arc<Dialog>,
    },
    Given {
        given: Given,
        receipt: Option<Receipt>,
    },
    NotGiven {
        mailbox: Mailbox,
    },
    /// `members`: `None` when they are the same as before.
    Last {
        account: Account,
        summary: Summary,
        members: Option<Arc<[Member]>>,
    },
    NoLast {
        account: Account,
    },
    Context {
        context: Box<str>,
        inode: u64,
    },
    Publishing {
        account: Account,
        way: Way,
        done: oneshot::Sender<()>,
    },
    Published {
        account: Account,
        way: Way,
        published: Published,
    },
    Unpublished {
        account: Account,
        way: Way,
    },
    Server {
        way: Way,
        server: String,
    },
    /// Nothing: the writer is to look whether it was left behind.
    Wake,
}

impl Order {
    /// Somebody waits for it.
    pub(super) fn is_waited_for(&self) -> bool {
        match self {
            Self::Sending { .. } | Self::Publishing { .. } => true,
            Self::Given { receipt, .. } => receipt.as_ref().is_some_and(Receipt::is_waited_for),
            _ => false,
        }
    }

    /// Rows that it writes, about.
    pub(super) fn rows(&self) -> usize {
        match self {
            Self::Sending { notifies, .. } => notifies.len(),
            _ => 1,
        }
    }

    /// It is of what only a call gave.
    pub(super) fn is_given(&self) -> bool {
        matches!(self, Self::Given { .. } | Self::NotGiven { .. })
    }
}

/// Writes one order.
pub(super) fn apply(connection: &Connection, order: &Order) -> Result<(), rusqlite::Error> {
    match order {
        Order::Sending { notifies, .. } => {
            return notifies
                .iter()
                .try_for_each(|(dialog, cseq)| upsert(connection, dialog, *cseq));
        }
        Order::Unused { dialog, cseq } => connection
            .prepare_cached(
                "UPDATE dialogs SET high_water = max(high_water, ?4)
                 WHERE call_id = ?1 AND local_tag = ?2 AND remote_tag = ?3",
            )?
            .execute(params![dialog.call_id, dialog.local_tag, dialog.remote_tag, cseq])?,
        Order::Delivered { dialog, cseq, summary } => {
            let Summary { new, old, new_urgent, old_urgent } = summary;
            connection
                .prepare_cached(
                    "UPDATE dialogs SET new = ?5, old = ?6, new_urgent = ?7, old_urgent = ?8
                     WHERE call_id = ?1 AND local_tag = ?2 AND remote_tag = ?3 AND high_water = ?4",
                )?
                .execute(params![
                    dialog.call_id,
                    dialog.local_tag,
                    dialog.remote_tag,
                    cseq,
                    new,
                    old,
                    new_urgent,
                    old_urgent
                ])?
        }
        Order::Dead { dialog } => connection
            .prepare_cached(
                "UPDATE dialogs SET dead = 1
                 WHERE call_id = ?1 AND local_tag = ?2 AND remote_tag = ?3",
            )?
            .execute(params![dialog.call_id, dialog.local_tag, dialog.remote_tag])?,
        Order::Given { given, .. } => return give(connection, given),
        Order::Publishing { account, way, .. } => publications::doubt(connection, account, *way)?,
        Order::Published { account, way, published } => {
            publications::write(connection, account, *way, published)?
        }
        Order::Unpublished { account, way } => publications::remove(connection, account, *way)?,
        Order::Server { way, server } => publications::serve(connection, *way, server)?,
        Order::NotGiven { mailbox } => connection
            .prepare_cached("DELETE FROM mailboxes WHERE context = ?1 AND number = ?2")?
            .execute(params![mailbox.context(), mailbox.number()])?,
        Order::Last { account, summary, members } => {
            return keep(connection, account, *summary, members.as_deref());
        }
        Order::NoLast { account } => {
            connection
                .prepare_cached("DELETE FROM accounts WHERE account = ?1")?
                .execute([account.as_str()])?;
            forget_members(connection, account)?
        }
        Order::Context { context, inode } => keep_context(connection, context, *inode)?,
        Order::Wake => 0,
    };
    Ok(())
}

/// Writes what externnotify gave.
pub(super) fn give(connection: &Connection, given: &Given) -> Result<(), rusqlite::Error> {
    let Given { mailbox, summary, stamp } = given;
    let Summary { new, old, new_urgent, old_urgent } = summary;
    let stamp = i64::try_from(*stamp).unwrap_or(i64::MAX);
    connection
        .prepare_cached(
            "INSERT OR REPLACE INTO mailboxes
             (context, number, new, old, new_urgent, old_urgent, stamp)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        )?
        .execute(params![
            mailbox.context(),
            mailbox.number(),
            new,
            old,
            new_urgent,
            old_urgent,
            stamp
        ])?;
    Ok(())
}

fn upsert(connection: &Connection, dialog: &Dialog, cseq: u32) -> Result<(), rusqlite::Error> {
    connection
        .prepare_cached(
            "INSERT INTO dialogs (call_id, local_tag, remote_tag, high_water, remote_cseq, expires, contact)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
             ON CONFLICT DO UPDATE SET high_water = max(high_water, ?4), remote_cseq = ?5,
             expires = ?6, contact = ?7, dead = 0,
             new = NULL, old = NULL, new_urgent = NULL, old_urgent = NULL",
        )?
        .execute(params![
            dialog.call_id, dialog.local_tag, dialog.remote_tag, cseq, dialog.remote_cseq,
            i64::try_from(dialog.expires).unwrap_or(i64::MAX), dialog.remote_target
        ])?;
    Ok(())
}

/// Writes the last summary of an account, and which mailboxes light it if those are others now.
pub(super) fn keep(
    connection: &Connection,
    account: &Account,
    summary: Summary,
    members: Option<&[Member]>,
) -> Result<(), rusqlite::Error> {
    let Summary { new, old, new_urgent, old_urgent } = summary;
    connection
        .prepare_cached(
            "INSERT OR REPLACE INTO accounts (account, new, old, new_urgent, old_urgent)
             VALUES (?1, ?2, ?3, ?4, ?5)",
        )?
        .execute(params![account.as_str(), new, old, new_urgent, old_urgent])?;
    let Some(members) = members else { return Ok(()) };
    forget_members(connection, account)?;
    let mut insert = connection.prepare_cached(
        "INSERT INTO members (account, context, number, here) VALUES (?1, ?2, ?3, ?4)",
    )?;
    for Member { mailbox, here } in members {
        insert.execute(params![account.as_str(), mailbox.context(), mailbox.number(), here])?;
    }
    Ok(())
}

fn forget_members(connection: &Connection, account: &Account) -> Result<usize, rusqlite::Error> {
    connection.prepare_cached("DELETE FROM members WHERE account = ?1")?.execute([account.as_str()])
}

/// Writes which folder a context is.
pub(super) fn keep_context(
    connection: &Connection,
    context: &str,
    inode: u64,
) -> Result<usize, rusqlite::Error> {
    connection
        .prepare_cached("INSERT OR REPLACE INTO contexts (context, inode) VALUES (?1, ?2)")?
        // SQLite has no unsigned numbers: the same 64 bits.
        .execute(params![context, inode.cast_signed()])
}
