//! A panic inside of a database driver: an answer that it could not give, not the end of mwid.

use std::any::Any;
use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::task::Poll;

use super::error::{StoreError, one_line};

/// The answer of a question, or [`StoreError::Panicked`]. What the question held is dropped then
/// and not used again, so nothing half-done is seen.
pub(super) async fn guarded<T>(
    at: &str,
    question: impl Future<Output = Result<T, StoreError>>,
) -> Result<T, StoreError> {
    let mut question = pin!(question);
    poll_fn(|context| {
        catch_unwind(AssertUnwindSafe(|| question.as_mut().poll(context))).unwrap_or_else(|panic| {
            let error = StoreError::Panicked { at: at.to_owned(), what: words(&*panic) };
            Poll::Ready(Err(error))
        })
    })
    .await
}

/// What a panic said.
pub(super) fn words(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    one_line(text.unwrap_or("no words"), 500)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run<T>(question: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(guarded("MariaDB at db", question))
    }

    #[test]
    fn a_panic_of_a_driver_is_an_error_that_says_where_and_is_tried_again() {
        let column = "id".to_owned();
        let error = run::<()>(async move {
            tokio::task::yield_now().await;
            panic!("no such column\n{column}")
        })
        .unwrap_err();
        let text = error.to_string();
        assert!(text.contains("MariaDB at db") && text.contains("no such column id"), "{text}");
        assert!(error.is_transient());
        assert!(run::<()>(async { std::panic::panic_any(7) }).is_err());
    }

    #[test]
    fn an_answer_passes_through() {
        assert_eq!(run(async { Ok(7) }).unwrap(), 7);
        let error = StoreError::BadTable { table: "a b".into() };
        assert!(matches!(run::<()>(async { Err(error) }), Err(StoreError::BadTable { .. })));
    }
}
