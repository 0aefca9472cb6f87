//! What came back against what a case expects, and against what holds in every exchange.
//!
//! Pure: from what was heard to sentences that say what differs, none of them when all is well.

use super::case::{After, Answered, Ends, Expect, InterimHead, Problem, Rule, Status, Told};
use super::version::{INTEROP_FIELD, Version};
use super::wire::{Head, Heard, Outgoing};

/// What was asked, as far as the answer depends on it.
pub(crate) struct Asked<'a> {
    pub(crate) version: Version,
    pub(crate) outgoing: &'a Outgoing,
    /// The offset that was told before.
    pub(crate) told: Option<u64>,
    /// Whether it went to the target and not to an upload.
    pub(crate) creates: bool,
    /// The target's path.
    pub(crate) target: &'a str,
    /// The path of the upload there was before.
    pub(crate) upload: Option<&'a str>,
}

impl Asked<'_> {
    fn field(&self, name: &str) -> Option<&str> {
        let mut fields = self.outgoing.fields.iter().filter(|(field, _)| field.eq_ignore_ascii_case(name));
        fields.next().map(|(_, value)| value.as_str())
    }
}

/// Compares a response, its interim responses and its content.
pub(crate) fn response(heard: &Heard, expect: &Expect, asked: &Asked<'_>, ends: Ends) -> Vec<String> {
    let mut wrong = Vec::new();
    let announcements: Vec<&Head> = heard.interims.iter().filter(|head| head.status == 104).collect();
    if let Some(interims) = &expect.interims {
        wrong.extend(interim_heads(&announcements, interims, asked));
    }
    if let Some(expected) = expect.continues
        && heard.interims.iter().any(|head| head.status == 100) != expected
    {
        wrong.push(format!("100 (Continue) {}", if expected { "does not come" } else { "comes" }));
    }
    match (&heard.last, expect.answer) {
        _ if ends == Ends::Stall => {
            if heard.last.is_some() {
                wrong.push("there is a final response before the content is there".into());
            }
        }
        (None, Answered::Terminated | Answered::Maybe) => {}
        (None, Answered::Yes) => {
            // Who cuts a request cannot ask for its answer.
            if ends == Ends::Whole {
                wrong.push("there is no final response".into());
            }
        }
        (Some((head, _)), Answered::Terminated) => {
            if head.status < 400 {
                wrong.push(format!("the request is answered {} instead of ended", head.status));
            }
        }
        (Some((head, content)), Answered::Yes | Answered::Maybe) => {
            wrong.extend(last(head, content, expect, asked));
        }
    }
    wrong
}

fn interim_heads(heads: &[&Head], expected: &[InterimHead], asked: &Asked<'_>) -> Vec<String> {
    if expected.is_empty() {
        return heads.iter().map(|_| "a 104 comes, and none should".to_owned()).collect();
    }
    let mut left = heads.iter();
    let mut wrong = Vec::new();
    for (at, InterimHead { fields, absent }) in expected.iter().enumerate() {
        let matching = |head: &&&Head| {
            fields.iter().all(|(name, pattern)| has(head, name, pattern, asked))
                && absent.iter().all(|name| head.field(name).is_none())
        };
        if !left.any(|head| matching(&head)) {
            let fields: Vec<_> = fields.iter().map(|(name, pattern)| format!("{name}: {pattern}")).collect();
            let without = if absent.is_empty() { String::new() } else { format!(" without {absent:?}") };
            wrong.push(format!("104 number {} with {fields:?}{without} does not come", at + 1));
        }
    }
    wrong
}

/// Compares the final response.
fn last(head: &Head, content: &[u8], expect: &Expect, asked: &Asked<'_>) -> Vec<String> {
    let mut wrong = Vec::new();
    if let Some(status) = &expect.status
        && !status.admits(head.status, asked.version)
    {
        wrong.push(format!("the status is {}, expected is {}", head.status, spelled(status, asked.version)));
    }
    let told = asked.told.map(|told| told.to_string());
    let mut field = |name: &str, expected: Option<String>, is_absent: bool| {
        let found = head.field(name);
        match expected {
            Some(expected) if found != Some(expected.as_str()) => {
                wrong.push(format!("{name} is {}, expected is {expected}", found.unwrap_or("not there")))
            }
            None if is_absent && found.is_some() => {
                wrong.push(format!("{name} is {}, and should not be there", found.unwrap_or_default()));
            }
            _ => {}
        }
    };
    match &expect.complete {
        Some(Told::Is(complete)) => {
            let (name, value) = asked.version.says(*complete);
            field(name, Some(value.into()), false);
        }
        Some(Told::Word(_)) => {
            field("Upload-Complete", None, true);
            field("Upload-Incomplete", None, true);
        }
        None => {}
    }
    let numbers = [
        ("Upload-Offset", &expect.offset, true),
        ("Upload-Length", &expect.length, asked.version.has_length()),
    ];
    for (name, expected, exists) in numbers {
        match expected {
            Some(Told::Is(number)) if exists => field(name, Some(number.to_string()), false),
            Some(Told::Word(word)) if word == "told" && exists => field(name, told.clone(), false),
            Some(Told::Word(_)) => field(name, None, true),
            _ => {}
        }
    }
    for name in &expect.absent {
        field(name, None, true);
    }
    for (name, pattern) in &expect.fields {
        if !has(head, name, pattern, asked) {
            let found = head.field(name).unwrap_or("not there");
            wrong.push(format!("{name} is {found}, expected is {pattern}"));
        }
    }
    wrong.extend(limits(head, expect));
    if let Some(expected) = &expect.content
        && content != expected.as_bytes()
    {
        wrong
            .push(format!("the content is {:?}, expected is {expected:?}", String::from_utf8_lossy(content)));
    }
    if let Some(expected) = &expect.problem {
        wrong.extend(problem(head, content, expected, asked.outgoing.method == "HEAD"));
    }
    wrong
}

fn limits(head: &Head, expect: &Expect) -> Vec<String> {
    let told = head.field("upload-limit").unwrap_or_default();
    let members: Vec<(&str, &str)> =
        told.split(',').filter_map(|member| member.trim().split_once('=')).collect();
    let missing = expect.limits.iter().filter(|(key, number)| {
        let number = number.to_string();
        !members.iter().any(|(name, value)| name == key && *value == number)
    });
    missing
        .map(|(key, number)| format!("Upload-Limit is {told:?}, expected is {key}={number} in it"))
        .collect()
}

fn problem(head: &Head, content: &[u8], expected: &Problem, to_head: bool) -> Vec<String> {
    let media_type = head.field("content-type").unwrap_or_default();
    if !media_type.starts_with("application/problem+json") {
        return vec![format!("the content is of type {media_type:?}, expected is a problem document")];
    }
    if to_head {
        return Vec::new();
    }
    let Ok(document) = serde_json::from_slice::<serde_json::Value>(content) else {
        return vec!["the problem document is no JSON".into()];
    };
    let mut wrong = Vec::new();
    let kind = if expected.kind.contains(':') {
        expected.kind.clone()
    } else {
        format!("https://iana.org/assignments/http-problem-types#{}", expected.kind)
    };
    // What has no type of its own may leave it out (RFC 9457, "type").
    let found = document.get("type").and_then(serde_json::Value::as_str).unwrap_or("about:blank");
    if found != kind {
        wrong.push(format!("the problem is of type {found}, expected is {kind}"));
    }
    for (name, value) in &expected.members {
        if document.get(name) != Some(value) {
            let found = document.get(name).map_or_else(|| "not there".to_owned(), ToString::to_string);
            wrong.push(format!("the problem's {name} is {found}, expected is {value}"));
        }
    }
    wrong
}

/// Whether a line of a field matches a pattern.
fn has(head: &Head, name: &str, pattern: &str, asked: &Asked<'_>) -> bool {
    let number = asked.version.number().map(|(_, number)| number.to_string()).unwrap_or_default();
    let pattern = pattern.replace("{number}", &number);
    let mut lines = head.fields.iter().filter(|(field, _)| field.eq_ignore_ascii_case(name));
    lines.any(|(_, value)| matches(&pattern, value))
}

/// Whether a text is a pattern in which `*` stands for anything.
fn matches(pattern: &str, text: &str) -> bool {
    let Some((first, rest)) = pattern.split_once('*') else { return pattern == text };
    let Some(mut text) = text.strip_prefix(first) else { return false };
    let mut parts: Vec<&str> = rest.split('*').collect();
    let last = parts.pop().unwrap_or_default();
    for part in parts {
        match text.find(part) {
            Some(at) => text = &text[at + part.len()..],
            None => return false,
        }
    }
    text.len() >= last.len() && text.ends_with(last)
}

fn spelled(status: &Status, version: Version) -> String {
    match status {
        Status::Is(code) => code.to_string(),
        Status::OneOf(codes) => codes.iter().map(ToString::to_string).collect::<Vec<_>>().join(" or "),
        Status::Class(class) => class.clone(),
        Status::ByVersion(rows) => {
            let row = rows.iter().find(|(stretch, _)| version.is_in(stretch));
            row.map_or_else(
                || "nothing: the case has no row for it".into(),
                |(_, status)| spelled(status, version),
            )
        }
    }
}

/// What `HEAD` is expected to say.
pub(crate) fn after(after: &After) -> Expect {
    if after.gone {
        let absent = vec!["Upload-Offset".to_owned()];
        return Expect { status: Some(Status::Is(404)), absent, ..Expect::default() };
    }
    Expect {
        status: Some(Status::Class("2xx".into())),
        offset: after.offset.map(Told::Is),
        complete: after.complete.map(Told::Is),
        length: after.length.clone(),
        ..Expect::default()
    }
}

/// What breaks a rule. `largest` is the largest offset the upload was told to have before.
pub(crate) fn rule(
    rule: Rule,
    heard: &Heard,
    expect: &Expect,
    asked: &Asked<'_>,
    largest: u64,
) -> Vec<String> {
    let announcements = || heard.interims.iter().filter(|head| head.status == 104);
    let last = heard.last.as_ref().map(|(head, _)| head);
    let all = || heard.interims.iter().chain(last);
    match rule {
        Rule::Canonical => all().flat_map(|head| &head.fields).filter_map(canonical).collect(),
        Rule::OffsetsGrow => {
            let mut largest = largest;
            let mut wrong = Vec::new();
            for offset in all().filter_map(|head| head.field("upload-offset")?.parse::<u64>().ok()) {
                if offset < largest {
                    wrong.push(format!("offset {offset} after {largest}"));
                }
                largest = largest.max(offset);
            }
            wrong
        }
        Rule::InterimNumber => {
            let number = asked.version.number();
            let (name, sent) = match number {
                Some((name, _)) => (name, asked.field(name)),
                None => (INTEROP_FIELD, asked.field(INTEROP_FIELD)),
            };
            let wrong = announcements().filter(|head| sent.is_none() || head.field(name) != sent);
            wrong.map(|head| format!("a 104 has {:?}, the request {sent:?}", head.field(name))).collect()
        }
        Rule::InterimWithoutContent => {
            let declares = |head: &&Head| {
                head.field("content-length").is_some() || head.field("transfer-encoding").is_some()
            };
            heard
                .interims
                .iter()
                .filter(declares)
                .map(|head| format!("{} declares content", head.status))
                .collect()
        }
        Rule::InterimLocationOnce => {
            let allowed = usize::from(asked.creates);
            let more = announcements().skip(allowed).filter_map(|head| head.field("location"));
            more.map(|location| format!("a further 104 names {location}")).collect()
        }
        Rule::OneLocation => {
            let protocol_speaks = last.filter(|head| {
                let (name, value) = asked.version.says(false);
                head.field(name) == Some(value)
            });
            let locations: Vec<_> =
                announcements().chain(protocol_speaks).filter_map(|head| head.field("location")).collect();
            let differ = locations.windows(2).filter(|pair| pair[0] != pair[1]);
            differ.map(|pair| format!("first {}, then {}", pair[0], pair[1])).collect()
        }
        Rule::FreshLocation => {
            let named = all().filter(|_| asked.creates).filter_map(|head| head.field("location"));
            let before = asked.upload.unwrap_or_default();
            let again = named.filter(|location| !before.is_empty() && location.ends_with(before));
            again.map(|location| format!("{location} is not new")).collect()
        }
        Rule::OpaqueLocation => {
            let created = last.filter(|head| head.status == 201);
            let locations = announcements().chain(created).filter_map(|head| head.field("location"));
            let opaque = |location: &&str| is_opaque(location, asked.target);
            locations.filter(|location| !opaque(location)).map(str::to_owned).collect()
        }
        Rule::NoRedirect => {
            let redirect = last.filter(|head| !asked.creates && matches!(head.status, 301..=303));
            redirect.map(|head| format!("status {}", head.status)).into_iter().collect()
        }
        Rule::SaysCompleteness => {
            let (name, _) = asked.version.says(true);
            let asks = asked.field(name).is_some()
                && matches!(asked.outgoing.method.as_str(), "POST" | "PUT" | "PATCH");
            let is_exempt = matches!(&expect.complete, Some(Told::Word(_)));
            // Where the method or the media type makes no append of it, there is nobody to speak for.
            let last = last.filter(|head| !matches!(head.status, 405 | 415));
            let silent = last.filter(|head| asks && !is_exempt && head.field(name).is_none());
            silent.map(|head| format!("{} has no {name}", head.status)).into_iter().collect()
        }
    }
}

/// What is wrong with the spelling of a field of ours.
fn canonical((name, value): &(String, String)) -> Option<String> {
    let is_number = |text: &str| {
        (1..=15).contains(&text.len())
            && text.bytes().all(|digit| digit.is_ascii_digit())
            && (text == "0" || !text.starts_with('0'))
    };
    let is_right = match name.to_ascii_lowercase().as_str() {
        "upload-offset" | "upload-length" | "upload-draft-interop-version" | "upload-draft-version" => {
            is_number(value)
        }
        "upload-complete" | "upload-incomplete" => matches!(value.as_str(), "?0" | "?1"),
        "upload-limit" => value.split(", ").all(|member| {
            let is_key = |key: &str| {
                key.starts_with(|first: char| first.is_ascii_lowercase())
                    && key
                        .bytes()
                        .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
            };
            member.split_once('=').is_some_and(|(key, number)| is_key(key) && is_number(number))
        }),
        _ => true,
    };
    (!is_right).then(|| format!("{name}: {value}"))
}

/// Whether a URL is absolute, or at least has nothing behind the target that a path or a counter could show.
fn is_opaque(location: &str, target: &str) -> bool {
    let Some((scheme, rest)) = location.split_once("://") else { return false };
    let path = rest.find('/').map_or("", |at| &rest[at..]);
    let directory = target.split('?').next().unwrap_or_default().trim_end_matches('/');
    let name = path.strip_prefix(directory).and_then(|below| below.strip_prefix('/'));
    matches!(scheme, "http" | "https")
        && name.is_some_and(|name| {
            name.len() >= 22
                && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
        })
}

#[cfg(test)]
mod tests {
    use super::*;

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

    #[test]
    fn fields_have_one_spelling() {
        let cases = [
            ("Upload-Offset", "0", true),
            ("upload-offset", "007", false),
            ("upload-length", "+1", false),
            ("upload-length", "1000000000000000", false),
            ("Upload-Complete", "?1", true),
            ("Upload-Complete", "true", false),
            ("Upload-Limit", "max-size=10, min-size=0", true),
            ("Upload-Limit", "max-size=10,min-size=0", false),
            ("Upload-Limit", "", false),
            ("ETag", "anything", true),
        ];
        for (name, value, expected) in cases {
            assert_eq!(canonical(&(name.into(), value.into())).is_none(), expected, "{name}: {value}");
        }
    }

    #[test]
    fn the_url_of_an_upload_shows_nothing() {
        let id = "0123456789abcdefghjkmnpqrs";
        assert!(is_opaque(&format!("http://h/uploads/{id}"), "/uploads"));
        assert!(is_opaque(&format!("https://h:1/{id}"), "/"));
        for bad in [
            "/uploads/0123456789abcdefghjkmnpqrs",
            "http://h/uploads/7",
            "http://h/other/0123456789abcdefghjkmnpqrs",
        ] {
            assert!(!is_opaque(bad, "/uploads"), "{bad}");
        }
    }
}
