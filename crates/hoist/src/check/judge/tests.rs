//! A judge that never finds anything is worse than none, so each kind of difference is found here.

use super::super::case::Framing;
use super::*;

fn head(status: u16, fields: &[(&str, &str)]) -> Head {
    let fields = fields.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    Head { status, fields }
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
        ends: Ends::Whole,
        waits: false,
        ancient: false,
    }
}

fn found(heard: &Heard, expect: &str, version: Version, ends: Ends) -> Vec<String> {
    let outgoing = outgoing("PATCH");
    let asked = Asked {
        version,
        outgoing: &outgoing,
        told: Some(7),
        creates: false,
        target: "/uploads",
        upload: None,
    };
    let expect = toml::from_str(expect).expect("an expectation");
    response(heard, &expect, &asked, ends)
}

/// What a server says that is wrong about everything.
fn conflict() -> Heard {
    let problem = br#"{"type":"https://iana.org/assignments/http-problem-types#mismatching-upload-offset","expected-offset":10}"#;
    let fields = [
        ("Upload-Offset", "10"),
        ("Upload-Complete", "?0"),
        ("Upload-Limit", "max-size=5, min-size=0"),
        ("Content-Type", "application/problem+json"),
    ];
    let interims = vec![
        head(104, &[("Location", "http://h/uploads/x"), ("Upload-Draft-Interop-Version", "8")]),
        head(104, &[("Upload-Offset", "3")]),
    ];
    Heard { interims, last: Some((head(409, &fields), problem.to_vec())) }
}

#[test]
fn each_expectation_is_met_or_missed() {
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
    ];
    let heard = conflict();
    for expect in met {
        let found = found(&heard, expect, Version::Interop(8), Ends::Whole);
        assert!(found.is_empty(), "{expect}: {found:?}");
    }
    for expect in missed {
        assert!(!found(&heard, expect, Version::Interop(8), Ends::Whole).is_empty(), "{expect}");
    }
}

#[test]
fn an_answer_is_missed_where_there_should_be_one() {
    let success = Heard { interims: Vec::new(), last: Some((head(204, &[]), Vec::new())) };
    let nothing = Heard::default();
    // What is heard, what is expected of it, how the request ended, whether all is well.
    let cases = [
        (&nothing, "", Ends::Whole, false),
        (&nothing, "", Ends::Cut, true),
        (&nothing, "", Ends::Stall, true),
        (&nothing, "answer = \"terminated\"", Ends::Whole, true),
        (&nothing, "answer = \"maybe\"\nstatus = 204", Ends::Whole, true),
        (&success, "", Ends::Stall, false),
        (&success, "answer = \"terminated\"", Ends::Whole, false),
        (&success, "answer = \"maybe\"\nstatus = 409", Ends::Whole, false),
    ];
    for (heard, expect, ends, is_well) in cases {
        let found = found(heard, expect, Version::Rfc, ends);
        assert_eq!(found.is_empty(), is_well, "{expect} {ends:?}: {found:?}");
    }
}

#[test]
fn fields_are_those_of_the_version() {
    let old = Heard {
        interims: Vec::new(),
        last: Some((head(201, &[("Upload-Incomplete", "?1"), ("Upload-Offset", "10")]), Vec::new())),
    };
    assert!(found(&old, "complete = false\nlength = 10", Version::Interop(3), Ends::Whole).is_empty());
    assert!(!found(&old, "complete = true", Version::Interop(3), Ends::Whole).is_empty());
    assert!(!found(&old, "complete = false", Version::Interop(4), Ends::Whole).is_empty());
    assert!(!found(&old, "length = 10", Version::Interop(6), Ends::Whole).is_empty());
}

#[test]
fn stars_stand_for_anything() {
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
