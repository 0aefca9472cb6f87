//! Tests that each kind of difference is found.

use super::super::case::Framing;
use super::*;

fn head(status: u16, fields: &[(&str, &str)]) -> Head {
    let fields = fields.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    Head { status, reason: Some("Conflict".into()), fields }
}

fn outgoing(method: &str) -> Outgoing {
    Outgoing {
        method: method.into(),
        target: "/uploads/x".into(),
        fields: vec![("Upload-Draft-Interop-Version".into(), "8".into())],
        content: None,
        declares: None,
        framing: Framing::Sized,
        trailers: Vec::new(),
        paused: Vec::new(),
        ends: RequestEnd::Whole,
        waits: false,
        ancient: false,
    }
}

fn found(responses: &Responses, expect: &str, version: Version, ends: RequestEnd) -> Vec<String> {
    let outgoing = outgoing("PATCH");
    let mut uploads = Uploads::default();
    uploads.add("http://h/uploads/x", Some("a"));
    let told = Responses { interims: vec![head(104, &[("Upload-Offset", "7")])], last: None };
    uploads.record_offsets("/uploads/x", false, &told);
    let request = RequestContext {
        version,
        outgoing: &outgoing,
        uploads: &uploads,
        creates: false,
        target: "/uploads",
    };
    let expect = toml::from_str(expect).expect("an expectation");
    differences(responses, &expect, &request, ends)
}

/// The responses of a server to an append at the wrong offset.
fn conflict() -> Responses {
    let problem = br#"{"type":"https://iana.org/assignments/http-problem-types#mismatching-upload-offset","expected-offset":10}"#;
    let fields = [
        ("Upload-Offset", "10"),
        ("Upload-Complete", "?0"),
        ("Upload-Limit", "max-size=5, min-size=0"),
        ("Content-Type", "application/problem+json"),
        ("Expires", "Wed, 25 Jun 2014 16:00:00 GMT"),
        ("Link", "<http://h/uploads/x>; </uploads/x>"),
    ];
    let interims = vec![
        head(104, &[("Location", "http://h/uploads/x"), ("Upload-Draft-Interop-Version", "8")]),
        head(104, &[("Upload-Offset", "3")]),
    ];
    Responses { interims, last: Some((head(409, &fields), problem.to_vec())) }
}

#[test]
fn each_kind_of_expectation_can_be_met_and_missed() {
    let met = [
        "",
        "status = 409",
        "status = [400, 409]",
        "status = \"4xx\"",
        "status = { \"3..7\" = 201, \"8..\" = 409 }",
        "complete = false",
        "offset = 10",
        "length = \"absent\"",
        "limits = { max-size = 5 }",
        "fields = { upload-limit = \"*min-size=0\" }",
        "absent = [\"Location\"]",
        "interims = [{ fields = { Location = \"http*\", Upload-Draft-Interop-Version = \"{number}\" } }]",
        "interims = [{ fields = { Location = \"*\" } }, { fields = { Upload-Offset = \"3\" }, absent = [\"Location\"] }]",
        "continues = false",
        "problem = { type = \"mismatching-upload-offset\", members = { expected-offset = 10 } }",
        "answer = \"maybe\"",
        "answer = \"terminated\"",
        "reason = \"Conflict\"",
        "members = { Upload-Limit = [\"min-size=0\", \"max-size=5\"] }",
        "fields = { Expires = \"{date}\" }",
        "fields = { Link = \"<{a}>; <{a.path}>\" }",
    ];
    let missed = [
        "status = 204",
        "status = \"2xx\"",
        "status = { \"3..7\" = 409 }",
        "complete = true",
        "complete = \"absent\"",
        "offset = 11",
        "offset = \"told\"",
        "length = 10",
        "limits = { max-size = 6 }",
        "limits = { max-age = 1 }",
        "fields = { Location = \"*\" }",
        "absent = [\"Upload-Offset\"]",
        "interims = []",
        "interims = [{ fields = { Upload-Offset = \"3\" } }, { fields = { Location = \"*\" } }]",
        "interims = [{ fields = { Upload-Offset = \"4\" } }]",
        "continues = true",
        "problem = { type = \"inconsistent-upload-length\" }",
        "problem = { type = \"mismatching-upload-offset\", members = { expected-offset = 11 } }",
        "problem = { type = \"mismatching-upload-offset\", members = { provided-offset = 10 } }",
        "content = \"\"",
        "reason = \"Checksum Mismatch\"",
        "members = { Upload-Limit = [\"min-size=0\"] }",
        "members = { Upload-Limit = [\"min-size=0\", \"max-size=5\", \"max-age=1\"] }",
        "fields = { Content-Type = \"{date}\" }",
        "fields = { Link = \"<{a.path}>*\" }",
    ];
    let responses = conflict();
    for expect in met {
        let found = found(&responses, expect, Version::Interop(8), RequestEnd::Whole);
        assert!(found.is_empty(), "{expect}: {found:?}");
    }
    for expect in missed {
        assert!(!found(&responses, expect, Version::Interop(8), RequestEnd::Whole).is_empty(), "{expect}");
    }
}

#[test]
fn a_missing_response_is_a_difference_unless_allowed() {
    let success = Responses { interims: Vec::new(), last: Some((head(204, &[]), Vec::new())) };
    let nothing = Responses::default();
    // Responses, expectation, end of the request, and whether no difference is found.
    let cases = [
        (&nothing, "", RequestEnd::Whole, false),
        (&nothing, "", RequestEnd::Cut, true),
        (&nothing, "", RequestEnd::Stall, true),
        (&nothing, "answer = \"terminated\"", RequestEnd::Whole, true),
        (&nothing, "answer = \"maybe\"\nstatus = 204", RequestEnd::Whole, true),
        (&success, "", RequestEnd::Stall, false),
        (&success, "answer = \"terminated\"", RequestEnd::Whole, false),
        (&success, "answer = \"maybe\"\nstatus = 409", RequestEnd::Whole, false),
    ];
    for (responses, expect, ends, is_well) in cases {
        let found = found(responses, expect, Version::Rfc, ends);
        assert_eq!(found.is_empty(), is_well, "{expect} {ends:?}: {found:?}");
    }
}

#[test]
fn completeness_is_read_from_the_field_of_the_version() {
    let old = Responses {
        interims: Vec::new(),
        last: Some((head(201, &[("Upload-Incomplete", "?1"), ("Upload-Offset", "10")]), Vec::new())),
    };
    assert!(found(&old, "complete = false\noffset = 10", Version::Interop(3), RequestEnd::Whole).is_empty());
    assert!(!found(&old, "complete = true", Version::Interop(3), RequestEnd::Whole).is_empty());
    assert!(!found(&old, "complete = false", Version::Interop(4), RequestEnd::Whole).is_empty());
    assert!(!found(&old, "length = 10", Version::Interop(3), RequestEnd::Whole).is_empty());
}

#[test]
fn a_tus_upload_is_complete_at_its_length() {
    let responses = |fields| Responses { interims: Vec::new(), last: Some((head(200, fields), Vec::new())) };
    let cases = [
        (responses(&[("Upload-Offset", "5"), ("Upload-Length", "5")]), true),
        (responses(&[("Upload-Offset", "5"), ("Upload-Length", "6")]), false),
        (responses(&[("Upload-Offset", "5")]), false),
        (responses(&[]), false),
    ];
    for (responses, is_complete) in cases {
        let [met, missed] = [is_complete, !is_complete].map(|complete| {
            found(&responses, &format!("complete = {complete}"), Version::Tus1, RequestEnd::Whole)
        });
        assert!(met.is_empty() && !missed.is_empty(), "{responses:?}: {met:?}");
    }
}

#[test]
fn only_imf_fixdates_are_accepted() {
    let cases = [
        ("Wed, 25 Jun 2014 16:00:00 GMT", true),
        ("Wed, 25 Jun 2014 16:00:00 UTC", false),
        ("Wed, 25 Jun 2014 16:00:00 +0000", false),
        ("Wednesday, 25-Jun-14 16:00:00 GMT", false),
        ("Wed Jun 25 16:00:00 2014", false),
        ("Wed, 5 Jun 2014 16:00:00 GMT", false),
        ("2014-06-25T16:00:00Z", false),
        ("", false),
    ];
    for (text, expected) in cases {
        assert_eq!(is_date(text), expected, "{text}");
    }
}

#[test]
fn a_star_matches_any_text() {
    let cases = [
        ("abc", "abc", true),
        ("abc", "abcd", false),
        ("*", "", true),
        ("a*c", "abbc", true),
        ("a*c", "ab", false),
        ("*min-size=0*", "max-size=5, min-size=0", true),
        ("ab*ba", "aba", false),
    ];
    for (pattern, text, expected) in cases {
        assert_eq!(matches(pattern, text), expected, "{pattern} {text}");
    }
}
