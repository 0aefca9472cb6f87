//! Forms (`multipart/form-data`, RFC 7578), where the operator takes them: the one file in a form is the upload.
//!
//! Owns the framing (RFC 2046, Multipart). Nothing of a form is held in memory but the head of one part and the octets that
//! may begin a delimiter. The other fields of a form are read and thrown away; a second file is an error, because it
//! would be lost without a word to its sender.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, Bytes, BytesMut};
use hoist_http::BodyError;
use hoist_proto::refusal::Refusal;
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use http_body::{Body, Frame};
use http_body_util::BodyExt as _;

use crate::intake::Content;
use crate::{BoxError, filename};

/// The longest boundary (RFC 2046, Common Syntax).
const BOUNDARY_OCTETS_MAX: usize = 70;
/// Octets of the head of one part.
const HEAD_BYTES_MAX: usize = 16 << 10;
/// Octets of a form besides its file.
const BESIDES_BYTES_MAX: usize = 1 << 20;

/// The boundary of a form, if a request that may bring content says that it brings one.
pub(crate) fn boundary(method: &Method, fields: &HeaderMap) -> Option<String> {
    if !matches!(*method, Method::POST | Method::PUT) {
        return None;
    }
    let text = fields.get(header::CONTENT_TYPE)?.to_str().ok()?;
    let essence = text.split(';').next().unwrap_or_default().trim();
    let is_form = essence.eq_ignore_ascii_case("multipart/form-data");
    let mut parameters = filename::parameters(text).into_iter().filter(|_| is_form);
    let (_, boundary) = parameters.find(|(name, _)| name.eq_ignore_ascii_case("boundary"))?;
    (1..=BOUNDARY_OCTETS_MAX).contains(&boundary.len()).then_some(boundary)
}

/// Reads a form up to its file, and makes one request of both: the file's bytes, described as the form describes them.
///
/// # Errors
/// A refusal where there is no file in the form, or no form.
///
/// # Cancellation
/// Safe to drop; the body goes with it.
pub(crate) async fn file<B: Content>(
    mut head: Parts,
    mut body: B,
    boundary: &str,
) -> Result<(Parts, File<B>), Refusal> {
    let wrong = |wrong: &'static str| Refusal::field("Content-Type", wrong);
    let mut form = Form::new(boundary);
    let described = loop {
        match form.next().map_err(wrong)? {
            Event::File(described) => break described,
            Event::More => match body.frame().await {
                Some(Ok(frame)) => form.feed(frame.into_data().unwrap_or_default()),
                Some(Err(_)) | None => return Err(wrong("the form ended before a file began in it")),
            },
            Event::Data(_) | Event::End => return Err(wrong("the form has no file in it")),
        }
    };
    for name in [header::CONTENT_LENGTH, header::CONTENT_TYPE, header::CONTENT_DISPOSITION] {
        head.headers.remove(name);
    }
    head.headers.extend(described);
    Ok((head, File { body, form }))
}

/// The content of the file in a form.
pub(crate) struct File<B> {
    body: B,
    form: Form,
}

impl<B: Content> Body for File<B> {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let Self { body, form } = self.get_mut();
        loop {
            match form.next() {
                Ok(Event::Data(data)) => return Poll::Ready(Some(Ok(Frame::data(data)))),
                Ok(Event::More | Event::End | Event::File(_)) => {}
                Err(why) => return Poll::Ready(Some(Err(BodyError::Malformed(why).into()))),
            }
            match ready!(Pin::new(&mut *body).poll_frame(cx)) {
                Some(Ok(frame)) => form.feed(frame.into_data().unwrap_or_default()),
                Some(Err(failure)) => return Poll::Ready(Some(Err(failure.into()))),
                None if form.is_over() => return Poll::Ready(None),
                None => {
                    return Poll::Ready(Some(Err(BodyError::Malformed("the form does not end").into())));
                }
            }
        }
    }
}

/// Takes a form apart. Pure: bytes in, events out.
struct Form {
    /// Line end, two hyphens, boundary.
    delimiter: Vec<u8>,
    buf: BytesMut,
    state: State,
    has_file: bool,
    besides_bytes: usize,
    /// Octets of the buffer that were searched for the end of a part's head.
    scanned: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// In what is before the first delimiter, or in a field that is no file.
    Passing,
    /// In the file.
    File,
    /// Behind a delimiter.
    Delimiter,
    /// In the head of a part.
    Head,
    /// Behind the last delimiter.
    Over,
}

#[derive(Debug, PartialEq)]
enum Event {
    /// More of the form is needed.
    More,
    /// The file begins; what its part says of it.
    File(HeaderMap),
    Data(Bytes),
    /// The form is over.
    End,
}

impl Form {
    fn new(boundary: &str) -> Self {
        // The first delimiter has no line end before it where there is no preamble.
        let buf = BytesMut::from(&b"\r\n"[..]);
        let delimiter = format!("\r\n--{boundary}").into_bytes();
        Self { delimiter, buf, state: State::Passing, has_file: false, besides_bytes: 0, scanned: 0 }
    }

    fn feed(&mut self, bytes: Bytes) {
        // A file streams through without a copy as long as nothing is held back.
        if self.buf.is_empty() {
            self.buf = bytes.into();
        } else {
            self.buf.extend_from_slice(&bytes);
        }
    }

    fn is_over(&self) -> bool {
        self.state == State::Over
    }

    fn next(&mut self) -> Result<Event, &'static str> {
        loop {
            match self.state {
                State::Passing => {
                    let (at, is_delimiter) = self.find_delimiter();
                    self.discard(at)?;
                    if !is_delimiter {
                        return Ok(Event::More);
                    }
                    self.pass_delimiter();
                }
                State::File => match self.find_delimiter() {
                    (0, true) => self.pass_delimiter(),
                    (0, false) => return Ok(Event::More),
                    (at, _) => return Ok(Event::Data(self.buf.split_to(at).freeze())),
                },
                State::Delimiter => {
                    if !self.end_of_delimiter()? {
                        return Ok(Event::More);
                    }
                }
                State::Head => match self.head()? {
                    None => return Ok(Event::More),
                    Some(described) if !is_file(&described) => self.state = State::Passing,
                    Some(_) if self.has_file => {
                        return Err("the form has more than one file: send one at a time");
                    }
                    Some(described) => {
                        (self.state, self.has_file) = (State::File, true);
                        return Ok(Event::File(described));
                    }
                },
                State::Over => {
                    self.discard(self.buf.len())?;
                    return Ok(Event::End);
                }
            }
        }
    }

    /// Octets that belong to no delimiter, and whether one follows them.
    fn find_delimiter(&self) -> (usize, bool) {
        let mut from = 0;
        while let Some(at) = self.buf[from..].iter().position(|octet| *octet == b'\r').map(|at| from + at) {
            let rest = &self.buf[at..];
            if rest.starts_with(&self.delimiter) {
                return (at, true);
            }
            if self.delimiter.starts_with(rest) {
                return (at, false);
            }
            from = at + 1;
        }
        (self.buf.len(), false)
    }

    fn pass_delimiter(&mut self) {
        self.buf.advance(self.delimiter.len());
        self.state = State::Delimiter;
    }

    /// Tells another part from the end of the form. False while too little has arrived to know.
    fn end_of_delimiter(&mut self) -> Result<bool, &'static str> {
        const PADDING_MAX: usize = 256;
        const WRONG: &str = "a delimiter of the form does not end its line";
        if self.buf.starts_with(b"--") {
            self.state = State::Over;
            return Ok(true);
        }
        if self.buf.len() < 2 && b"--".starts_with(&self.buf) {
            return Ok(false);
        }
        let padding = self.buf.iter().take_while(|octet| matches!(octet, b' ' | b'\t')).count();
        let rest = &self.buf[padding..];
        if rest.starts_with(b"\r\n") {
            // The line end stays: with the next one it may end a head without fields.
            self.discard(padding)?;
            (self.state, self.scanned) = (State::Head, 0);
            return Ok(true);
        }
        if padding > PADDING_MAX || rest.len() >= 2 || !b"\r\n".starts_with(rest) {
            return Err(WRONG);
        }
        Ok(false)
    }

    /// The head of a part. The line end of the delimiter is still before it.
    fn head(&mut self) -> Result<Option<HeaderMap>, &'static str> {
        const END: &[u8] = b"\r\n\r\n";
        let from = self.scanned.saturating_sub(END.len() - 1);
        let end = self.buf[from..].windows(END.len()).position(|window| window == END).map(|at| from + at);
        if end.unwrap_or(self.buf.len()) > HEAD_BYTES_MAX {
            return Err("the head of a part is too long");
        }
        let Some(end) = end else {
            self.scanned = self.buf.len();
            return Ok(None);
        };
        let described = described(&self.buf[..end]);
        self.discard(end + END.len())?;
        Ok(Some(described))
    }

    fn discard(&mut self, octets: usize) -> Result<(), &'static str> {
        self.buf.advance(octets);
        self.besides_bytes += octets;
        if self.besides_bytes > BESIDES_BYTES_MAX {
            return Err("the form has more than 1 MiB besides its file");
        }
        Ok(())
    }
}

/// The type and disposition of a part's content. Other fields mean nothing here (RFC 7578, Other Content- Header Fields).
fn described(head: &[u8]) -> HeaderMap {
    let lines = head.split(|octet| *octet == b'\n');
    let fields = lines.filter_map(|line| {
        let (name, value) = line.split_at(line.iter().position(|octet| *octet == b':')?);
        let name = HeaderName::from_bytes(name.trim_ascii()).ok()?;
        let is_known = name == header::CONTENT_TYPE || name == header::CONTENT_DISPOSITION;
        Some((name, HeaderValue::from_bytes(value[1..].trim_ascii()).ok()?)).filter(|_| is_known)
    });
    let mut described = HeaderMap::new();
    for (name, value) in fields {
        described.entry(name).or_insert(value);
    }
    described
}

/// A part with the name of a file. Browsers send an empty one where no file was chosen.
fn is_file(described: &HeaderMap) -> bool {
    filename::from_disposition(described).is_some_and(|name| !name.is_empty())
}

#[cfg(test)]
mod tests;
