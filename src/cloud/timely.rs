//! A request's body that is sent in time or not at all.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use crate::uptime::{self, Moment};

/// A form that is handed out only before its time is over.
///
/// The connection asks for it in the same breath in which it writes to the socket, and writes nothing
/// of a request whose body it does not get. Time-outs alone are too late for that: whoever awaits the
/// answer is another task than the connection, and after a process was stopped and goes on, either
/// may run first.
pub(super) struct Timely {
    form: Option<Bytes>,
    until: Moment,
}

/// The time of the request was over before it was sent.
#[derive(Debug, thiserror::Error)]
#[error("the time of the request was over before it was sent")]
pub(super) struct TooLate;

impl Timely {
    pub(super) fn new(form: String, until: Moment) -> Self {
        Self { form: Some(form.into()), until }
    }
}

impl Body for Timely {
    type Data = Bytes;
    type Error = TooLate;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, TooLate>>> {
        let Some(form) = self.form.take() else { return Poll::Ready(None) };
        let in_time = uptime::now() < self.until;
        Poll::Ready(Some(if in_time { Ok(Frame::data(form)) } else { Err(TooLate) }))
    }

    fn is_end_stream(&self) -> bool {
        self.form.is_none()
    }

    /// Exact, so that the length stands in the head as the API expects it.
    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.form.as_ref().map_or(0, |form| form.len() as u64))
    }
}

/// Shows nothing: a form holds addresses and a signature.
impl fmt::Debug for Timely {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Timely").finish_non_exhaustive()
    }
}
