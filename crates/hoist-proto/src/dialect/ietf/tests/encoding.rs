//! Responses as each version requires them.

use super::*;

/// The status and the fields of a head as one line of text.
fn written(head: &Response<()>) -> String {
    let mut lines: Vec<_> = head
        .headers()
        .iter()
        .map(|(name, value)| format!("{name}: {}", value.to_str().expect("ASCII")))
        .collect();
    lines.sort();
    lines.insert(0, head.status().as_u16().to_string());
    lines.join("|")
}

/// Replaces the placeholders of a template by the values of a version.
fn spelled_out(version: Interop, template: &str) -> String {
    let (no, yes) = match version {
        Interop::V3 => ("upload-incomplete: ?1", "upload-incomplete: ?0"),
        _ => ("upload-complete: ?0", "upload-complete: ?1"),
    };
    let appended = if version < Interop::V7 { "201" } else { "204" };
    let limits = "max-size=1000, min-size=2, max-append-size=500, min-append-size=3";
    let age = |seconds: u64| match version {
        Interop::V3 | Interop::V4 | Interop::V5 => String::new(),
        Interop::V6 => format!("upload-limit: {limits}, expires={seconds}, max-age={seconds}|"),
        _ => format!("upload-limit: {limits}, max-age={seconds}|"),
    };
    let number =
        version.number().map_or(String::new(), |number| format!("upload-draft-interop-version: {number}|"));
    let mut lines: Vec<String> = template
        .replace("{no}", no)
        .replace("{yes}", yes)
        .replace("{appended}", appended)
        .replace("{limits}|", &age(90))
        .replace("{limits and age}|", &age(60))
        .replace("{length}|", "upload-length: 200|")
        .replace("{number}|", &number)
        .split('|')
        .filter(|line| !line.is_empty())
        .map(str::to_owned)
        .collect();
    lines[1..].sort();
    lines.join("|")
}

// proves: IETF-SF-09, IETF-CRE-08, IETF-CRE-09, IETF-CRE-10, IETF-CRE-11, IETF-APP-10, IETF-APP-11, IETF-APP-12, IETF-APP-13, IETF-RET-02, IETF-RET-03, IETF-RET-04, IETF-RET-05, IETF-RET-06, IETF-DEL-04, IETF-LIM-02, IETF-OPT-02, IETF-INT-14, IETF-VER-03, IETF-VER-08
#[test]
fn replies_are_encoded_as_their_version_requires() {
    let location = format!("location: {BASE}/{ID}|");
    let answer = |status: u16, fields: &str| TargetResponse {
        status: StatusCode::from_u16(status).expect("a status"),
        fields: head("GET", fields).headers,
        content: b"said".to_vec(),
    };
    let complete =
        |created, answer| Reply::Complete { id: ID, created, state: state(200, Some(200), true), answer };
    let v3_location = |version| if version == Interop::V3 { location.as_str() } else { "" };
    let table: Vec<(Reply, String, bool)> = vec![
        (
            Reply::Stored { id: ID, created: true, state: state(7, None, false) },
            format!("201|{location}upload-offset: 7|{{no}}|{{limits and age}}|{{number}}|"),
            false,
        ),
        (
            Reply::Stored { id: ID, created: true, state: state(0, Some(200), false) },
            format!("201|{location}upload-offset: 0|{{no}}|{{length}}|{{limits and age}}|{{number}}|"),
            false,
        ),
        (
            Reply::Stored { id: ID, created: false, state: state(7, Some(200), false) },
            "{appended}|upload-offset: 7|{no}|{length}|{number}|".into(),
            false,
        ),
        (
            Reply::State { id: ID, state: state(7, None, false), described: HeaderMap::new() },
            "204|cache-control: no-store|upload-offset: 7|{no}|{limits and age}|{number}|".into(),
            false,
        ),
        (
            Reply::State { id: ID, state: state(200, Some(200), true), described: HeaderMap::new() },
            "204|cache-control: no-store|upload-offset: 200|{yes}|{length}|{limits and age}|{number}|".into(),
            false,
        ),
        (
            complete(false, answer(200, "X-Own: a|X-Own: b|Location: /x")),
            "200|location: /x|upload-offset: 200|{yes}|{length}|x-own: a|x-own: b|{number}|".into(),
            false,
        ),
        (complete(false, answer(422, "")), "422|upload-offset: 200|{yes}|{length}|{number}|".into(), false),
        (complete(true, answer(422, "")), "422|upload-offset: 200|{yes}|{length}|{number}|".into(), true),
        (complete(true, answer(204, "")), "204|upload-offset: 200|{yes}|{length}|{number}|".into(), true),
        (
            complete(true, answer(201, "")),
            format!("201|{location}upload-offset: 200|{{yes}}|{{length}}|{{number}}|"),
            false,
        ),
        (
            complete(true, answer(201, "Location: https://elsewhere.example/1")),
            "201|location: https://elsewhere.example/1|upload-offset: 200|{yes}|{length}|{number}|".into(),
            false,
        ),
        // Fields of the dialect in the target's response are dropped.
        (
            complete(
                false,
                answer(
                    200,
                    "Upload-Complete: ?0|Upload-Incomplete: ?1|Upload-Offset: 3|Upload-Length: 4|Upload-Limit: x|Upload-Draft-Interop-Version: 1",
                ),
            ),
            "200|upload-offset: 200|{yes}|{length}|{number}|".into(),
            false,
        ),
        (Reply::Cancelled, "204|{number}|".into(), false),
    ];
    for (reply, template, creates) in table {
        for version in Interop::ALL {
            let template = match (creates, template.split_once('|')) {
                (true, Some((code, rest))) => format!("{code}|{}{rest}", v3_location(version)),
                _ => template.clone(),
            };
            let expected = spelled_out(version, &template);
            assert_eq!(
                written(&codec(version).encode(&reply, &limited())),
                expected,
                "{version:?} {reply:?}"
            );
        }
    }
}

// proves: IETF-APP-04, IETF-APP-05, IETF-APP-06, IETF-APP-07, IETF-APP-13, IETF-APP-15, IETF-CMP-06, IETF-LIM-06, IETF-LIM-07, IETF-RET-10, IETF-DEL-02, IETF-LEN-04, IETF-LEN-06, IETF-LEN-07, IETF-PRB-01, IETF-PRB-02, IETF-PRB-03
#[test]
fn refusals_are_encoded_as_their_version_requires() {
    let (at, end) = (state(7, Some(200), false), state(200, Some(200), true));
    let told = "{no}|{length}|cache-control: no-store|{number}|";
    let too_large = |limit, state| Refusal { reason: Reason::TooLarge { limit, bytes_max: 5 }, state };
    let cut = |cause| Reason::Interrupted(cause).with_state(at);
    let mismatch = |state: State| Reason::OffsetMismatch { provided: Offset::new(9) }.with_state(state);
    let table = [
        (mismatch(at), format!("409|upload-offset: 7|{told}")),
        // `Upload-Complete: ?0` shows that the response is not the target's, even if the upload is complete.
        (mismatch(end), format!("409|upload-offset: 200|{told}")),
        (Reason::InconsistentLength.with_state(end), format!("400|upload-offset: 200|{told}")),
        (Reason::InconsistentLength.with_state(at), format!("400|upload-offset: 7|{told}")),
        (Reason::InconsistentLength.into(), "400|{no}|cache-control: no-store|{number}|".into()),
        (
            Reason::LengthExceeded(Some(Length::new(200))).into(),
            "400|{no}|cache-control: no-store|{number}|".into(),
        ),
        (Reason::NotFound.into(), "404|{no}|cache-control: no-store|{number}|".into()),
        (
            Refusal { state: Some(at), ..Refusal::field("Upload-Offset", "x") },
            format!("400|upload-offset: 7|{told}"),
        ),
        (
            Reason::NotAppendMediaType { accept: PARTIAL_UPLOAD }.with_state(at),
            format!("415|accept-patch: application/partial-upload|upload-offset: 7|{told}"),
        ),
        (
            Reason::MethodNotAllowed { allow: "HEAD, PATCH" }.with_state(at),
            format!("405|allow: HEAD, PATCH|upload-offset: 7|{told}"),
        ),
        (too_large(SizeLimit::Append, Some(at)), format!("413|upload-offset: 7|{{limits and age}}|{told}")),
        (
            too_large(SizeLimit::Representation, None),
            "413|{no}|{limits}|cache-control: no-store|{number}|".into(),
        ),
        (
            Reason::TooSmall { bytes_min: 3 }.with_state(at),
            format!("400|upload-offset: 7|{{limits and age}}|{told}"),
        ),
        (
            Reason::TooSmall { bytes_min: 3 }.into(),
            "400|{no}|{limits}|cache-control: no-store|{number}|".into(),
        ),
        (
            Reason::TooManyUploads { uploads_max: 1 }.into(),
            "429|retry-after: 60|{no}|{limits}|cache-control: no-store|{number}|".into(),
        ),
        (
            Reason::QuotaExceeded { bytes_max: 1 }.into(),
            "507|retry-after: 60|{no}|{limits}|cache-control: no-store|{number}|".into(),
        ),
        (Reason::StorageFull.with_state(at), format!("507|retry-after: 60|upload-offset: 7|{told}")),
        (cut(InterruptCause::Disconnected), format!("400|upload-offset: 7|{told}")),
        (cut(InterruptCause::TooSlow), format!("408|upload-offset: 7|{told}")),
        (cut(InterruptCause::Superseded), format!("409|upload-offset: 7|{told}")),
        (cut(InterruptCause::ShuttingDown), format!("503|retry-after: 1|upload-offset: 7|{told}")),
        (cut(InterruptCause::ByOperator), format!("503|retry-after: 1|upload-offset: 7|{told}")),
        (Reason::Busy.into(), "503|retry-after: 1|{no}|cache-control: no-store|{number}|".into()),
        (Reason::Internal.into(), "500|{no}|cache-control: no-store|{number}|".into()),
        (
            Reason::Unauthorized { challenge: "Bearer" }.into(),
            "401|www-authenticate: Bearer|{no}|cache-control: no-store|{number}|".into(),
        ),
    ];
    for (refusal, template) in table {
        for version in Interop::ALL {
            let expected = spelled_out(version, &template);
            assert_eq!(
                written(&Dialect::Ietf(codec(version)).refuse(&refusal, &limited())),
                expected,
                "{version:?} {refusal:?}"
            );
        }
    }
    let problem = mismatch(at).problem(None);
    assert_eq!(
        problem.problem_type.uri(),
        "https://iana.org/assignments/http-problem-types#mismatching-upload-offset"
    );
    assert_eq!(problem.title, "Mismatching Upload Offset");
    assert_eq!(problem.numbers, [("expected-offset", 7), ("provided-offset", 9)]);
    for reason in [Reason::InconsistentLength, Reason::LengthExceeded(None)] {
        let problem = Refusal::new(reason).problem(None);
        assert_eq!(
            problem.problem_type.uri(),
            "https://iana.org/assignments/http-problem-types#inconsistent-upload-length"
        );
        assert_eq!((problem.title, problem.numbers.len()), ("Inconsistent Upload Length Values", 0));
    }
}

// proves: IETF-PRB-02, IETF-PRB-03
#[test]
fn an_append_to_a_complete_upload_has_the_problem_type_of_its_version() {
    let refusal = Reason::AlreadyComplete.with_state(state(200, Some(200), true));
    let completed = "https://iana.org/assignments/http-problem-types#completed-upload";
    let told = "{no}|{length}|cache-control: no-store|{number}|";
    for (versions, uri) in [
        (&[Interop::V3, Interop::V4, Interop::V5][..], "about:blank"),
        (&[Interop::V6, Interop::V7], completed),
    ] {
        for version in versions {
            let dialect = Dialect::Ietf(codec(*version));
            let expected = spelled_out(*version, &format!("400|upload-offset: 200|{told}"));
            assert_eq!(written(&dialect.refuse(&refusal, &limited())), expected, "{version:?}");
            let problem = refusal.problem(Some(dialect));
            assert_eq!((problem.status, problem.problem_type.uri()), (StatusCode::BAD_REQUEST, uri));
        }
    }
}

// proves: IETF-APP-14, IETF-APP-15
#[test]
fn the_response_to_an_append_to_a_complete_upload_depends_on_the_version() {
    for version in Interop::ALL {
        let parts =
            head("PATCH", &format!("{TYPE}Upload-Offset: 5|Upload-Complete: ?1|Upload-Incomplete: ?0"));
        let decoded = codec(version).decode_on_upload(ID, &parts, Some(0));
        let Operation::Append(append) = decoded.operation else { panic!("{decoded:?}") };
        let expected = match version {
            Interop::V3 | Interop::V4 | Interop::V5 | Interop::V6 | Interop::V7 => AppendToComplete::Rejects,
            Interop::V8 | Interop::V9 | Interop::V10 | Interop::Later(_) | Interop::Rfc => {
                AppendToComplete::Replays
            }
        };
        assert_eq!(append.when_complete, expected, "{version:?}");
    }
}

// proves: IETF-CRE-07, IETF-INT-01, IETF-INT-02, IETF-INT-03, IETF-INT-04, IETF-INT-05, IETF-INT-07, IETF-INT-12, IETF-INT-14, IETF-LIM-07, IETF-VER-02, IETF-VER-03
#[test]
fn a_104_goes_only_to_peers_of_a_version_and_carries_its_fields() {
    let began = Upload { lifetime: Some(Duration::from_secs(100)), ..upload() };
    let post = head("POST", "Upload-Complete: ?1|Upload-Incomplete: ?0");
    let create = codec(Interop::V8).decode_creation(&post, Some(9)).expect("a creation").operation;
    let patch = head("PATCH", &format!("{TYPE}Upload-Offset: 0|Upload-Complete: ?1"));
    let append = codec(Interop::V8).decode_on_upload(ID, &patch, Some(9)).operation;
    for version in Interop::ALL {
        let dialect = Dialect::Ietf(codec(version));
        let announced = dialect.announcement(&create, &post, &began, &limited()).expect("it is told");
        let template = format!("104|location: {BASE}/{ID}|{{limits and age}}|{{number}}|");
        assert_eq!(written(&announced), spelled_out(version, &template), "{version:?}");
        for operation in [&append, &Operation::Retrieve, &Operation::Cancel] {
            assert!(dialect.announcement(operation, &patch, &began, &limited()).is_none());
        }
        let progress = dialect.progress(Durable::attest(Offset::new(5))).as_ref().map(written);
        let expected = spelled_out(version, "104|upload-offset: 5|{number}|");
        assert_eq!(progress, (version > Interop::V4).then_some(expected), "{version:?}");

        // Not sent to a client that may not understand it, or for an upload that cannot be resumed.
        let deaf = IetfCodec { version, ..IetfCodec::unversioned() };
        assert!(deaf.announcement(&began, &limited()).is_none() && deaf.progress(Durable::ZERO).is_none());
        let semantics = Semantics { interruption: Interruption::Discards, ..began.semantics };
        let below_min_size = Upload { semantics, ..began.clone() };
        assert!(codec(version).announcement(&below_min_size, &limited()).is_none());
    }
}

// proves: IETF-LIM-02, IETF-OPT-02, IETF-SF-09
#[test]
fn limits_report_the_remaining_lifetime() {
    let limits_at = |limits: &Limits, lifetime: Option<u64>, now| {
        let upload = Upload { lifetime: lifetime.map(Duration::from_secs), ..upload() };
        let context =
            Context { base: BASE, alias: None, limits, now: Timestamp::from_millis(now), lifetime: None };
        let head = codec(Interop::V8).announcement(&upload, &context).expect("it is told");
        head.headers()["upload-limit"].to_str().expect("ASCII").to_owned()
    };
    let none = Limits::default();
    let huge = Limits { size_max: Some(u64::MAX), append_max: Some(u64::MAX), ..none };
    let most = LARGEST_INTEGER;
    let table = [
        (&none, None, 0, "min-size=0".to_owned()),
        (&none, Some(100), 0, "min-size=0, max-age=100".into()),
        (&none, Some(100), 1, "min-size=0, max-age=99".into()),
        (&none, Some(100), 40_000, "min-size=0, max-age=60".into()),
        (&none, Some(100), 99_999, "min-size=0, max-age=0".into()),
        (&none, Some(100), 999_999, "min-size=0, max-age=0".into()),
        (&none, Some(u64::MAX), 0, format!("min-size=0, max-age={}", (u64::MAX / 1000).min(most))),
        (&huge, None, 0, format!("max-size={most}, min-size=0, max-append-size={most}")),
    ];
    for (limits, lifetime, now, expected) in table {
        assert_eq!(limits_at(limits, lifetime, now), expected);
    }
}
