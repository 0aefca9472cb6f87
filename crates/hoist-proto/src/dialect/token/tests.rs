//! The `Upload-Token` dialect: the requests and responses of each form.

use std::fmt::Write as _;

use proptest::prelude::*;

use super::super::Dialect;
use super::super::tests::{context, head};
use super::client::request;
use super::*;
use crate::dialect::client::{Intent, UploadState};
use crate::operation::BelowMinSize;
use crate::operation::Operation;
use crate::refusal::{Reason, Refusal, SizeLimit};
use crate::types::{Durable, LARGEST_INTEGER, Token, UploadId};
use crate::upload::Composition;
use crate::upload::Origin;

mod round_trip;

const ID: UploadId = UploadId::from_bits([5; 16]);
const FORMS: [Form; 5] = [
    Form::Seed,
    Form::Draft(Draft::Unnumbered),
    Form::Draft(Draft::First),
    Form::Draft(Draft::Interop1),
    Form::Draft(Draft::Interop2),
];
const TOKEN: &str = "Upload-Token: abcdef|";

/// The version field of requests in a form.
fn number(form: Form) -> &'static str {
    match form {
        Form::Seed => "",
        Form::Draft(Draft::Unnumbered) => "Upload-Incomplete: ?0|",
        Form::Draft(Draft::First) => "Upload-Draft-Version: 1|",
        Form::Draft(Draft::Interop1) => "Upload-Draft-Interop-Version: 1|",
        Form::Draft(Draft::Interop2) => "Upload-Draft-Interop-Version: 2|",
    }
}

/// The decoded operation, or the status and the field of the refusal, as one line of text.
fn decoded(form: Form, method: &str, fields: &str, bytes: Option<u64>) -> String {
    let decoded = match form.decode(&head(method, fields), bytes) {
        Ok(decoded) => decoded,
        Err(Refusal { reason: Reason::InvalidField { name, .. }, .. }) => return format!("400 {name}"),
        Err(refusal) => return refusal.status(Some(Dialect::Token(form))).as_u16().to_string(),
    };
    assert_eq!(decoded.family, Family::Token);
    let optional = |number: Option<u64>| number.map_or("?".to_owned(), |number| number.to_string());
    let finish = |content: Content| match content.finish {
        Finish::Here => format!("{} of {{}}", optional(content.bytes)),
        Finish::Later => format!("{} of {{}} more", optional(content.bytes)),
    };
    let of = |content: Content, length: Option<Length>| {
        finish(content).replace("{}", &optional(length.map(Length::get)))
    };
    match decoded.operation {
        Operation::Create(create) => {
            let on_existing = match create.on_existing {
                OnExisting::Refuse => "",
                OnExisting::ResumeAtZero => " or resume",
            };
            format!("create {}{on_existing}", of(create.content, create.length))
        }
        Operation::Append(append) => {
            let like = append.like.map(|method| format!(" like {method}")).unwrap_or_default();
            format!("append at {} {}{like}", append.at, of(append.content, append.length))
        }
        Operation::Retrieve => "retrieve".into(),
        Operation::Cancel => "cancel".into(),
        Operation::Reject(refusal) => unreachable!("this dialect refuses at once: {refusal:?}"),
    }
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

// proves: TOK-CRE-03, TOK-CRE-03a, TOK-CRE-06, TOK-OFF-05, TOK-APP-03, TOK-CAN-02, TDR-HDR-07
#[test]
fn the_seed_form_decodes_by_method_and_offset() {
    let table = [
        ("POST", "", Some(200), "create 200 of 200"),
        ("PUT", "", Some(200), "create 200 of 200"),
        ("BREW", "", Some(200), "create 200 of 200"),
        ("POST", "", Some(0), "create 0 of 0"),
        ("POST", "", None, "create ? of ?"),
        ("POST", "Upload-Length: 200|", None, "create ? of 200"),
        ("POST", "Upload-Length: 300|", Some(200), "create 200 of 300"),
        ("POST", "Upload-Length: 200|", Some(0), "create 0 of 200"),
        ("POST", "Upload-Complete: ?1|", Some(200), "create 200 of 200"),
        ("POST", "Upload-Complete: ?0|", Some(200), "create 200 of ? more"),
        ("POST", "Upload-Complete: ?0|Upload-Length: 300|", Some(200), "create 200 of 300 more"),
        ("POST", "Upload-Complete: 0|", Some(200), "create 200 of 200"),
        ("POST", "Upload-Length: -1|", Some(200), "400 Upload-Length"),
        ("POST", "Upload-Length: many|", Some(200), "400 Upload-Length"),
        ("POST", "Upload-Length: 1|Upload-Length: 1|", Some(200), "400 Upload-Length"),
        ("POST", "Upload-Offset: x|", Some(200), "400 Upload-Offset"),
        ("POST", "Upload-Index: 0|", Some(200), "create 200 of 200"),
        ("POST", "Upload-Index: x|", Some(200), "400 Upload-Index"),
        ("HEAD", "", None, "retrieve"),
        ("HEAD", "", Some(0), "retrieve"),
        ("HEAD", "Upload-Offset: 100|", Some(100), "400 Upload-Offset"),
        ("HEAD", "Upload-Offset: x|", None, "400 Upload-Offset"),
        ("PATCH", "Upload-Offset: 100|", Some(100), "append at 100 100 of ?"),
        ("PATCH", "Upload-Offset: 0|", Some(100), "append at 0 100 of ?"),
        ("PATCH", "Upload-Offset: 100|Upload-Length: 200|", None, "append at 100 ? of 200"),
        ("PATCH", "Upload-Offset: 100|Upload-Complete: ?1|", Some(1), "append at 100 1 of ?"),
        ("PATCH", "Upload-Offset: 100|Upload-Complete: ?0|", Some(1), "append at 100 1 of ? more"),
        ("PATCH", "", Some(100), "400 Upload-Offset"),
        ("PATCH", "Upload-Offset: -1|", Some(100), "400 Upload-Offset"),
        ("PATCH", "Upload-Offset: 1.0|", Some(100), "400 Upload-Offset"),
        ("PATCH", "Upload-Offset: \"1\"|", Some(100), "400 Upload-Offset"),
        ("PATCH", "Upload-Offset: 1000000000000000|", Some(100), "400 Upload-Offset"),
        ("PATCH", "Upload-Offset: 1|Upload-Offset: 1|", Some(100), "400 Upload-Offset"),
        ("POST", "Upload-Offset: 100|", Some(100), "append at 100 100 of ? like POST"),
        ("DELETE", "", None, "cancel"),
        ("DELETE", "Upload-Offset: 0|", None, "400 Upload-Offset"),
        ("GET", "", None, "405"),
        ("TRACE", "", None, "405"),
        ("CONNECT", "", None, "405"),
    ];
    for (method, fields, bytes, expected) in table {
        let fields = format!("{TOKEN}{fields}");
        assert_eq!(decoded(Form::Seed, method, &fields, bytes), expected, "{method} {fields} {bytes:?}");
    }
}

// proves: TDR-HDR-07, TDR-CRE-03, TDR-CRE-04, TDR-CRE-08, TDR-APP-01, TDR-OFF-02, TDR-CAN-02, TDR-HDR-02
#[test]
fn draft_forms_differ_in_the_meaning_of_offset_zero() {
    // The operation in versions up to 1, and in version 2.
    let table = [
        ("POST", "", Some(200), "create 200 of 200 or resume", "create 200 of 200"),
        ("PUT", "", None, "create ? of ? or resume", "create ? of ?"),
        ("PATCH", "", Some(200), "create 200 of 200 or resume", "create 200 of 200"),
        (
            "POST",
            "Upload-Offset: 0|",
            Some(200),
            "create 200 of 200 or resume",
            "append at 0 200 of ? like POST",
        ),
        (
            "POST",
            "Upload-Offset: 5|",
            Some(200),
            "append at 5 200 of ? like POST",
            "append at 5 200 of ? like POST",
        ),
        ("PATCH", "Upload-Offset: 5|", Some(200), "append at 5 200 of ?", "append at 5 200 of ?"),
        ("PATCH", "Upload-Offset: x|", Some(200), "400 Upload-Offset", "400 Upload-Offset"),
        (
            "POST",
            "Upload-Incomplete: ?1|",
            Some(200),
            "create 200 of ? more or resume",
            "create 200 of ? more",
        ),
        ("POST", "Upload-Incomplete: ?1|", Some(0), "create 0 of ? more or resume", "create 0 of ? more"),
        ("POST", "Upload-Incomplete: ?0|", Some(200), "create 200 of 200 or resume", "create 200 of 200"),
        ("POST", "Upload-Incomplete: 1|", Some(200), "400 Upload-Incomplete", "400 Upload-Incomplete"),
        (
            "POST",
            "Upload-Incomplete: ?1|Upload-Length: 300|",
            Some(200),
            "create 200 of 300 more or resume",
            "create 200 of 300 more",
        ),
        (
            "PATCH",
            "Upload-Offset: 5|Upload-Incomplete: ?1|",
            Some(2),
            "append at 5 2 of ? more",
            "append at 5 2 of ? more",
        ),
        ("HEAD", "", None, "retrieve", "retrieve"),
        ("HEAD", "Upload-Offset: 0|", None, "400 Upload-Offset", "400 Upload-Offset"),
        ("HEAD", "Upload-Incomplete: ?1|", None, "400 Upload-Incomplete", "400 Upload-Incomplete"),
        ("DELETE", "", None, "cancel", "cancel"),
        ("DELETE", "Upload-Offset: 0|", None, "400 Upload-Offset", "400 Upload-Offset"),
        ("DELETE", "Upload-Incomplete: ?0|", None, "400 Upload-Incomplete", "400 Upload-Incomplete"),
        ("GET", "", None, "405", "405"),
    ];
    for (method, fields, bytes, early, second) in table {
        for form in [Form::Draft(Draft::First), Form::Draft(Draft::Interop1), Form::Draft(Draft::Interop2)] {
            let fields = format!("{TOKEN}{}{fields}", number(form));
            assert_eq!(Form::of(&head(method, &fields).headers), form);
            let expected = if form == Form::Draft(Draft::Interop2) { second } else { early };
            assert_eq!(decoded(form, method, &fields, bytes), expected, "{method} {fields}");
        }
    }
}

// proves: TDR-APP-02, TDR-APP-04, TDR-CRE-05
#[test]
fn in_the_draft_without_a_number_creations_do_not_resume_and_patch_does_not_create() {
    // The form without a number is detected by `Upload-Incomplete`.
    let form = Form::Draft(Draft::Unnumbered);
    for (method, fields, expected) in [
        ("POST", "Upload-Incomplete: ?1|", "create 9 of ? more"),
        ("POST", "Upload-Incomplete: ?0|Upload-Offset: 0|", "create 9 of 9"),
        ("POST", "Upload-Incomplete: ?1|Upload-Offset: 3|", "append at 3 9 of ? more like POST"),
        ("PATCH", "Upload-Incomplete: ?1|Upload-Offset: 0|", "append at 0 9 of ? more"),
        ("PATCH", "Upload-Incomplete: ?0|Upload-Offset: 0|", "append at 0 9 of ?"),
        ("PATCH", "Upload-Incomplete: ?0|", "create 9 of 9"),
    ] {
        let fields = format!("{TOKEN}{fields}");
        assert_eq!(decoded(form, method, &fields, Some(9)), expected, "{method} {fields}");
    }
}

// proves: TOK-TOKEN-01, TOK-TOKEN-02, TDR-HDR-02, TDR-HDR-04
#[test]
fn a_token_is_checked_after_the_method_and_before_the_other_fields() {
    for form in FORMS {
        let word = |fields: &str| decoded(form, "POST", &format!("{}{fields}", number(form)), Some(1));
        for token in ["abcdef", "\"abcdef\"", ":YWJjZGVm:"] {
            let decoded =
                form.decode(&head("HEAD", &format!("Upload-Token: {token}")), None).expect("a token");
            assert_eq!(decoded.subject, Subject::Token(Token::new(*b"abcdef").expect("in range")), "{token}");
        }
        assert!(word(&format!("Upload-Token: {}", "x".repeat(256))).starts_with("create"));
        for token in ["Upload-Token: ", "Upload-Token: a b", "Upload-Token: a|Upload-Token: a"] {
            assert_eq!(word(token), "400 Upload-Token", "{token}");
        }
        assert_eq!(word(&format!("Upload-Token: {}", "x".repeat(257))), "400 Upload-Token");
        assert_eq!(decoded(form, "GET", "Upload-Token: ", None), "405");
        assert_eq!(decoded(form, "HEAD", "Upload-Token: |Upload-Offset: 5", None), "400 Upload-Token");
    }
}

// proves: TOK-CRE-07, TDR-APP-05
#[test]
fn a_creation_keeps_the_fields_that_describe_the_representation() {
    let fields = "Upload-Token: a|Content-Type: text/plain|Content-Encoding: gzip|Content-Language: sv|\
                  Content-Disposition: attachment; filename=\"../../x\"|Content-Length: 5|Cookie: secret|X-Other: 1";
    let decoded = Form::Seed.decode(&head("POST", fields), Some(5)).expect("a creation");
    let Operation::Create(create) = decoded.operation else { panic!("it creates") };
    let mut kept: Vec<_> = create.origin.fields.keys().map(http::HeaderName::as_str).collect();
    kept.sort_unstable();
    assert_eq!(kept, ["content-disposition", "content-encoding", "content-language", "content-type"]);
    assert_eq!((create.origin.method.as_str(), create.origin.target.as_str()), ("POST", "/uploads"));

    // An append does not keep them.
    let decoded = Form::Seed.decode(&head("PATCH", &format!("{fields}|Upload-Offset: 5")), Some(5));
    let append = Append {
        like: None,
        at: Offset::new(5),
        length: None,
        content: Content { bytes: Some(5), finish: Finish::Here },
        when_complete: AppendToComplete::Conflicts,
    };
    assert_eq!(decoded.expect("an append").operation, Operation::Append(append));
}

fn state(offset: u64, length: Option<u64>, complete: bool) -> State {
    let offset = Durable::attest(Offset::new(offset));
    State {
        offset,
        length: length.map(Length::new),
        complete,
        expires: None,
        awaits_parts: false,
        part: None,
    }
}

/// The status and the fields of the dialect as one line of text.
fn written(head: &Response<()>) -> String {
    let mut line = head.status().as_u16().to_string();
    let names = [
        ("offset", "upload-offset"),
        ("length", "upload-length"),
        ("complete", "upload-complete"),
        ("incomplete", "upload-incomplete"),
        ("interop", "upload-draft-interop-version"),
        ("draft", "upload-draft-version"),
        ("cache", "cache-control"),
        ("location", "location"),
    ];
    for (word, name) in names {
        if let Some(value) = head.headers().get(name) {
            let _ = write!(line, " {word}={}", value.to_str().expect("ASCII"));
        }
    }
    line
}

/// Adds the fields of a draft form to the line of the seed form.
fn in_form(form: Form, seed: &str) -> String {
    let complete = seed.contains("complete=?1");
    let mut line = seed.to_owned();
    if let Form::Draft(draft) = form {
        let incomplete = format!("complete=?{} incomplete=?{}", u8::from(complete), u8::from(!complete));
        let sign = match draft {
            Draft::Unnumbered => "",
            Draft::First => " draft=1",
            Draft::Interop1 => " interop=1",
            Draft::Interop2 => " interop=2",
        };
        line = line.replace(if complete { "complete=?1" } else { "complete=?0" }, &incomplete);
        match line.find(" cache=") {
            Some(at) => line.insert_str(at, sign),
            None => line.push_str(sign),
        }
    }
    line
}

// proves: TOK-CRE-02, TOK-OFF-01, TOK-APP-01, TOK-CAN-01, TDR-CRE-06, TDR-CRE-07, TDR-OFF-03, TDR-OFF-04, TDR-CAN-02, TDR-RSP-01, TDR-RED-01
#[test]
fn replies_are_encoded_in_the_form_of_the_request() {
    let whole =
        |answer| Reply::Complete { id: ID, created: false, state: state(200, Some(200), true), answer };
    let answer = |status: u16, content: &str| TargetResponse {
        status: StatusCode::from_u16(status).expect("a status"),
        fields: head("GET", "Location: /x|Upload-Offset: 9|X-Target: said").headers,
        content: content.into(),
    };
    let quiet = || TargetResponse::of(StatusCode::NO_CONTENT);
    // The seed form and the draft form.
    let table = [
        (
            Reply::Stored { id: ID, created: true, state: state(100, None, false) },
            "{ok} offset=100 complete=?0",
        ),
        (
            Reply::Stored { id: ID, created: false, state: state(100, Some(200), false) },
            "{ok} offset=100 length=200 complete=?0",
        ),
        (
            Reply::Stored { id: ID, created: true, state: state(0, Some(200), false) },
            "{ok} offset=0 length=200 complete=?0",
        ),
        (whole(quiet()), "{ok} offset=200 length=200 complete=?1"),
        (whole(answer(201, "")), "{ok} offset=200 length=200 complete=?1"),
        (whole(answer(200, "said")), "200 offset=200 length=200 complete=?1"),
        (whole(answer(422, "")), "422 offset=200 length=200 complete=?1"),
        (
            Reply::State { id: ID, state: state(100, None, false), described: HeaderMap::new() },
            "204 offset=100 complete=?0 cache=no-store",
        ),
        (
            Reply::State { id: ID, state: state(200, Some(200), true), described: HeaderMap::new() },
            "204 offset=200 length=200 complete=?1 cache=no-store",
        ),
        (Reply::Cancelled, "204"),
    ];
    for (reply, expected) in table {
        for form in FORMS {
            let ok = if form == Form::Seed { "204" } else { "201" };
            let expected = in_form(form, &expected.replace("{ok}", ok));
            let head = form.encode(&reply);
            assert_eq!(written(&head), expected, "{form:?} {reply:?}");
            assert!(!head.status().is_redirection());
        }
    }
    let said = Form::Seed.encode(&whole(answer(200, "said")));
    assert_eq!(said.headers()["x-target"], "said");
}

// proves: TOK-APP-02, TOK-APP-06, TOK-CRE-05, TOK-OFF-04, TOK-CAN-02, TOK-CRE-09, TOK-TOKEN-02, TDR-RSP-01, TDR-APP-02, TDR-APP-03, TDR-CRE-05, TDR-OFF-05
#[test]
fn refusals_report_the_state_of_the_upload() {
    let at = state(100, Some(200), false);
    let end = state(200, Some(200), true);
    let table = [
        (
            Reason::OffsetMismatch { provided: Offset::new(7) }.with_state(at),
            "409 offset=100 length=200 complete=?0 cache=no-store",
        ),
        (Reason::UploadExists.with_state(at), "409 offset=100 length=200 complete=?0 cache=no-store"),
        (Reason::AlreadyComplete.with_state(end), "409 offset=200 length=200 complete=?1 cache=no-store"),
        (Reason::NotFound.into(), "404 cache=no-store"),
        (Refusal::field("Upload-Token", "x"), "400 cache=no-store"),
        (Reason::LengthExceeded(Some(Length::new(200))).into(), "400 cache=no-store"),
        (Reason::InconsistentLength.with_state(at), "400 offset=100 length=200 complete=?0 cache=no-store"),
        (Reason::TooLarge { limit: SizeLimit::Representation, bytes_max: 5 }.into(), "413 cache=no-store"),
        (
            Reason::TooLarge { limit: SizeLimit::Append, bytes_max: 5 }.with_state(at),
            "413 offset=100 length=200 complete=?0 cache=no-store",
        ),
        (Reason::StorageFull.with_state(at), "507 offset=100 length=200 complete=?0 cache=no-store"),
        (Reason::Internal.into(), "500 cache=no-store"),
    ];
    for (refusal, expected) in table {
        for form in FORMS {
            let dialect = Dialect::Token(form);
            let head = dialect.refuse(&refusal, &context("/uploads"));
            assert_eq!(written(&head), in_form(form, expected), "{form:?} {refusal:?}");
            let problem = refusal.problem(Some(dialect));
            assert_eq!(problem.status, head.status());
            assert!(!problem.title.is_empty() && !problem.detail.is_empty());
        }
    }
}

// proves: TOK-CRE-08, TDR-104-01, TDR-104-02, TDR-104-03
#[test]
fn only_a_numbered_creation_is_announced() {
    // Method, fields, and the forms in which the creation is announced.
    let table: [(&str, &str, &[Draft]); 7] = [
        ("POST", "", &[Draft::First, Draft::Interop1, Draft::Interop2]),
        ("PUT", "", &[Draft::First, Draft::Interop1, Draft::Interop2]),
        ("POST", "Upload-Incomplete: ?1|", &[Draft::Interop2]),
        ("POST", "Upload-Offset: 0|", &[]),
        ("PATCH", "Upload-Offset: 5|", &[]),
        ("HEAD", "", &[]),
        ("DELETE", "", &[]),
    ];
    for (method, fields, announced) in table {
        for form in FORMS {
            if form == Form::Draft(Draft::Unnumbered) && method != "POST" {
                continue;
            }
            let head = head(method, &format!("{TOKEN}{}{fields}", number(form)));
            let Ok(decoded) = form.decode(&head, Some(1)) else { continue };
            let interim = form.announcement(&decoded.operation, &head);
            let expected = match form {
                Form::Draft(draft) if announced.contains(&draft) => in_form(form, "104"),
                _ => String::new(),
            };
            let got = interim.as_ref().map(written).unwrap_or_default();
            assert_eq!(got, expected, "{method} {fields} {form:?}");
            if let Some(interim) = interim {
                assert_eq!(interim.headers().len(), 1, "the number, and neither a place nor progress");
            }
        }
    }
}

// proves: TDR-HDR-01, TDR-HDR-08, TDR-CRE-01, TDR-CRE-02, TDR-CRE-04, TDR-APP-01, TDR-OFF-01, TDR-CAN-01, TDR-CLI-02
#[test]
fn client_requests_have_only_the_fields_of_their_form() {
    let token = Token::new(*b"abcdef").expect("in range");
    let create = |bytes, length: Option<u64>, finish| {
        Operation::Create(Create {
            semantics: SEMANTICS,
            length: length.map(Length::new),
            content: Content { bytes, finish },
            on_existing: OnExisting::Refuse,
            below_min_size: BelowMinSize::Resumes,
            composition: Composition::Direct,
            waits_for_parts: false,
            origin: Origin { method: Method::POST, target: "/uploads".into(), fields: HeaderMap::new() },
        })
    };
    let append = |at, finish| {
        Operation::Append(Append {
            like: None,
            at: Offset::new(at),
            length: None,
            content: Content { bytes: Some(1), finish },
            when_complete: AppendToComplete::Conflicts,
        })
    };
    // The seed form; a draft form begins with the number and has another field for more content.
    let table = [
        (create(Some(9), Some(9), Finish::Here), "POST"),
        (create(Some(9), Some(12), Finish::Later), "POST length=12{more}"),
        (create(None, Some(12), Finish::Here), "POST length=12"),
        (append(9, Finish::Here), "PATCH offset=9"),
        (append(9, Finish::Later), "PATCH offset=9{more}"),
        (Operation::Retrieve, "HEAD"),
        (Operation::Cancel, "DELETE"),
    ];
    for (operation, expected) in table {
        for form in FORMS {
            let request = request(form, "/uploads", &token, None, &intent(&operation)).expect("a request");
            assert_eq!(request.headers()["upload-token"], ":YWJjZGVm:");
            let as_response = {
                let mut head = Response::new(());
                *head.headers_mut() = request.headers().clone();
                written(&head).replacen("200", request.method().as_str(), 1)
            };
            let more = if form == Form::Seed { " complete=?0" } else { " incomplete=?1" };
            let sign = in_form(form, "").trim_start().to_owned();
            let expected = format!("{} {sign}", expected.replace("{more}", more));
            assert_eq!(as_response, expected.trim_end(), "{form:?} {operation:?}");
        }
    }
}
