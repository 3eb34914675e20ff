//! The way to the writer, and what to do when it does not answer: a disk may hang for hours, and no
//! lamp waits that long.

use std::path::PathBuf;
use std::sync::mpsc::{Receiver, Sender};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::State;
use super::order::Order;

/// How long a NOTIFY waits for the ledger.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);

/// Rows that wait for the writer, at most, about: several for each of 100,000 accounts at a start.
const MAX_WAITING: usize = 500_000;

/// Shared by the daemon, which orders, and the writer.
#[derive(Debug)]
pub(super) struct Health(Mutex<Inner>);

#[derive(Debug)]
struct Inner {
    state: State,
    /// `None` once the ledger is closed.
    orders: Option<Sender<Order>>,
    waiting: usize,
    /// mwid goes on without the writer, whose file is no longer true.
    left: bool,
}

impl Inner {
    fn leave(&mut self, why: String) {
        if std::mem::replace(&mut self.left, true) {
            return;
        }
        tracing::error!(
            "the ledger {}: {why}; mwid goes on without, and makes a new one when the disk answers again",
            self.state.path.display()
        );
        self.state.error = Some(why);
    }
}

impl Health {
    pub(super) fn new(path: PathBuf, orders: Sender<Order>) -> Self {
        let state = State { path, error: None };
        Self(Mutex::new(Inner { state, orders: Some(orders), waiting: 0, left: false }))
    }

    /// The data behind this lock is whole at every moment.
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn state(&self) -> State {
        self.lock().state.clone()
    }

    /// Notes what is wrong; gives whether something was before.
    pub(super) fn say(&self, error: Option<String>) -> bool {
        std::mem::replace(&mut self.lock().state.error, error).is_some()
    }

    /// Hands an order over. Of a writer that was left behind only what a call gave is still wanted:
    /// nobody else remembers that.
    pub(super) fn order(&self, order: Order) {
        let mut inner = self.lock();
        if inner.waiting >= MAX_WAITING {
            inner.leave(format!("it is not written: {MAX_WAITING} changes wait"));
        }
        let is_wanted = !inner.left || order.is_given();
        if let Some(orders) = inner.orders.as_ref().filter(|_| is_wanted) {
            let rows = order.rows();
            // The thread ends only after the sender is gone.
            let _ = orders.send(order);
            inner.waiting += rows;
        }
    }

    /// Somebody waited for [`PATIENCE`] in vain.
    pub(super) fn leave_behind(&self) {
        let mut inner = self.lock();
        inner.leave(format!("nothing was written for {} s, its disk hangs", PATIENCE.as_secs()));
        // Should the writer have answered just now.
        if let Some(orders) = &inner.orders {
            let _ = orders.send(Order::Wake);
            inner.waiting += Order::Wake.rows();
        }
    }

    /// So many rows were written. True when mwid went on without waiting for that.
    pub(super) fn done(&self, rows: usize) -> bool {
        let mut inner = self.lock();
        inner.waiting = inner.waiting.saturating_sub(rows);
        inner.left
    }

    /// The writer is back: what was ordered before, and nothing that comes later, is in the answer.
    pub(super) fn come_back(&self, inbox: &Receiver<Order>) -> Vec<Order> {
        let mut inner = self.lock();
        (inner.left, inner.waiting) = (false, 0);
        inbox.try_iter().collect()
    }

    /// No more orders. True when the writer is left to itself: it may hang for ever.
    pub(super) fn close(&self) -> bool {
        let mut inner = self.lock();
        inner.orders = None;
        inner.left
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use mwid_core::dialog::{Dialog, Row};
    use tokio::sync::oneshot;

    use super::*;

    #[test]
    fn notifies_that_are_noted_as_one_are_counted_one_by_one() {
        let text = |value: &str| Some(value.to_owned());
        let row = Row {
            presentity_uri: text("sip:202@example.com"),
            from_user: text("202"),
            from_domain: text("example.com"),
            to_user: text("202"),
            to_domain: text("example.com"),
            to_tag: text("server"),
            from_tag: text("phone"),
            callid: text("call"),
            contact: text("sip:202@192.0.2.7"),
            expires: Some(1),
            local_contact: text("sip:192.0.2.1"),
            ..Row::default()
        };
        let dialog = Arc::new(Dialog::from_row(&row).unwrap());
        let (orders, inbox) = std::sync::mpsc::channel();
        let health = Health::new(PathBuf::from("ledger.db"), orders);
        let send = |notifies: usize| {
            let (done, _) = oneshot::channel();
            health.order(Order::Sending { notifies: vec![(dialog.clone(), 1); notifies], done });
        };
        send(MAX_WAITING);
        let first = inbox.recv().unwrap();
        assert!(!health.done(first.rows()), "all were written");
        send(MAX_WAITING);
        assert!(!health.done(1));
        send(1);
        assert!(!health.done(1), "there was room for one");
        send(1);
        send(1);
        assert!(health.state().error.is_some_and(|error| error.contains("500000 changes wait")));
    }
}
