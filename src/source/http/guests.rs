//! Who holds a place and uses it for nothing: the one that has done so for longest goes when places
//! are short, so that silent clients never keep out one that has something to say.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep, sleep_until, timeout};

/// How long a client may be silent whatever happens: its request may be on its way.
pub(super) const GRACE: Duration = Duration::from_millis(500);

/// How long a place may take to become free when its client was sent away.
const LEAVING: Duration = Duration::from_secs(1);

/// Since when it is silent, and which it is.
type Key = (Instant, u64);

#[derive(Debug, Default)]
struct State {
    silent: BTreeMap<Key, Arc<Notify>>,
    made: u64,
}

/// All connections, as far as they are silent. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(super) struct Guests(Arc<Mutex<State>>);

impl Guests {
    /// A new connection, which has said nothing yet.
    pub(super) fn enter(&self) -> Guest {
        let id = {
            let mut state = self.lock();
            state.made += 1;
            state.made
        };
        let (leave, entry) = (Arc::default(), Mutex::default());
        let guest = Guest { guests: self.clone(), id, leave, entry };
        guest.is_silent();
        guest
    }

    /// A place: a free one, or that of the client that has been silent for longest.
    pub(super) async fn place(&self, places: &Arc<Semaphore>) -> Option<OwnedSemaphorePermit> {
        let place = Arc::clone(places).acquire_owned();
        tokio::pin!(place);
        loop {
            tokio::select! {
                biased;
                place = &mut place => return place.ok(),
                () = self.send_one_away() => {}
            }
            if let Ok(place) = timeout(LEAVING, &mut place).await {
                return place.ok();
            }
        }
    }

    /// Waits until somebody has been silent for long enough.
    async fn send_one_away(&self) {
        loop {
            let first = self.lock().silent.first_key_value().map(|(key, _)| *key);
            match first {
                None => sleep(GRACE).await,
                Some((since, _)) if since + GRACE > Instant::now() => {
                    sleep_until(since + GRACE).await;
                }
                Some(key) => {
                    let leave = self.lock().silent.remove(&key);
                    return leave.iter().for_each(|leave| leave.notify_one());
                }
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One connection; forgotten when it is dropped.
#[derive(Debug)]
pub(super) struct Guest {
    guests: Guests,
    id: u64,
    leave: Arc<Notify>,
    /// Its entry, while it is silent.
    entry: Mutex<Option<Key>>,
}

impl Guest {
    /// From now on it is waited for, and for nothing else.
    pub(super) fn is_silent(&self) {
        self.enter(Some((Instant::now(), self.id)));
    }

    /// It has asked something.
    pub(super) fn is_heard(&self) {
        self.enter(None);
    }

    fn enter(&self, key: Option<Key>) {
        let mut entry = self.entry.lock().unwrap_or_else(PoisonError::into_inner);
        let mut state = self.guests.lock();
        if let Some(old) = std::mem::replace(&mut *entry, key) {
            state.silent.remove(&old);
        }
        state.silent.extend(key.map(|key| (key, Arc::clone(&self.leave))));
    }

    /// Waits until it is sent away.
    pub(super) async fn sent_away(&self) {
        self.leave.notified().await;
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.enter(None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOON: Duration = Duration::from_secs(20);

    #[tokio::test]
    async fn the_one_that_was_silent_for_longest_goes_and_who_is_heard_stays() {
        let (guests, places) = (Guests::default(), Arc::new(Semaphore::new(3)));
        let enter = async || {
            let place = guests.place(&places).await.unwrap();
            (guests.enter(), place)
        };
        let (heard, _first) = enter().await;
        heard.is_heard();
        let entered = Instant::now();
        let (oldest, second) = enter().await;
        let (younger, _third) = enter().await;
        let goes = tokio::spawn(async move {
            oldest.sent_away().await;
            drop((oldest, second));
        });
        let new = timeout(SOON, enter()).await.expect("somebody makes room");
        assert!(entered.elapsed() >= GRACE, "{:?}", entered.elapsed());
        goes.await.unwrap();
        let others = [&heard, &younger];
        for guest in others {
            assert!(timeout(Duration::ZERO, guest.sent_away()).await.is_err());
        }
        drop((younger, heard, new));
        assert_eq!(guests.lock().silent.len(), 0, "who has gone is forgotten");
    }
}
