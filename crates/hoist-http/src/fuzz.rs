//! Entrances for fuzzers: each takes any bytes and must neither panic nor run for ever. Not part of the API.

use bytes::BytesMut;

use crate::Limits;
use crate::h1::body::{Decoded, Framing};
use crate::h1::head::{Head, Heads};

/// Parses request heads until the input is used up or refused. How the input is cut must not matter.
///
/// # Panics
/// The input parses differently when it arrives in two pieces: a bug.
pub fn head(data: &[u8]) {
    let whole = heads(&[data]);
    let (front, back) = data.split_at(data.len() / 2);
    assert_eq!(whole, heads(&[front, back]), "the outcome depends on how the bytes arrive");
}

/// The requests, and whether parsing ended in a refusal.
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

/// Decodes a chunked body. How the input is cut must not matter.
///
/// # Panics
/// The input decodes differently when it arrives in two pieces: a bug.
pub fn chunked(data: &[u8]) {
    let whole = decode(&[data]);
    let (front, back) = data.split_at(data.len() / 2);
    assert_eq!(whole, decode(&[front, back]), "the outcome depends on how the bytes arrive");
}

/// The content, the trailers, and how decoding ended.
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
