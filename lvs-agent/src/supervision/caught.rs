//! A panic as a value.

use std::{
    any::Any,
    fmt,
    future::poll_fn,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::pin,
    task::Poll,
};

/// A panic that was caught.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Panicked(String);

impl Panicked {
    fn new(payload: &(dyn Any + Send)) -> Self {
        let text = payload.downcast_ref::<&str>().map(|text| (*text).to_owned());
        let text = text.or_else(|| payload.downcast_ref::<String>().cloned());
        Self(text.unwrap_or_else(|| "no message".to_owned()))
    }
}

impl fmt::Display for Panicked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "it panicked: {}", self.0)
    }
}

/// Runs `future` to its end or to its panic, whose place the panic hook has logged.
///
/// What the future has borrowed may be left in the middle of a change: call it where that is thrown away, or where each
/// value is whole by itself.
pub(crate) async fn caught<T>(future: impl Future<Output = T>) -> Result<T, Panicked> {
    let mut future = pin!(future);
    poll_fn(move |context| match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(context))) {
        Ok(poll) => poll.map(Ok),
        Err(payload) => Poll::Ready(Err(Panicked::new(&*payload))),
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_is_a_value_and_so_is_a_result() {
        assert_eq!(caught(async { 7 }).await, Ok(7));
        let after_a_pause = caught(async {
            tokio::task::yield_now().await;
            panic!("number {}", 3);
        });
        let panicked: Result<(), _> = after_a_pause.await;
        assert_eq!(panicked.unwrap_err().to_string(), "it panicked: number 3");
    }
}
