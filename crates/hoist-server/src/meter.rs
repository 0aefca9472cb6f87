//! The measure of one request: the content in both directions and the time, reported to the observers at its end.
//!
//! A request ends when its response's body has been sent, or when the transport drops it.

use std::any::Any;
use std::fmt::Write as _;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::Bytes;
use hoist_proto::refusal::Refusal;
use hoist_proto::types::UploadId;
use hoist_proto::upload::Family;
use http::{Method, StatusCode};
use http_body::{Body, Frame, SizeHint};

use crate::observe::{Event, Observers, RequestEvent};

/// The dialect of a response and the refusal in it, for observers. An extension of every response in a dialect or with a
/// refusal.
#[derive(Clone, Debug)]
pub(crate) struct Summary {
    pub(crate) dialect: Option<Family>,
    pub(crate) refusal: Option<Refusal>,
}

/// Reports its request when it is dropped.
pub(crate) struct Meter {
    observers: Observers,
    request: RequestEvent,
    received: Arc<AtomicU64>,
    sent: Arc<AtomicU64>,
    begun: Instant,
    span: tracing::Span,
}

impl Meter {
    /// Begins to measure a request, within its span.
    pub(crate) fn new(
        observers: &Observers,
        client: Option<std::net::IpAddr>,
        method: &Method,
        path: &str,
    ) -> Self {
        let request = RequestEvent {
            client,
            method: method.clone(),
            path: redacted(path),
            dialect: None,
            status: None,
            bytes_received: 0,
            bytes_sent: 0,
            duration: std::time::Duration::ZERO,
        };
        let (received, sent, span) = (Arc::default(), Arc::default(), tracing::Span::current());
        Self { observers: observers.clone(), request, received, sent, begun: Instant::now(), span }
    }

    /// Returns a body that counts the content it yields.
    pub(crate) fn metered<B>(&self, body: B) -> Metered<B> {
        Metered { body, received: Arc::clone(&self.received) }
    }

    /// Returns the handle that moves the content of a body past it, counted, if the body has one.
    pub(crate) fn spliced<B: 'static>(&self, body: &B) -> Option<Spliced> {
        let splice = (body as &dyn Any).downcast_ref::<hoist_http::Body>()?.splice()?;
        Some(Spliced { splice, received: Arc::clone(&self.received) })
    }

    /// Notes the response, and reports it if it is a refusal.
    pub(crate) fn answered(&mut self, status: StatusCode, summary: Option<Summary>) {
        self.request.status = Some(status);
        let Some(Summary { dialect, refusal }) = summary else { return };
        self.request.dialect = dialect;
        if let Some(refusal) = refusal {
            self.observers.tell(&Event::Refused(&self.request, &refusal));
        }
    }

    /// Returns the count of the bytes that are sent.
    pub(crate) fn sent(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.sent)
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        self.request.bytes_received = self.received.load(Ordering::Relaxed);
        self.request.bytes_sent = self.sent.load(Ordering::Relaxed);
        self.request.duration = self.begun.elapsed();
        self.span.in_scope(|| self.observers.tell(&Event::Answered(&self.request)));
    }
}

/// Returns a path in which ids of uploads are shortened: `/uploads/1m6rt34g*`.
pub(crate) fn redacted(path: &str) -> String {
    let mut redacted = String::with_capacity(path.len());
    for (number, segment) in path.split('/').enumerate() {
        if number > 0 {
            redacted.push('/');
        }
        match segment.parse::<UploadId>() {
            Ok(id) => {
                let _ = write!(redacted, "{}*", id.short());
            }
            Err(_) => redacted.push_str(segment),
        }
    }
    redacted
}

/// The way of content past the process, and the counter of its bytes. An extension of requests whose body is that of
/// `hoist-http` itself: a router's body may change the content.
#[derive(Clone)]
pub(crate) struct Spliced {
    pub(crate) splice: hoist_http::Splice,
    pub(crate) received: Arc<AtomicU64>,
}

/// The body of a request, counted.
pub(crate) struct Metered<B> {
    body: B,
    received: Arc<AtomicU64>,
}

impl<B: Body<Data = Bytes> + Unpin> Body for Metered<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let frame = Pin::new(&mut self.body).poll_frame(cx);
        if let Poll::Ready(Some(Ok(frame))) = &frame
            && let Some(data) = frame.data_ref()
        {
            self.received.fetch_add(data.len() as u64, Ordering::Relaxed);
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_in_paths_are_shortened() {
        let id = UploadId::from_bits([7; 16]).to_string();
        let short = format!("/uploads/{}*", &id[..8]);
        for (path, expected) in [
            (format!("/uploads/{id}"), short.clone()),
            (format!("/uploads/{id}/"), format!("{short}/")),
            ("/uploads/a.txt".to_owned(), "/uploads/a.txt".to_owned()),
            ("*".to_owned(), "*".to_owned()),
        ] {
            assert_eq!(redacted(&path), expected);
        }
    }
}
