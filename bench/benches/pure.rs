//! Micro-benchmarks of the pure functions: `decode`, `encode`, and the decoder of the chunked coding.
//!
//! `cargo bench -p hoist-bench` prints the time of one call, and for the chunked coding the chunks in a second.

use bytes::BytesMut;
use divan::counter::ItemsCount;
use divan::{Bencher, black_box};
use hoist_proto::dialect::interop::Versions;
use hoist_proto::dialect::{self, Context, Detected, Dialect, DialectOptions, Resource, tus1};
use hoist_proto::operation::Reply;
use hoist_proto::policy::Limits;
use hoist_proto::types::{Durable, Length, Timestamp, UploadId};
use hoist_proto::upload::State;
use http::Request;
use http::request::Parts;

/// A head, and the resource to which it is sent.
struct Sent {
    name: &'static str,
    method: &'static str,
    resource: Resource,
    fields: &'static [(&'static str, &'static str)],
}

const ID: UploadId = UploadId::from_bits([7; 16]);
const HEADS: [Sent; 8] = [
    Sent { name: "put", method: "PUT", resource: Resource::Endpoint, fields: &[] },
    Sent {
        name: "token create",
        method: "POST",
        resource: Resource::Endpoint,
        fields: &[("upload-token", ":SGVsbG8sIHdvcmxkISBIZWxsbyE=:")],
    },
    Sent {
        name: "token append",
        method: "PATCH",
        resource: Resource::Endpoint,
        fields: &[("upload-token", ":SGVsbG8sIHdvcmxkISBIZWxsbyE=:"), ("upload-offset", "1048576")],
    },
    Sent {
        name: "ietf create",
        method: "POST",
        resource: Resource::Endpoint,
        fields: &[("upload-complete", "?1"), ("upload-length", "16384"), ("content-type", "image/png")],
    },
    Sent {
        name: "ietf append",
        method: "PATCH",
        resource: Resource::Upload(ID),
        fields: &[
            ("upload-complete", "?1"),
            ("upload-offset", "1048576"),
            ("content-type", "application/partial-upload"),
        ],
    },
    Sent {
        name: "ietf 8 retrieve",
        method: "HEAD",
        resource: Resource::Upload(ID),
        fields: &[("upload-draft-interop-version", "8")],
    },
    Sent {
        name: "tus create",
        method: "POST",
        resource: Resource::Endpoint,
        fields: &[
            ("tus-resumable", "1.0.0"),
            ("upload-length", "16384"),
            ("upload-metadata", "filename ZmlsbS5tcDQ=,filetype dmlkZW8vbXA0"),
        ],
    },
    Sent {
        name: "tus append",
        method: "PATCH",
        resource: Resource::Upload(ID),
        fields: &[
            ("tus-resumable", "1.0.0"),
            ("upload-offset", "1048576"),
            ("content-type", "application/offset+octet-stream"),
        ],
    },
];
const OPTIONS: DialectOptions =
    DialectOptions { rfc_interim: true, versions: Versions::KNOWN, tus: tus1::Extensions::ALL };
const CONTENT_BYTES: u64 = 16384;

fn main() {
    divan::main();
}

impl Sent {
    fn head(&self) -> Parts {
        let mut request = Request::builder().method(self.method).uri("/uploads");
        for (name, value) in self.fields {
            request = request.header(*name, *value);
        }
        request.body(()).expect("a valid head").into_parts().0
    }

    fn dialect(&self, head: &Parts) -> Dialect {
        match dialect::detect(head, self.resource, OPTIONS) {
            Detected::Dialect(dialect) => dialect,
            other => panic!("{}: {other:?}", self.name),
        }
    }

    fn named(name: &str) -> &'static Self {
        HEADS.iter().find(|sent| sent.name == name).expect("one of the names")
    }
}

fn names() -> impl Iterator<Item = &'static str> {
    HEADS.iter().map(|sent| sent.name)
}

/// Detects the dialect of a head and decodes it.
#[divan::bench(args = names())]
fn decode(bencher: Bencher<'_, '_>, name: &str) {
    let sent = Sent::named(name);
    let head = sent.head();
    bencher.bench_local(|| {
        sent.dialect(black_box(&head)).decode(&head, sent.resource, Some(CONTENT_BYTES)).expect("well-formed")
    });
}

/// Encodes the state of an upload in the dialect of a head.
#[divan::bench(args = names())]
fn encode(bencher: Bencher<'_, '_>, name: &str) {
    let sent = Sent::named(name);
    let dialect = sent.dialect(&sent.head());
    let state = State {
        offset: Durable::ZERO,
        length: Some(Length::new(CONTENT_BYTES)),
        complete: false,
        expires: Some(Timestamp::from_millis(1_700_000_000_000)),
        awaits_parts: false,
        part: None,
    };
    let reply = Reply::Stored { id: ID, created: true, state };
    let limits = Limits { size_max: None, size_min: 0, append_max: None, append_min: 0 };
    let context = Context {
        base: "/uploads",
        alias: None,
        limits: &limits,
        now: Timestamp::from_millis(0),
        lifetime: None,
    };
    bencher.bench_local(|| dialect.encode(black_box(&reply), &context));
}

/// Decodes 1 MiB in chunks of a size. Content is not copied, so the number of chunks counts.
#[divan::bench(args = [256, 4096, 65536])]
fn chunked(bencher: Bencher<'_, '_>, chunk_bytes: usize) {
    const BYTES: usize = 1 << 20;
    let mut coded = Vec::new();
    for _ in 0..BYTES / chunk_bytes {
        coded.extend_from_slice(format!("{chunk_bytes:x}\r\n").as_bytes());
        coded.resize(coded.len() + chunk_bytes, 0x5a);
        coded.extend_from_slice(b"\r\n");
    }
    coded.extend_from_slice(b"0\r\n\r\n");
    bencher
        .counter(ItemsCount::new(BYTES / chunk_bytes))
        .with_inputs(|| BytesMut::from(coded.as_slice()))
        .bench_local_values(|mut coded| {
            assert_eq!(hoist_http::fuzz::chunked_bytes(&mut coded), Some(BYTES));
        });
}
