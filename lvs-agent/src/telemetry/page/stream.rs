//! The answer that does not end: messages as they come.

use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use hyper::body::{Body, Frame};
use tokio::sync::mpsc;

/// Messages to a page. It ends when nobody sends any more.
pub(crate) struct EventStream {
    messages: mpsc::Receiver<Bytes>,
}

impl EventStream {
    pub(super) fn new(messages: mpsc::Receiver<Bytes>) -> Self {
        Self { messages }
    }

    /// The next message, for tests.
    #[cfg(test)]
    pub(super) async fn next(&mut self) -> Option<Bytes> {
        self.messages.recv().await
    }
}

impl Body for EventStream {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.messages.poll_recv(context).map(|message| message.map(|message| Ok(Frame::data(message))))
    }
}
