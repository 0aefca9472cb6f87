//! The framing of a request's content: no content, a `Content-Length`, or the chunked coding.
//!
//! Pure: bytes in, frames out, strict (RFC 9112, Message Body).

use bytes::{Buf, Bytes, BytesMut};
use http::HeaderMap;

use super::fields::{self, is_forbidden_trailer};
use crate::limits::Limits;
use crate::rejection::Rejection;

/// The framing of one request's content, and the state of decoding it.
#[derive(Debug, PartialEq)]
pub(crate) enum Framing {
    /// All content has been decoded, or the request has none.
    Done,
    /// The number of bytes that are left.
    Length(u64),
    Chunked(Chunked),
}

/// The content at the front of the buffer.
#[derive(Debug, PartialEq)]
pub(crate) enum Decoded {
    /// More bytes have to arrive.
    More,
    Data(Bytes),
    Trailers(HeaderMap),
    End,
}

impl Framing {
    pub(crate) fn length(bytes: u64) -> Self {
        if bytes == 0 { Framing::Done } else { Framing::Length(bytes) }
    }

    pub(crate) fn chunked() -> Self {
        Framing::Chunked(Chunked::default())
    }

    /// Returns the bytes still to be decoded; `None` for the chunked coding.
    pub(crate) fn left(&self) -> Option<u64> {
        match self {
            Framing::Done => Some(0),
            Framing::Length(left) => Some(*left),
            Framing::Chunked(_) => None,
        }
    }

    /// Takes a piece of the content from `buf`.
    ///
    /// # Errors
    /// Returns the reason if the framing is malformed. The connection is of no further use.
    pub(crate) fn decode(&mut self, buf: &mut BytesMut, limits: &Limits) -> Result<Decoded, &'static str> {
        match self {
            Framing::Done => Ok(Decoded::End),
            Framing::Length(left) => {
                if buf.is_empty() {
                    return Ok(Decoded::More);
                }
                let data = take(buf, *left);
                *left -= data.len() as u64;
                if *left == 0 {
                    *self = Framing::Done;
                }
                Ok(Decoded::Data(data))
            }
            Framing::Chunked(chunked) => {
                let decoded = chunked.decode(buf, limits)?;
                if matches!(decoded, Decoded::Trailers(_) | Decoded::End) {
                    *self = Framing::Done;
                }
                Ok(decoded)
            }
        }
    }
}

/// The decoder of the chunked transfer coding.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Chunked {
    state: State,
    /// Bytes of the buffer already searched for the end of the current line or section.
    scanned: usize,
    extension_bytes: u64,
}

#[derive(Debug, Default, PartialEq)]
enum State {
    #[default]
    Size,
    Data(u64),
    /// The CRLF after a chunk's data.
    DataEnd,
    Trailers,
}

impl Chunked {
    fn decode(&mut self, buf: &mut BytesMut, limits: &Limits) -> Result<Decoded, &'static str> {
        loop {
            match self.state {
                State::Size => {
                    let Some(size) = self.size_line(buf, limits)? else { return Ok(Decoded::More) };
                    self.state = if size == 0 { State::Trailers } else { State::Data(size) };
                }
                State::Data(left) => {
                    if buf.is_empty() {
                        return Ok(Decoded::More);
                    }
                    let data = take(buf, left);
                    let left = left - data.len() as u64;
                    self.state = if left == 0 { State::DataEnd } else { State::Data(left) };
                    return Ok(Decoded::Data(data));
                }
                State::DataEnd => {
                    if !b"\r\n".starts_with(&buf[..buf.len().min(2)]) {
                        return Err("a chunk is longer than its size");
                    }
                    if buf.len() < 2 {
                        return Ok(Decoded::More);
                    }
                    buf.advance(2);
                    self.state = State::Size;
                }
                State::Trailers => return self.trailers(buf, limits),
            }
        }
    }

    /// Parses `chunk-size [ chunk-ext ] CRLF`.
    fn size_line(&mut self, buf: &mut BytesMut, limits: &Limits) -> Result<Option<u64>, &'static str> {
        let seen = &buf[..buf.len().min(limits.chunk_line_bytes_max)];
        let Some(newline) = find(seen, self.scanned, b'\n') else {
            if buf.len() >= limits.chunk_line_bytes_max {
                return Err("a chunk-size line is too long");
            }
            self.scanned = buf.len();
            // Fails at once if the line cannot become valid.
            return if buf.first().is_none_or(u8::is_ascii_hexdigit) {
                Ok(None)
            } else {
                Err("a chunk size is not a number")
            };
        };
        let line = seen[..newline].strip_suffix(b"\r").ok_or("a chunk-size line ends in a bare LF")?;
        let digits = line.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
        if digits == 0 {
            return Err("a chunk size is not a number");
        }
        let size = line[..digits].iter().try_fold(0u64, |size, digit| {
            let digit = char::from(*digit).to_digit(16).map_or(0, u64::from);
            size.checked_mul(16)?.checked_add(digit)
        });
        let size = size.ok_or("a chunk size is too large")?;
        let extension = &line[digits..];
        if !is_valid_extension(extension) {
            return Err("a chunk extension is malformed");
        }
        self.extension_bytes += extension.len() as u64;
        if self.extension_bytes > limits.chunk_extension_bytes_max {
            return Err("the chunk extensions are too long");
        }
        buf.advance(newline + 1);
        self.scanned = 0;
        Ok(Some(size))
    }

    /// Parses `trailer-section CRLF`.
    fn trailers(&mut self, buf: &mut BytesMut, limits: &Limits) -> Result<Decoded, &'static str> {
        let seen = &buf[..buf.len().min(limits.trailer_bytes_max)];
        let end = match fields::section_end(seen, &mut self.scanned) {
            Ok(Some(end)) => end,
            Ok(None) if buf.len() >= limits.trailer_bytes_max => {
                return Err("the trailer section is too long");
            }
            Ok(None) => return Ok(Decoded::More),
            Err(()) => return Err("a trailer line ends in a bare LF"),
        };
        let section = buf.split_to(end).freeze();
        let mut trailers = fields::parse(&section, limits.fields_max).map_err(|rejection| {
            let too_many = rejection == Rejection::TOO_MANY_FIELDS;
            if too_many { "too many trailer fields" } else { "a trailer field is malformed" }
        })?;
        let forbidden: Vec<_> =
            trailers.keys().filter(|name| is_forbidden_trailer(name.as_str())).cloned().collect();
        for name in forbidden {
            trailers.remove(name);
        }
        Ok(if trailers.is_empty() { Decoded::End } else { Decoded::Trailers(trailers) })
    }
}

/// Takes up to `max` bytes from the front of `buf`, without copying.
fn take(buf: &mut BytesMut, max: u64) -> Bytes {
    let length = usize::try_from(max).map_or(buf.len(), |max| max.min(buf.len()));
    if length == buf.len() { buf.split().freeze() } else { buf.split_to(length).freeze() }
}

/// Returns whether a chunk extension is empty, or optional whitespace and `;` followed by no control characters.
///
/// Names and values are ignored; they must not contain a byte that another parser takes for the end of the line.
fn is_valid_extension(extension: &[u8]) -> bool {
    let mut rest = extension.iter().skip_while(|byte| matches!(byte, b' ' | b'\t'));
    match rest.next() {
        None => extension.is_empty(),
        Some(b';') => rest.all(|byte| *byte == b'\t' || !byte.is_ascii_control()),
        Some(_) => false,
    }
}

fn find(haystack: &[u8], from: usize, needle: u8) -> Option<usize> {
    let from = from.min(haystack.len());
    haystack[from..].iter().position(|byte| *byte == needle).map(|at| from + at)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Decodes `input` in pieces of `step` bytes. Returns the data, the trailers, and the bytes left over.
    fn decode(input: &[u8], step: usize) -> Result<(Vec<u8>, HeaderMap, Vec<u8>), &'static str> {
        let limits = Limits::default();
        let (mut framing, mut buf) = (Framing::chunked(), BytesMut::new());
        let (mut data, mut trailers) = (Vec::new(), HeaderMap::new());
        let mut pieces = input.chunks(step);
        loop {
            match framing.decode(&mut buf, &limits)? {
                Decoded::More => match pieces.next() {
                    Some(piece) => buf.extend_from_slice(piece),
                    None => return Err("unfinished"),
                },
                Decoded::Data(bytes) => data.extend_from_slice(&bytes),
                Decoded::Trailers(fields) => trailers = fields,
                Decoded::End => {
                    let rest = pieces.flatten().copied();
                    return Ok((data, trailers, buf.iter().copied().chain(rest).collect()));
                }
            }
        }
    }

    #[test]
    fn chunked_content_decodes_the_same_in_every_split() {
        let input = b"5\r\nhello\r\n6 ; a=\"b\"\r\n world\r\n00\r\nDigest: x\r\nHost: evil\r\n\r\nGET /";
        for step in 1..=input.len() {
            let (data, trailers, rest) = decode(input, step).unwrap();
            assert_eq!(data, b"hello world", "step {step}");
            assert_eq!(trailers.len(), 1);
            assert_eq!(trailers["digest"], "x");
            assert_eq!(rest, b"GET /");
        }
    }

    #[test]
    fn malformed_chunked_content_is_rejected() {
        let long_line = format!("5;{}\r\nhello\r\n0\r\n\r\n", "x".repeat(1100));
        let long_extensions = format!("1;{}\r\nx\r\n", "y".repeat(900)).repeat(20);
        let long_trailers = format!("0\r\nA: {}\r\n\r\n", "x".repeat(20_000));
        let many_trailers = format!("0\r\n{}\r\n", "A: x\r\n".repeat(101));
        for input in [
            "\r\n",
            "g\r\n",
            "-1\r\n",
            "+1\r\n",
            "0x1\r\n",
            " 1\r\n",
            "5\nhello\r\n0\r\n\r\n",
            "5\r\nhello\n0\r\n\r\n",
            "5\r\nhello!\r\n0\r\n\r\n",
            "5\r\r\nhello\r\n",
            "5 \r\nhello\r\n",
            "5 x\r\nhello\r\n",
            "5;a\rb\r\nhello\r\n",
            "5;a\0\r\nhello\r\n",
            "10000000000000000\r\n",
            "fffffffffffffffff\r\n",
            "0\r\nA: x\n\r\n",
            "0\r\nA : x\r\n\r\n",
            "0\r\nA: x\r\n folded\r\n\r\n",
            "0\r\n: x\r\n\r\n",
            "0\r\nA: \0\r\n\r\n",
            "0\r\nA: x\r\r\n\r\n",
            "0\r\n\n",
            long_line.as_str(),
            &long_extensions,
            &long_trailers,
            &many_trailers,
        ] {
            for step in [1, 7, usize::MAX] {
                let error = decode(input.as_bytes(), step).expect_err(input);
                assert_ne!(error, "unfinished", "{input:?}");
            }
        }
    }

    #[test]
    fn a_content_length_takes_its_bytes_and_no_more() {
        let limits = Limits::default();
        let mut framing = Framing::length(5);
        let mut buf = BytesMut::from("hel");
        assert_eq!(framing.decode(&mut buf, &limits), Ok(Decoded::Data("hel".into())));
        assert_eq!(framing.decode(&mut buf, &limits), Ok(Decoded::More));
        buf.extend_from_slice(b"loGET");
        assert_eq!(framing.decode(&mut buf, &limits), Ok(Decoded::Data("lo".into())));
        assert_eq!(framing.decode(&mut buf, &limits), Ok(Decoded::End));
        assert_eq!(buf, "GET");
        assert_eq!(Framing::length(0), Framing::Done);
    }

    #[test]
    fn the_list_of_forbidden_trailers_is_sorted() {
        for name in ["age", "content-length", "host", "if-match", "transfer-encoding", "upgrade"] {
            assert!(is_forbidden_trailer(name), "{name}");
        }
        assert!(!is_forbidden_trailer("repr-digest"));
    }
}
