//! Answers about everything: what they cost the loop does not grow with those who ask.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::Bytes;
use tokio::sync::Mutex;

use super::desk::{stopping, within};
use super::problem::Problem;

/// An answer holds this long for all who ask.
const LIFE: Duration = Duration::from_secs(1);

/// One answer, made when somebody asks and the last one is too old.
#[derive(Clone, Debug)]
pub(super) struct Shared {
    life: Duration,
    kept: Arc<Mutex<Option<(Instant, Bytes)>>>,
}

impl Default for Shared {
    fn default() -> Self {
        Self { life: LIFE, kept: Arc::default() }
    }
}

impl Shared {
    /// The answer, not older than a second. Who asks while it is made waits for that one; a failure is
    /// not kept.
    pub(super) async fn get(
        &self,
        make: impl Future<Output = Result<Bytes, Problem>> + Send + 'static,
    ) -> Result<Bytes, Problem> {
        let mut kept = within(Arc::clone(&self.kept).lock_owned()).await?;
        if let Some((made, answer)) = &*kept
            && made.elapsed() < self.life
        {
            return Ok(answer.clone());
        }
        // To its end even if this client goes: whoever goes and asks again makes no more work.
        let making = tokio::spawn(async move {
            let answer = make.await?;
            *kept = Some((Instant::now(), answer.clone()));
            Ok(answer)
        });
        making.await.unwrap_or_else(|_| Err(stopping()))
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::task::{Context, Poll, Waker};

    use tokio::runtime::Builder;
    use tokio::sync::oneshot;
    use tokio::task::JoinSet;

    use super::*;

    fn shared(life: Duration) -> Shared {
        Shared { life, ..Shared::default() }
    }

    /// Counts how often it is made.
    #[derive(Clone, Default)]
    struct Maker(Arc<AtomicU32>);

    impl Maker {
        async fn make(self) -> Result<Bytes, Problem> {
            let number = self.0.fetch_add(1, Ordering::Relaxed);
            tokio::task::yield_now().await;
            Ok(Bytes::from(number.to_string()))
        }
    }

    fn run(test: impl Future<Output = ()>) {
        Builder::new_current_thread().enable_time().build().unwrap().block_on(test);
    }

    #[test]
    fn all_who_ask_meanwhile_get_the_same_answer_and_later_there_is_another() {
        run(async {
            let (shared, maker) = (shared(Duration::MAX), Maker::default());
            let mut asking = JoinSet::new();
            for _ in 0..50 {
                let (shared, maker) = (shared.clone(), maker.clone());
                asking.spawn(async move { shared.get(maker.make()).await.unwrap() });
            }
            let answers = asking.join_all().await;
            assert!(answers.iter().all(|answer| answer == "0"), "{answers:?}");
            let later = Shared { life: Duration::ZERO, ..shared };
            assert_eq!(later.get(maker.clone().make()).await.unwrap(), "1");
            assert_eq!(later.get(maker.make()).await.unwrap(), "2");
        });
    }

    #[test]
    fn a_failure_is_not_kept() {
        run(async {
            let shared = shared(Duration::MAX);
            assert!(shared.get(async { Err(stopping()) }).await.is_err());
            assert_eq!(shared.get(Maker::default().make()).await.unwrap(), "0");
        });
    }

    #[test]
    fn who_goes_away_leaves_the_answer_to_the_next_one() {
        run(async {
            let (shared, maker) = (shared(Duration::MAX), Maker::default());
            let (go, going) = oneshot::channel::<()>();
            let slow = {
                let maker = maker.clone();
                async move {
                    going.await.unwrap();
                    maker.make().await
                }
            };
            {
                let mut first = pin!(shared.get(slow));
                let is_ready = first.as_mut().poll(&mut Context::from_waker(Waker::noop()));
                assert!(matches!(is_ready, Poll::Pending));
            }
            go.send(()).unwrap();
            assert_eq!(shared.get(maker.make()).await.unwrap(), "0", "made once, by the first");
        });
    }
}
