//! Questions to the database that wait for a place there, and go together then.

use std::collections::VecDeque;
use std::sync::Arc;

use mwid_core::dialog::Dialog;
use mwid_core::mailbox::Account;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::delivery::Order;
use crate::dialogs::together;

/// What the reconciler asked for and has not been begun.
pub(super) struct Lines {
    /// As many questions to the database at once as make sense for its connections.
    pub(super) places: Arc<Semaphore>,
    pub(super) finds: Line<Account>,
    /// Dialogs, and above which CSeq.
    pub(super) claims: Line<(Arc<Dialog>, u32)>,
    /// Those whose CSeq the ledger is to have first.
    pub(super) notifies: Vec<Order>,
}

impl Lines {
    pub(super) fn new(places: usize) -> Self {
        let places = Arc::new(Semaphore::new(places));
        Self { places, finds: Line::new(), claims: Line::new(), notifies: Vec::new() }
    }
}

/// Those of one kind. Who is alone goes at once; the more wait, the fewer questions each of them costs.
pub(super) struct Line<T>(VecDeque<T>);

impl<T> Line<T> {
    pub(super) fn new() -> Self {
        Self(VecDeque::new())
    }

    pub(super) fn push(&mut self, question: T) {
        self.0.push_back(question);
    }

    /// Those whose turn it is, with their place, if there is one.
    pub(super) fn next(
        &mut self,
        places: &Arc<Semaphore>,
    ) -> Option<(Vec<T>, OwnedSemaphorePermit)> {
        if self.0.is_empty() {
            return None;
        }
        // Whoever has a place gives it back before the loop hears from him, and looks here again.
        let place = places.clone().try_acquire_owned().ok()?;
        Some((self.0.drain(..together(self.0.len())).collect(), place))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_that_wait_for_a_place_go_together_in_their_order() {
        let places = Arc::new(Semaphore::new(1));
        let mut line = Line::new();
        assert!(line.next(&places).is_none(), "nobody waits");
        line.push(0);
        let (first, place) = line.next(&places).unwrap();
        assert_eq!(first, [0], "who is alone waits for nobody");
        (1..=6).for_each(|number| line.push(number));
        assert!(line.next(&places).is_none(), "there is no place");
        drop(place);
        let (second, place) = line.next(&places).unwrap();
        assert_eq!(second, [1, 2, 3, 4]);
        drop(place);
        assert_eq!(line.next(&places).unwrap().0, [5, 6]);
    }
}
