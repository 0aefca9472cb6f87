//! Entry points for fuzzers, not part of the API. Each takes any bytes and must neither panic nor loop forever.

use bytes::BytesMut;

use crate::h1::body::{Decoded, Framing};
use crate::h1::head::{Head, Heads};
use crate::limits::Limits;

/// Parses request heads until the input is used up or rejected.
///
/// # Panics
/// Panics if the result differs when the input arrives in two pieces, which is a bug.
pub fn head(data: &[u8]) {
    let whole = heads(&[data]);
    let (front, back) = data.split_at(data.len() / 2);
    assert_eq!(whole, heads(&[front, back]), "the result depends on how the bytes arrive");
}

/// Returns the parsed requests, and whether parsing ended in a rejection.
fn heads(pieces: &[&[u8]]) -> (Vec<String>, bool) {
    let (mut parser, mut buf, limits) = (Heads::default(), BytesMut::new(), Limits::default());
    let mut found = Vec::new();
    for piece in pieces {
        buf.extend_from_slice(piece);
        loop {
            match parser.next(&mut buf, &limits) {
                Ok(Some(Head { method, uri, version, fields, framing, .. })) => {
                    found.push(format!("{method} {uri} {version:?} {fields:?} {framing:?}"));
                }
                Ok(None) => break,
                Err(_) => return (found, true),
            }
        }
    }
    (found, false)
}

/// Decodes a chunked body.
///
/// # Panics
/// Panics if the result differs when the input arrives in two pieces, which is a bug.
pub fn chunked(data: &[u8]) {
    let whole = decode(&[data]);
    let (front, back) = data.split_at(data.len() / 2);
    assert_eq!(whole, decode(&[front, back]), "the result depends on how the bytes arrive");
}

/// Decodes a chunked body that has arrived as a whole, for benchmarks. Returns the length of its content, or `None` if it
/// is malformed or incomplete.
pub fn chunked_bytes(buf: &mut BytesMut) -> Option<usize> {
    let (mut framing, limits) = (Framing::chunked(), Limits::default());
    let mut bytes = 0;
    loop {
        match framing.decode(buf, &limits).ok()? {
            Decoded::More => return None,
            Decoded::Data(data) => bytes += data.len(),
            Decoded::Trailers(_) => {}
            Decoded::End => return Some(bytes),
        }
    }
}

/// Returns the content, the trailers, and whether decoding succeeded; `None` if the content is incomplete.
fn decode(pieces: &[&[u8]]) -> (Vec<u8>, Option<String>, Option<bool>) {
    let (mut framing, mut buf, limits) = (Framing::chunked(), BytesMut::new(), Limits::default());
    let (mut content, mut trailers) = (Vec::new(), None);
    for piece in pieces {
        buf.extend_from_slice(piece);
        loop {
            match framing.decode(&mut buf, &limits) {
                Ok(Decoded::More) => break,
                Ok(Decoded::Data(data)) => content.extend_from_slice(&data),
                Ok(Decoded::Trailers(fields)) => trailers = Some(format!("{fields:?}")),
                Ok(Decoded::End) => return (content, trailers, Some(true)),
                Err(_) => return (content, trailers, Some(false)),
            }
        }
    }
    (content, trailers, None)
}
