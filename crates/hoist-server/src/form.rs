//! Uploads from HTML forms (`multipart/form-data`, RFC 7578), if the operator accepts them: the one file of a form.
//!
//! Owns the parser of the framing (RFC 2046, Multipart). It buffers the head of one part and the octets that may begin a
//! delimiter. The other fields of a form are discarded. A second file is an error, because discarding it would lose data
//! silently.

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

const BOUNDARY_OCTETS_MAX: usize = 70;
const HEAD_BYTES_MAX: usize = 16 << 10;
/// The most octets in a form outside of its file.
const OTHER_BYTES_MAX: usize = 1 << 20;

/// Returns the boundary if the request is a `POST` or `PUT` with a form.
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

/// Reads a form up to its file, and returns a request whose content is the file, with the fields of its part. Refuses with
/// 400 if the form has no file or is malformed.
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
                Some(Err(_)) | None => return Err(wrong("the form ended before its file")),
            },
            Event::Data(_) | Event::End => return Err(wrong("the form has no file")),
        }
    };
    for name in [header::CONTENT_LENGTH, header::CONTENT_TYPE, header::CONTENT_DISPOSITION] {
        head.headers.remove(name);
    }
    head.headers.extend(described);
    Ok((head, File { body, form }))
}

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
                None if form.state == ParserState::Ended => return Poll::Ready(None),
                None => {
                    return Poll::Ready(Some(Err(BodyError::Malformed("the form does not end").into())));
                }
            }
        }
    }
}

/// An incremental parser of a form: bytes in, events out.
struct Form {
    /// Line end, two hyphens, boundary.
    delimiter: Vec<u8>,
    buf: BytesMut,
    state: ParserState,
    has_file: bool,
    other_bytes: usize,
    /// Octets of the buffer that were searched for the end of a part's head.
    scanned: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ParserState {
    /// Before the first delimiter, or in a field that is not a file.
    Skipping,
    File,
    Delimiter,
    Head,
    /// After the last delimiter.
    Ended,
}

#[derive(Debug, PartialEq)]
enum Event {
    More,
    /// The file begins; holds the fields of its part.
    File(HeaderMap),
    Data(Bytes),
    End,
}

impl Form {
    fn new(boundary: &str) -> Self {
        // Without a preamble the first delimiter has no line end before it.
        let buf = BytesMut::from(&b"\r\n"[..]);
        let delimiter = format!("\r\n--{boundary}").into_bytes();
        Self { delimiter, buf, state: ParserState::Skipping, has_file: false, other_bytes: 0, scanned: 0 }
    }

    fn feed(&mut self, bytes: Bytes) {
        // Without held back octets the bytes of a file are not copied.
        if self.buf.is_empty() {
            self.buf = bytes.into();
        } else {
            self.buf.extend_from_slice(&bytes);
        }
    }

    fn next(&mut self) -> Result<Event, &'static str> {
        loop {
            match self.state {
                ParserState::Skipping => {
                    let (at, is_delimiter) = self.find_delimiter();
                    self.skip(at)?;
                    if !is_delimiter {
                        return Ok(Event::More);
                    }
                    self.pass_delimiter();
                }
                ParserState::File => match self.find_delimiter() {
                    (0, true) => self.pass_delimiter(),
                    (0, false) => return Ok(Event::More),
                    (at, _) => return Ok(Event::Data(self.buf.split_to(at).freeze())),
                },
                ParserState::Delimiter => {
                    if !self.end_of_delimiter()? {
                        return Ok(Event::More);
                    }
                }
                ParserState::Head => match self.head()? {
                    None => return Ok(Event::More),
                    Some(described) if !is_file(&described) => self.state = ParserState::Skipping,
                    Some(_) if self.has_file => {
                        return Err("the form has more than one file; send one at a time");
                    }
                    Some(described) => {
                        (self.state, self.has_file) = (ParserState::File, true);
                        return Ok(Event::File(described));
                    }
                },
                ParserState::Ended => {
                    self.skip(self.buf.len())?;
                    return Ok(Event::End);
                }
            }
        }
    }

    /// Returns the number of octets before the next possible delimiter, and whether it is one.
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
        self.state = ParserState::Delimiter;
    }

    /// Reads what follows a delimiter: another part or the end of the form. Returns `false` if more bytes are needed.
    fn end_of_delimiter(&mut self) -> Result<bool, &'static str> {
        const PADDING_MAX: usize = 256;
        if self.buf.starts_with(b"--") {
            self.state = ParserState::Ended;
            return Ok(true);
        }
        if self.buf.len() < 2 && b"--".starts_with(&self.buf) {
            return Ok(false);
        }
        let padding = self.buf.iter().take_while(|octet| matches!(octet, b' ' | b'\t')).count();
        let rest = &self.buf[padding..];
        if rest.starts_with(b"\r\n") {
            // The line end stays in the buffer: with the next one it ends a head without fields.
            self.skip(padding)?;
            (self.state, self.scanned) = (ParserState::Head, 0);
            return Ok(true);
        }
        if padding > PADDING_MAX || rest.len() >= 2 || !b"\r\n".starts_with(rest) {
            return Err("a delimiter of the form does not end its line");
        }
        Ok(false)
    }

    /// Reads the head of a part, after the line end of the delimiter. `None` if more bytes are needed.
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
        self.skip(end + END.len())?;
        Ok(Some(described))
    }

    fn skip(&mut self, octets: usize) -> Result<(), &'static str> {
        self.buf.advance(octets);
        self.other_bytes += octets;
        if self.other_bytes > OTHER_BYTES_MAX {
            return Err("the form has more than 1 MiB outside of its file");
        }
        Ok(())
    }
}

/// Parses the type and disposition of a part. Other fields are ignored (RFC 7578, Other Content- Header Fields).
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

/// Returns whether a part has a file name. Browsers send an empty one if no file was chosen.
fn is_file(described: &HeaderMap) -> bool {
    filename::from_disposition(described).is_some_and(|name| !name.is_empty())
}

#[cfg(test)]
mod tests;
