//! Each half of the dialect decodes what the other half encodes.

use super::*;
use crate::dialect::{self, Detected, DialectOptions};

fn any_content() -> impl Strategy<Value = Content> {
    let finish = prop::sample::select(&[Finish::Here, Finish::Later][..]);
    (prop::option::of(0..=LARGEST_INTEGER), finish).prop_map(|(bytes, finish)| Content { bytes, finish })
}

fn any_operation(version: Interop) -> impl Strategy<Value = Operation> {
    let length = || prop::option::of((0..=LARGEST_INTEGER).prop_map(Length::new));
    let fields = prop::sample::subsequence(
        vec![("content-type", "image/png"), ("content-encoding", "gzip"), ("x-own", "1"), ("prefer", "a")],
        0..=4,
    );
    let method = prop::sample::select(&[Method::POST, Method::PUT, Method::PATCH][..]);
    let target = prop::sample::select(&["/uploads", "/", "/a/b?c=d"][..]);
    let origin = (method, target, fields).prop_map(|(method, target, fields)| {
        let fields = fields
            .into_iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
            .collect();
        Origin { method, target: target.into(), fields }
    });
    let create = (any_content(), length(), origin).prop_map(|(content, length, origin)| {
        // The size of the last request declares the length.
        let ends = content.bytes.filter(|_| content.finish == Finish::Here).map(Length::new);
        let (on_existing, below_min_size) = (OnExisting::Refuse, BelowMinSize::Ordinary);
        Operation::Create(Create {
            semantics: SEMANTICS,
            length: ends.or(length),
            content,
            on_existing,
            below_min_size,
            composition: Composition::Direct,
            waits_for_parts: false,
            origin,
        })
    });
    let when_complete = version.properties().when_complete;
    let append = (0..=LARGEST_INTEGER, length(), any_content()).prop_map(move |(at, length, content)| {
        Operation::Append(Append { like: None, at: Offset::new(at), length, content, when_complete })
    });
    prop_oneof![create, append, Just(Operation::Retrieve), Just(Operation::Cancel)]
}

/// The request by which a client asks for an operation.
fn intent(operation: &Operation) -> Intent<'_> {
    match operation {
        Operation::Create(Create { origin, length, content, .. }) => {
            Intent::Create { origin, length: *length, content: *content }
        }
        Operation::Append(Append { at, length, content, .. }) => {
            Intent::Append { at: *at, length: *length, finish: content.finish }
        }
        Operation::Retrieve => Intent::Query,
        Operation::Cancel => Intent::Cancel,
        Operation::Reject(refusal) => panic!("no client asks for a refusal: {refusal:?}"),
    }
}

fn any_spoken() -> impl Strategy<Value = (Interop, Operation)> {
    prop::sample::select(&Interop::ALL[..]).prop_flat_map(|version| (Just(version), any_operation(version)))
}

proptest! {
    // proves: IETF-VER-01, IETF-CLI-19, IETF-APP-01, IETF-CRE-03, IETF-CRE-04
    #[test]
    fn a_server_decodes_the_request_that_a_client_encodes((version, operation) in any_spoken()) {
        let (target, resource, bytes) = match &operation {
            Operation::Create(create) => (create.origin.target.clone(), Resource::Endpoint, create.content.bytes),
            Operation::Append(append) => (format!("/uploads/{ID}"), Resource::Upload(ID), append.content.bytes),
            _ => (format!("/uploads/{ID}"), Resource::Upload(ID), None),
        };
        let (parts, ()) = client::request(version, &target, &intent(&operation)).expect("a request").into_parts();
        let number = parts.headers.get(INTEROP_VERSION).map(|value| value.to_str().expect("ASCII").to_owned());
        prop_assert_eq!(number, version.number().map(|number| number.to_string()));
        let detected = dialect::detect(&parts, resource, DialectOptions { rfc_interim: true, ..Default::default() });
        let dialect = match detected {
            Detected::Dialect(dialect) => dialect,
            // A query without a version is answered in the dialect of the upload.
            Detected::ByUpload => Dialect::Ietf(codec(version)),
            other => panic!("{other:?}"),
        };
        prop_assert_eq!(dialect, Dialect::Ietf(codec(version)));
        let subject = if resource == Resource::Endpoint { Subject::Fresh } else { Subject::Id(ID) };
        let expected = Decoded { subject, family: Family::Ietf, operation };
        prop_assert_eq!(dialect.decode(&parts, resource, bytes), Ok(expected));
    }

    // proves: IETF-INT-08, IETF-VER-04
    #[test]
    fn a_client_decodes_the_response_that_a_server_encodes(
        version in prop::sample::select(&Interop::ALL[..]),
        other in prop::sample::select(&Interop::ALL[..]),
        offset in 0..=LARGEST_INTEGER,
        length in prop::option::of(0..=LARGEST_INTEGER),
        complete in any::<bool>(),
    ) {
        let said = state(offset, length, complete);
        let server = codec(version);
        let has_limits = version >= Interop::V6;
        let limits = has_limits.then_some(UploadLimits {
            size_max: Some(1000), size_min: Some(2), append_max: Some(500), append_min: Some(3), age_max: Some(60),
        });
        let told = UploadState {
            offset: Some(Offset::new(offset)),
            length: length.map(Length::new),
            complete: Some(complete),
            expires_in: None,
        };
        let heads = [
            (server.encode(&Reply::State { id: ID, state: said, described: HeaderMap::new() }, &limited()), told, limits),
            (server.encode(&Reply::Stored { id: ID, created: true, state: said }, &limited()), told, limits),
            (server.encode(&Reply::Stored { id: ID, created: false, state: said }, &limited()), told, None),
            (
                Dialect::Ietf(server).refuse(
                    &Reason::OffsetMismatch { provided: Offset::ZERO }.with_state(said), &limited()),
                UploadState { complete: Some(false), ..told },
                None,
            ),
        ];
        let read = |fields: &HeaderMap| client::response(version, StatusCode::OK, fields);
        for (head, state, limits) in heads {
            let response = read(head.headers());
            prop_assert_eq!((response.state, response.limits), (state, limits));
        }
        // A client accepts only interim responses of its own version.
        let interim = server.announcement(&upload(), &context(BASE)).expect("it is told");
        prop_assert_eq!(client::is_own_interim(other, interim.status(), interim.headers()), version == other);
        if let Some(progress) = server.progress(said.offset) {
            prop_assert_eq!(read(progress.headers()).state.offset, Some(Offset::new(offset)));
            prop_assert!(!progress.headers().contains_key(header::LOCATION));
        }
    }

    #[test]
    fn no_field_panics_a_client(
        version in prop::sample::select(&Interop::ALL[..]),
        name in prop::sample::select(&["upload-limit", "upload-offset", "upload-complete", "upload-incomplete", "upload-length", "upload-draft-interop-version"][..]),
        lines in prop::collection::vec(prop::collection::vec(prop_oneof![0x20..=0x7e_u8, 0x80..=0xff_u8], 0..60), 0..3),
    ) {
        let values = lines.iter().filter_map(|line| HeaderValue::from_bytes(line).ok());
        let fields: HeaderMap = values.map(|value| (HeaderName::from_static(name), value)).collect();
        client::response(version, StatusCode::OK, &fields);
        client::is_own_interim(version, crate::dialect::resumption_supported(), &fields);
    }
}
