//! tus 1.0: decoded and refused requests, and encoded responses.

use std::time::Duration;

use http::Request;

use super::super::tests::{ID, context};
use super::super::{Detected, Dialect, DialectOptions, detect};
use super::*;
use crate::refusal::{InterruptCause, Reason, Refusal};
use crate::types::{Durable, Timestamp};

/// Header field lines.
type Lines<'a> = &'a [(&'a str, &'a str)];

fn head(method: &str, target: &str, lines: Lines<'_>) -> Parts {
    let mut request = Request::builder().method(method).uri(target).header("tus-resumable", "1.0.0");
    for (name, value) in lines {
        request = request.header(*name, *value);
    }
    request.body(()).expect("well-formed").into_parts().0
}

fn resource(target: &str) -> Resource {
    match target.rsplit('/').next().and_then(|name| name.parse().ok()) {
        Some(id) => Resource::Upload(id),
        None => Resource::Endpoint,
    }
}

fn decoded(method: &str, target: &str, lines: Lines<'_>, bytes: Option<u64>) -> Result<Decoded, Refusal> {
    let head = head(method, target, lines);
    let resource = resource(target);
    let Detected::Dialect(dialect @ Dialect::Tus1(_)) = detect(&head, resource, DialectOptions::default())
    else {
        panic!("another dialect: {head:?}")
    };
    dialect.decode(&head, resource, bytes)
}

fn creation(lines: Lines<'_>, bytes: Option<u64>) -> Result<Create, Refusal> {
    let decoded = decoded("POST", "/uploads", lines, bytes)?;
    assert_eq!((decoded.subject, decoded.family), (Subject::Fresh, Family::Tus1));
    let Operation::Create(create) = decoded.operation else { panic!("no creation") };
    Ok(create)
}

/// The length and the size of the content to store; `None` for a refusal.
type Found = Option<(Option<u64>, Option<u64>)>;

const PATCH: (&str, &str) = ("content-type", OFFSET_OCTET_STREAM);

// proves: TUS1-CRE-02, TUS1-CRE-08, TUS1-CDL-01, TUS1-CDL-04, TUS1-CWU-05, TUS1-HDR-07, TUS1-HDR-08
#[test]
fn a_creation_has_one_length() {
    let length = |text| ("upload-length", text);
    // Fields and size of the content; then the length and the size of the content to store, or `None` for a refusal.
    let cases: [(Lines<'_>, Option<u64>, Found); 17] = [
        (&[length("100")], Some(0), Some((Some(100), Some(0)))),
        (&[length("0100")], Some(0), Some((Some(100), Some(0)))),
        (&[length("0")], Some(0), Some((Some(0), Some(0)))),
        (&[("upload-defer-length", "1")], Some(0), Some((None, Some(0)))),
        (&[length("100"), PATCH], Some(40), Some((Some(100), Some(40)))),
        (&[length("100"), PATCH], None, Some((Some(100), None))),
        (&[length("100"), ("content-type", "text/plain")], Some(40), Some((Some(100), Some(0)))),
        (&[length("100"), ("content-type", "text/plain")], None, Some((Some(100), Some(0)))),
        (&[length("100"), PATCH], Some(101), None),
        (&[], Some(0), None),
        (&[length("100"), ("upload-defer-length", "1")], Some(0), None),
        (&[("upload-defer-length", "0")], Some(0), None),
        (&[("upload-defer-length", "true")], Some(0), None),
        (&[length("-1")], Some(0), None),
        (&[length("9223372036854775808")], Some(0), None),
        (&[length("1"), length("1")], Some(0), None),
        (&[length("1.0")], Some(0), None),
    ];
    for (lines, bytes, expected) in cases {
        let found = creation(lines, bytes).ok();
        let found = found.map(|create| (create.length.map(Length::get), create.content.bytes));
        assert_eq!(found, expected, "{lines:?} {bytes:?}");
    }
}

// proves: TUS1-CAT-06, TUS1-CAT-07, TUS1-CWU-06
#[test]
fn upload_concat_is_decoded_or_refused() {
    let length = ("upload-length", "5");
    let part = creation(&[length, ("upload-concat", "partial")], Some(0)).expect("sound");
    assert_eq!(part.composition, Composition::Part);
    let made = [
        format!("final;/uploads/{ID} https://elsewhere.example/uploads/{ID}?x"),
        format!("final; /uploads/{ID}   {ID} "),
    ];
    for value in made {
        let made = creation(&[("upload-concat", &value)], Some(0)).expect("sound");
        assert_eq!(
            (made.composition, made.length),
            (Composition::Concatenated(vec![ID, ID]), None),
            "{value}"
        );
    }
    let one = format!("final;/uploads/{ID}");
    let strange: [Lines<'_>; 8] = [
        &[("upload-concat", "final;")],
        &[("upload-concat", "whole")],
        &[("upload-concat", "")],
        &[("upload-concat", "final;/uploads/nothing")],
        &[("upload-concat", &format!("final;/elsewhere/{ID}"))],
        &[("upload-concat", "final;../../etc/passwd")],
        &[("upload-concat", &one), length],
        &[("upload-concat", &one), ("upload-defer-length", "1")],
    ];
    for lines in strange {
        assert!(creation(lines, Some(0)).is_err(), "{lines:?}");
    }
    assert!(creation(&[("upload-concat", &one), PATCH], Some(3)).is_err());
}

// proves: TUS1-MET-06
#[test]
fn metadata_describe_the_representation_and_are_kept_unchanged() {
    let said = "filename YSBiLnR4dA==, filetype dGV4dC9wbGFpbg==";
    let create = creation(&[("upload-length", "5"), ("upload-metadata", said)], Some(0)).expect("sound");
    let fields = create.origin.fields;
    assert_eq!(fields["upload-metadata"], said);
    assert_eq!(fields["content-type"], "text/plain");
    assert_eq!(fields["content-disposition"], "attachment; filename*=UTF-8''a%20b.txt");
    let plain =
        creation(&[("upload-length", "5"), ("content-type", "text/html"), ("upload-metadata", "")], Some(0));
    assert!(
        plain.expect("sound").origin.fields.is_empty(),
        "the type of the request says nothing of the upload"
    );
}

// proves: TUS1-PATCH-03, TUS1-PATCH-05, TUS1-CHK-05, TUS1-TRM-04
#[test]
fn requests_on_an_upload_are_decoded_or_rejected() {
    let url = format!("/uploads/{ID}");
    let asked = |method: &str, lines: Lines<'_>| {
        let decoded = decoded(method, &url, lines, Some(3)).expect("the upload is there or not");
        assert_eq!(decoded.subject, Subject::Id(ID));
        decoded.operation
    };
    let at = ("upload-offset", "7");
    let Operation::Append(append) = asked("PATCH", &[PATCH, at, ("upload-length", "10")]) else { panic!() };
    assert_eq!((append.at, append.length), (Offset::new(7), Some(Length::new(10))));
    assert_eq!((append.content.bytes, append.when_complete), (Some(3), AppendToComplete::Admits));
    let with_charset = ("content-type", "Application/Offset+Octet-Stream; charset=utf-8");
    assert!(matches!(asked("PATCH", &[with_charset, at]), Operation::Append(_)));
    assert!(matches!(
        asked("PATCH", &[PATCH, at, ("upload-checksum", "sha1 Kq5sNclPz7QV2+lfQIuc6R7oRu0=")]),
        Operation::Append(_)
    ));
    assert_eq!(asked("HEAD", &[]), Operation::Retrieve);
    assert_eq!(asked("DELETE", &[]), Operation::Cancel);
    let rejected: [(&str, Lines<'_>, u16); 8] = [
        ("PATCH", &[at], 415),
        ("PATCH", &[at, ("content-type", "application/partial-upload")], 415),
        ("PATCH", &[PATCH], 400),
        ("PATCH", &[PATCH, ("upload-offset", "?1")], 400),
        ("PATCH", &[PATCH, at, ("upload-checksum", "sha9 AAAA")], 400),
        ("PATCH", &[PATCH, at, ("upload-length", "x")], 400),
        ("POST", &[], 405),
        ("PUT", &[], 405),
    ];
    for (method, lines, status) in rejected {
        let Operation::Reject(refusal) = asked(method, lines) else { panic!("{method} {lines:?}") };
        assert_eq!(refusal.status(None), status, "{method} {lines:?}");
    }
}

// proves: TUS1-HDR-09, TUS1-DF-07
#[test]
fn a_post_can_override_its_method() {
    let url = format!("/uploads/{ID}");
    for (target, method, meant, expected) in [
        (&*url, "POST", "PATCH", Ok(Method::PATCH)),
        (&*url, "POST", "delete", Ok(Method::DELETE)),
        (&*url, "POST", "HEAD", Ok(Method::HEAD)),
        ("/uploads", "POST", "PATCH", Ok(Method::PATCH)),
        (&*url, "PATCH", "DELETE", Ok(Method::PATCH)),
        (&*url, "POST", "GET", Err(405)),
        (&*url, "POST", "OPTIONS", Err(405)),
        (&*url, "POST", "", Err(405)),
    ] {
        let mut head = head(method, target, &[("x-http-method-override", meant)]);
        let found = override_method(&mut head, resource(target));
        let found = found.map(|()| head.method).map_err(|refusal| refusal.status(None).as_u16());
        assert_eq!(found, expected, "{method} {target} {meant}");
    }
    let mut ordinary = head("POST", "/uploads", &[("x-http-method-override", "DELETE")]);
    ordinary.headers.remove(TUS_RESUMABLE);
    assert_eq!(override_method(&mut ordinary, Resource::Endpoint), Ok(()));
    assert_eq!(ordinary.method, Method::POST, "nobody's business but the target's");
}

// proves: TUS1-HDR-02, TUS1-HDR-03, TUS1-DF-13
#[test]
fn the_version_is_checked_before_everything_else() {
    let detected = |lines: Lines<'_>, method: &str, target: &str| {
        let mut head = head(method, target, &[]);
        head.headers.clear();
        for (name, value) in lines {
            head.headers.insert(
                HeaderName::from_bytes(name.as_bytes()).expect("a name"),
                value.parse().expect("a value"),
            );
        }
        detect(&head, resource(target), DialectOptions::default())
    };
    let apple =
        [("tus-resumable", "1.0.0"), ("upload-complete", "?1"), ("upload-draft-interop-version", "6")];
    assert!(matches!(detected(&apple, "POST", "/uploads"), Detected::Dialect(Dialect::Tus1(_))));
    for (lines, method) in [
        (&[("tus-resumable", "0.2.2")][..], "POST"),
        (&[("tus-resumable", "1.0.0, 2.0.0")], "POST"),
        (&[("upload-metadata", "a")], "POST"),
        (&[("upload-concat", "partial"), ("upload-length", "1")], "POST"),
        (&[PATCH], "PATCH"),
    ] {
        let refused = detected(lines, method, "/uploads");
        assert_eq!(refused, Detected::Refuse(Reason::UnsupportedTusVersion.into()), "{lines:?}");
    }
    assert!(matches!(
        detected(&[("upload-length", "5")], "POST", "/uploads"),
        Detected::Dialect(Dialect::Conventional)
    ));
}

fn state(offset: u64, length: Option<u64>, complete: bool) -> State {
    let offset = Durable::attest(Offset::new(offset));
    let expires = Some(Timestamp::from_millis(0).plus(Duration::from_secs(784_111_777)));
    State { offset, length: length.map(Length::new), complete, expires, awaits_parts: false, part: None }
}

fn said(head: &Response<()>, name: &str) -> Option<String> {
    head.headers().get(name).map(|value| value.to_str().expect("ASCII").to_owned())
}

// proves: TUS1-PATCH-06, TUS1-PATCH-16, TUS1-CRE-03, TUS1-CRE-09, TUS1-CWU-03, TUS1-EXP-02, TUS1-EXP-03, TUS1-PATCH-15, TUS1-TRM-03
#[test]
fn replies_have_the_status_and_the_fields_that_clients_need() {
    let around = context("http://h/uploads");
    let answered = |carries_content, reply: &Reply| {
        let speaker = Tus1Codec { extensions: Extensions::ALL, carries_content };
        let head = speaker.encode(reply, &around);
        assert_eq!(said(&head, "tus-resumable").as_deref(), Some("1.0.0"));
        let told = ["location", "upload-offset", "upload-expires"].map(|name| said(&head, name));
        (head.status().as_u16(), told)
    };
    let url = Some(format!("http://h/uploads/{ID}"));
    let expires = Some("Sun, 06 Nov 1994 08:49:37 GMT".to_owned());
    let offset = |number: &str| Some(number.to_owned());
    let stored = |created| Reply::Stored { id: ID, created, state: state(5, Some(9), false) };
    assert_eq!(answered(false, &stored(true)), (201, [url.clone(), None, expires.clone()]));
    assert_eq!(answered(true, &stored(true)), (201, [url.clone(), offset("5"), expires.clone()]));
    assert_eq!(answered(true, &stored(false)), (204, [None, offset("5"), expires]));
    let complete =
        |created, answer| Reply::Complete { id: ID, created, state: state(9, Some(9), true), answer };
    let content =
        |status, content: &[u8]| TargetResponse { content: content.to_vec(), ..TargetResponse::of(status) };
    let (ok, failed) = (StatusCode::CREATED, StatusCode::BAD_GATEWAY);
    assert_eq!(answered(true, &complete(false, TargetResponse::of(ok))), (204, [None, offset("9"), None]));
    assert_eq!(
        answered(true, &complete(false, content(StatusCode::OK, b"x"))),
        (200, [None, offset("9"), None])
    );
    assert_eq!(
        answered(true, &complete(false, TargetResponse::of(failed))),
        (502, [None, offset("9"), None])
    );
    assert_eq!(answered(false, &complete(true, content(StatusCode::OK, b"x"))), (201, [url, None, None]));
    assert_eq!(answered(false, &Reply::Cancelled), (204, [None, None, None]));
}

// proves: TUS1-HEAD-01, TUS1-HEAD-02, TUS1-HEAD-03, TUS1-HEAD-04, TUS1-HEAD-06, TUS1-HEAD-07, TUS1-HEAD-08, TUS1-CAT-10
#[test]
fn an_offset_query_returns_the_fields_of_the_creation() {
    let around = context("/uploads");
    let described: HeaderMap = [
        (UPLOAD_METADATA, HeaderValue::from_static("b YQ==,a ")),
        (UPLOAD_CONCAT, HeaderValue::from_static("partial")),
        (header::CONTENT_TYPE, HeaderValue::from_static("text/plain")),
    ]
    .into_iter()
    .collect();
    let asked = |state| {
        let reply = Reply::State { id: ID, state, described: described.clone() };
        let head = Tus1Codec::unversioned(Extensions::ALL).encode(&reply, &around);
        assert_eq!(head.status(), 200);
        assert_eq!(said(&head, "cache-control").as_deref(), Some("no-store"));
        assert_eq!(said(&head, "upload-metadata").as_deref(), Some("b YQ==,a "));
        assert_eq!(
            (said(&head, "upload-concat").as_deref(), said(&head, "content-type")),
            (Some("partial"), None)
        );
        ["upload-offset", "upload-length", "upload-defer-length"]
            .map(|name| said(&head, name).unwrap_or_default())
    };
    assert_eq!(asked(state(0, Some(9), false)), ["0", "9", ""]);
    assert_eq!(asked(state(9, Some(9), true)), ["9", "9", ""]);
    assert_eq!(asked(state(4, None, false)), ["4", "", "1"]);
    assert_eq!(asked(State { awaits_parts: true, ..state(0, Some(9), false) }), ["", "9", ""]);
    assert_eq!(asked(State { awaits_parts: true, ..state(0, None, false) }), ["", "", ""]);
}

// proves: TUS1-HDR-01, TUS1-PATCH-04, TUS1-PATCH-11, TUS1-CON-02, TUS1-CHK-02, TUS1-DF-18, TUS1-CAT-08, TUS1-CRE-10
// proves: TUS1-DF-04, TUS1-DF-05, TUS1-DF-06
#[test]
fn refusals_have_the_statuses_that_tus_clients_know() {
    let at = state(5, Some(9), false);
    let interrupted = |cause| Reason::Interrupted(cause).with_state(at);
    let cases = [
        (Reason::OffsetMismatch { provided: Offset::new(1) }.with_state(at), 409, Some("5")),
        (Reason::LengthExceeded(Some(Length::new(9))).into(), 413, None),
        (Reason::Busy.into(), 423, None),
        (Reason::DigestMismatch.with_state(at), 460, Some("5")),
        (Refusal { state: Some(at), ..Refusal::field("Upload-Checksum", "x") }, 400, Some("5")),
        (Reason::AppendToComposed.with_state(State { awaits_parts: true, ..at }), 403, None),
        (Reason::NotFound.into(), 404, None),
        (Reason::Gone.into(), 410, None),
        (Reason::TooManyUploads { uploads_max: 1 }.into(), 429, None),
        (Reason::Unavailable(Duration::from_secs(1)).into(), 503, None),
        (interrupted(InterruptCause::TooSlow), 503, Some("5")),
        (interrupted(InterruptCause::ShuttingDown), 503, Some("5")),
        (interrupted(InterruptCause::ByOperator), 503, Some("5")),
        (Reason::StorageFull.with_state(at), 507, Some("5")),
        (Reason::StorageFull.into(), 507, None),
        (Reason::Unauthorized { challenge: "Bearer" }.into(), 401, None),
        (Reason::Forbidden("no".into()).into(), 403, None),
        (Reason::Rejected { status: StatusCode::IM_A_TEAPOT, detail: "no".into() }.into(), 418, None),
        (Reason::TooManyUploads { uploads_max: 3 }.into(), 429, None),
        (interrupted(InterruptCause::Superseded), 409, Some("5")),
    ];
    let dialect = Dialect::Tus1(Tus1Codec::unversioned(Extensions::ALL));
    let context = context("/uploads");
    for (refusal, status, offset) in cases {
        let head = dialect.refuse(&refusal, &context);
        assert_eq!(
            (head.status().as_u16(), said(&head, "upload-offset").as_deref()),
            (status, offset),
            "{refusal:?}"
        );
        assert_eq!(said(&head, "tus-resumable").as_deref(), Some("1.0.0"));
        assert_eq!(
            said(&head, "retry-after").is_some(),
            matches!(status, 423 | 429 | 507) || refusal.retry_after().is_some()
        );
    }
}
