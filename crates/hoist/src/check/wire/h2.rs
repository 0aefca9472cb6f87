//! HTTP/2 with the `h2` crate. The connection is polled in place, without a background task.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use h2::client::{Connection, ResponseFuture, SendRequest};
use h2::{Reason, RecvStream, SendStream};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response};

use super::super::case::{Framing, RequestEnd};
use super::endpoint::Stream;
use super::{CONTINUE_WAIT, Endpoint, Exchange, Head, Outgoing, PendingRequest, Responses, Transport};

/// A request on its own connection.
pub(crate) struct H2Request {
    connection: Connection<Stream, Bytes>,
    /// Kept, because the connection closes without a handle.
    _requests: SendRequest<Bytes>,
    sending: SendStream<Bytes>,
    response: ResponseFuture,
    receiving: Option<(Head, RecvStream, Vec<u8>)>,
    pub(super) responses: Responses,
    over: bool,
}

pub(super) async fn exchange(endpoint: &Endpoint, outgoing: &Outgoing) -> io::Result<Exchange> {
    let stream = endpoint.connect(Transport::H2).await?;
    let (requests, connection) = h2::client::handshake(stream).await.map_err(io::Error::other)?;
    let request = request(endpoint, outgoing).map_err(io::Error::other)?;
    let content = outgoing.content.clone().unwrap_or_default();
    let ends_at_once = content.is_empty()
        && outgoing.ends == RequestEnd::Whole
        && outgoing.trailers.is_empty()
        && !outgoing.waits;
    let mut requests = requests.ready().await.map_err(io::Error::other)?;
    let (response, sending) = requests.send_request(request, ends_at_once).map_err(io::Error::other)?;
    let mut talk = H2Request {
        connection,
        _requests: requests,
        sending,
        response,
        receiving: None,
        responses: Responses::default(),
        over: false,
    };
    if outgoing.waits {
        let wait_for_continue = poll_fn(|cx| talk.poll_until(cx, Responses::is_asked_to_continue));
        // The content is sent even if the server does not ask for it.
        let _ = tokio::time::timeout(CONTINUE_WAIT, wait_for_continue).await;
    }
    if !ends_at_once {
        talk.send(outgoing, &content).await;
    }
    match outgoing.ends {
        RequestEnd::Whole => Ok(Exchange::Complete(talk.end().await)),
        RequestEnd::Cut => {
            talk.settle().await;
            talk.sending.send_reset(Reason::CANCEL);
            talk.settle().await;
            Ok(Exchange::Complete(talk.responses))
        }
        RequestEnd::Stall => {
            talk.settle().await;
            Ok(Exchange::Pending(PendingRequest::H2(Box::new(talk))))
        }
    }
}

fn request(endpoint: &Endpoint, outgoing: &Outgoing) -> Result<Request<()>, http::Error> {
    let url = format!("{}{}", endpoint.origin(), outgoing.target);
    let mut request = Request::builder().method(outgoing.method.as_str()).uri(url);
    for (name, value) in &outgoing.fields {
        request = request.header(name, value);
    }
    if outgoing.waits {
        request = request.header("expect", "100-continue");
    }
    if let (Some(content), Framing::Sized) = (&outgoing.content, outgoing.framing) {
        request = request.header("content-length", outgoing.declares.unwrap_or(content.len() as u64));
    }
    request.body(())
}

impl H2Request {
    pub(super) fn send_rest(&mut self, rest: Vec<u8>) {
        // Errors are ignored: a server that has ended the stream has already responded.
        let _ = self.sending.send_data(rest.into(), true);
    }

    pub(super) async fn end(mut self) -> Responses {
        poll_fn(|cx| self.poll_until(cx, |responses| responses.last.is_some())).await;
        self.responses
    }

    /// Sends the content. Errors are ignored: a server that has ended the stream has already responded.
    async fn send(&mut self, outgoing: &Outgoing, content: &[u8]) {
        let is_whole = outgoing.ends == RequestEnd::Whole;
        let has_trailers = !outgoing.trailers.is_empty();
        let part = content.len().div_ceil(outgoing.paused.len() + 1).max(1);
        let mut parts = content.chunks(part).map(Bytes::copy_from_slice);
        for pause in &outgoing.paused {
            let _ = self.sending.send_data(parts.next().unwrap_or_default(), false);
            let responses = poll_fn(|cx| self.poll_until(cx, |responses| responses.last.is_some()));
            let _ = tokio::time::timeout(*pause, responses).await;
        }
        let last = parts.next().unwrap_or_default();
        let _ = self.sending.send_data(last, is_whole && !has_trailers);
        if is_whole && has_trailers {
            let trailers = outgoing.trailers.iter().filter_map(|(name, value)| {
                Some((HeaderName::try_from(name).ok()?, HeaderValue::try_from(value).ok()?))
            });
            let _ = self.sending.send_trailers(trailers.collect::<HeaderMap>());
        }
    }

    /// Polls the connection once, to send what is queued.
    async fn settle(&mut self) {
        poll_fn(|cx| {
            let _ = self.poll_until(cx, |_| false);
            Poll::Ready(())
        })
        .await;
    }

    /// Polls until `is_enough` is true or the stream is over.
    fn poll_until(&mut self, cx: &mut Context<'_>, is_enough: impl Fn(&Responses) -> bool) -> Poll<()> {
        loop {
            // The connection is polled before the stream, so that no interim response is missed.
            let closed = Pin::new(&mut self.connection).poll(cx).is_ready();
            let moved = self.poll_stream(cx);
            if closed && moved.is_pending() {
                self.over = true;
            }
            if self.over || is_enough(&self.responses) {
                return Poll::Ready(());
            }
            std::task::ready!(moved);
        }
    }

    /// Polls for the next event of the stream.
    fn poll_stream(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.over || self.responses.last.is_some() {
            return Poll::Pending;
        }
        if let Some((head, receiving, content)) = &mut self.receiving {
            match std::task::ready!(receiving.poll_data(cx)) {
                Some(Ok(data)) => {
                    let _ = receiving.flow_control().release_capacity(data.len());
                    content.extend_from_slice(&data);
                }
                Some(Err(_)) => self.over = true,
                None => self.responses.last = Some((std::mem::take(head), std::mem::take(content))),
            }
            return Poll::Ready(());
        }
        if let Poll::Ready(Some(interim)) = self.response.poll_informational(cx) {
            match interim {
                Ok(interim) => self.responses.interims.push(read(&interim)),
                Err(_) => self.over = true,
            }
            return Poll::Ready(());
        }
        match std::task::ready!(Pin::new(&mut self.response).poll(cx)) {
            Ok(response) => {
                let head = read(&response);
                self.receiving = Some((head, response.into_body(), Vec::new()));
            }
            Err(_) => self.over = true,
        }
        Poll::Ready(())
    }
}

fn read<B>(response: &Response<B>) -> Head {
    let fields = response.headers().iter();
    let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    let fields = fields.map(|(name, value)| (name.as_str().to_owned(), text(value))).collect();
    Head { status: response.status().as_u16(), reason: None, fields }
}
