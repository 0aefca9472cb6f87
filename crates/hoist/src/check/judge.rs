//! Comparison of responses with the expectations of a case.
//!
//! Pure functions. They return one sentence per difference, and none if the responses are as expected.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;

use super::case::{
    AnswerExpectation, Expect, Expected, ExpectedInterim, ExpectedProblem, RequestEnd, StateAfter, Status,
};
use super::uploads::Uploads;
use super::version::{CorpusDialect, Version};
use super::wire::{Head, Outgoing, Responses};

/// The request, and the state that expectations refer to.
pub(crate) struct RequestContext<'a> {
    pub(crate) version: Version,
    pub(crate) outgoing: &'a Outgoing,
    /// The uploads that existed before the request.
    pub(crate) uploads: &'a Uploads,
    /// True if the request went to the target and not to an upload.
    pub(crate) creates: bool,
    /// The path of the target.
    pub(crate) target: &'a str,
}

impl RequestContext<'_> {
    /// Returns the first line of a field of the request.
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        let mut fields = self.outgoing.fields.iter().filter(|(field, _)| field.eq_ignore_ascii_case(name));
        fields.next().map(|(_, value)| value.as_str())
    }
}

/// Returns the differences between the responses to a request and the expectation.
pub(crate) fn differences(
    responses: &Responses,
    expect: &Expect,
    request: &RequestContext<'_>,
    ends: RequestEnd,
) -> Vec<String> {
    let mut wrong = Vec::new();
    if let Some(interims) = &expect.interims {
        wrong.extend(interim_heads(responses, interims, request));
    }
    if let Some(expected) = expect.continues
        && responses.interims.iter().any(|head| head.status == 100) != expected
    {
        wrong.push(format!("100 (Continue) {}", if expected { "is missing" } else { "is unexpected" }));
    }
    match (&responses.last, expect.answer) {
        (Some(_), _) if ends == RequestEnd::Stall => {
            wrong.push("final response before the content was sent".into());
        }
        // A client that cuts its request cannot expect a response.
        (None, AnswerExpectation::Yes) if ends == RequestEnd::Whole => {
            wrong.push("no final response".into());
        }
        (Some((Head { status: status @ ..400, .. }, _)), AnswerExpectation::Terminated) => {
            wrong.push(format!("the server responded with {status} instead of ending the request"));
        }
        (None, _) | (Some(_), AnswerExpectation::Terminated) => {}
        (Some((answer, content)), AnswerExpectation::Yes | AnswerExpectation::Maybe) => {
            wrong.extend(last(answer, content, expect, request));
        }
    }
    wrong
}

fn interim_heads(
    responses: &Responses,
    expected: &[ExpectedInterim],
    request: &RequestContext<'_>,
) -> Vec<String> {
    if expected.is_empty() {
        return responses.announcements().map(|_| "unexpected 104 response".to_owned()).collect();
    }
    let mut left = responses.announcements();
    let mut wrong = Vec::new();
    for (at, ExpectedInterim { fields, absent }) in expected.iter().enumerate() {
        let matching = |head: &Head| {
            fields.iter().all(|(name, pattern)| has(head, name, pattern, request))
                && absent.iter().all(|name| head.field(name).is_none())
        };
        if !left.any(matching) {
            let fields: Vec<_> = fields.iter().map(|(name, pattern)| format!("{name}: {pattern}")).collect();
            let without = if absent.is_empty() { String::new() } else { format!(" without {absent:?}") };
            wrong.push(format!("no 104 response number {} with {fields:?}{without}", at + 1));
        }
    }
    wrong
}

/// Returns the differences in the final response.
fn last(head: &Head, content: &[u8], expect: &Expect, request: &RequestContext<'_>) -> Vec<String> {
    let mut wrong = Vec::new();
    if let Some(status) = &expect.status
        && !status.admits(head.status, request.version)
    {
        wrong.push(format!("status is {}, expected {}", head.status, spelled(status, request.version)));
    }
    let mut is_at_length = None;
    let last_offset = request.uploads.last_offset().map(|offset| offset.to_string());
    let mut field = |name: &str, expected: Option<String>, is_absent: bool| {
        let found = head.field(name);
        match expected {
            Some(expected) if found != Some(expected.as_str()) => {
                wrong.push(format!("{name} is {}, expected {expected}", found.unwrap_or("absent")));
            }
            None if is_absent && found.is_some() => {
                wrong.push(format!("{name} is {}, expected none", found.unwrap_or_default()));
            }
            _ => {}
        }
    };
    match &expect.complete {
        Some(Expected::Is(complete)) => match request.version.completeness_field(*complete) {
            Some((name, value)) => field(name, Some(value.into()), false),
            None => is_at_length = Some(*complete),
        },
        Some(Expected::Word(_)) => {
            field("Upload-Complete", None, true);
            field("Upload-Incomplete", None, true);
        }
        None => {}
    }
    let numbers = [("Upload-Offset", &expect.offset), ("Upload-Length", &expect.length)];
    for (name, expected) in numbers {
        match expected {
            Some(Expected::Is(number)) => field(name, Some(number.to_string()), false),
            Some(Expected::Word(word)) if word == "told" => field(name, last_offset.clone(), false),
            Some(Expected::Word(_)) => field(name, None, true),
            None => {}
        }
    }
    for name in &expect.absent {
        field(name, None, true);
    }
    wrong.extend(is_at_length.and_then(|expected| at_length(head, expected)));
    if let (Some(expected), Some(reason)) = (&expect.reason, &head.reason)
        && reason != expected
    {
        wrong.push(format!("reason phrase is {reason:?}, expected {expected:?}"));
    }
    wrong.extend(members(head, expect));
    for (name, pattern) in &expect.fields {
        if !has(head, name, pattern, request) {
            let found = head.field(name).unwrap_or("absent");
            wrong.push(format!("{name} is {found}, expected {pattern}"));
        }
    }
    wrong.extend(limits(head, expect));
    if let Some(expected) = &expect.content
        && content != expected.as_bytes()
    {
        wrong.push(format!("content is {:?}, expected {expected:?}", String::from_utf8_lossy(content)));
    }
    if let Some(expected) = &expect.problem {
        wrong.extend(problem(head, content, expected, request.outgoing.method == "HEAD"));
    }
    wrong
}

/// Returns a difference if completeness, derived from offset and length, is not as expected.
fn at_length(head: &Head, expected: bool) -> Option<String> {
    let (offset, length) = (head.field("upload-offset"), head.field("upload-length"));
    let is_at_length = offset.is_some() && offset == length;
    (is_at_length != expected).then(|| format!("the offset is {offset:?}, the length {length:?}"))
}

/// Returns the differences in fields that are lists, ignoring their order.
fn members(head: &Head, expect: &Expect) -> Vec<String> {
    let mut wrong = Vec::new();
    for (name, expected) in &expect.members {
        let value = head.field(name).unwrap_or_default();
        let found: BTreeSet<&str> = value.split(',').map(str::trim).collect();
        if !expected.iter().map(String::as_str).eq(found.iter().copied()) {
            wrong.push(format!("{name} is {value:?}, expected {expected:?}"));
        }
    }
    wrong
}

fn limits(head: &Head, expect: &Expect) -> Vec<String> {
    let value = head.field("upload-limit").unwrap_or_default();
    let members: Vec<(&str, &str)> =
        value.split(',').filter_map(|member| member.trim().split_once('=')).collect();
    let missing = expect.limits.iter().filter(|(key, number)| {
        let number = number.to_string();
        !members.iter().any(|(name, value)| name == key && *value == number)
    });
    missing
        .map(|(key, number)| format!("Upload-Limit is {value:?}, expected a member {key}={number}"))
        .collect()
}

fn problem(head: &Head, content: &[u8], expected: &ExpectedProblem, to_head: bool) -> Vec<String> {
    let media_type = head.field("content-type").unwrap_or_default();
    if !media_type.starts_with("application/problem+json") {
        return vec![format!("content type is {media_type:?}, expected a problem document")];
    }
    if to_head {
        return Vec::new();
    }
    let Ok(document) = serde_json::from_slice::<serde_json::Value>(content) else {
        return vec!["the problem document is not JSON".into()];
    };
    let mut wrong = Vec::new();
    let kind = if expected.kind.contains(':') {
        expected.kind.clone()
    } else {
        format!("https://iana.org/assignments/http-problem-types#{}", expected.kind)
    };
    // A problem without a type of its own may omit it (RFC 9457, "type").
    let found = document.get("type").and_then(serde_json::Value::as_str).unwrap_or("about:blank");
    if found != kind {
        wrong.push(format!("problem type is {found}, expected {kind}"));
    }
    for (name, value) in &expected.members {
        if document.get(name) != Some(value) {
            let found = document.get(name).map_or_else(|| "absent".to_owned(), ToString::to_string);
            wrong.push(format!("problem member {name} is {found}, expected {value}"));
        }
    }
    wrong
}

/// Returns whether a line of the field matches a pattern.
fn has(head: &Head, name: &str, pattern: &str, request: &RequestContext<'_>) -> bool {
    let number = request.version.number_field().map(|(_, number)| number.to_string()).unwrap_or_default();
    let pattern = request.uploads.fill(&pattern.replace("{number}", &number));
    let mut lines = head.fields.iter().filter(|(field, _)| field.eq_ignore_ascii_case(name));
    lines.any(|(_, value)| if pattern == "{date}" { is_date(value) } else { matches(&pattern, value) })
}

/// Returns whether a text is an HTTP date: `Wed, 25 Jun 2014 16:00:00 GMT` (RFC 9110, "Date/Time Formats").
fn is_date(text: &str) -> bool {
    const DAYS: [&str; 7] = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let number = |text: &str, digits: usize, range: RangeInclusive<u32>| {
        text.len() == digits && text.parse().is_ok_and(|number| range.contains(&number))
    };
    let words: Vec<&str> = text.split(' ').collect();
    let [name, day, month, year, time, "GMT"] = words[..] else { return false };
    let clock: Vec<&str> = time.split(':').collect();
    let [hour, minute, second] = clock[..] else { return false };
    name.strip_suffix(',').is_some_and(|name| DAYS.contains(&name))
        && number(day, 2, 1..=31)
        && MONTHS.contains(&month)
        && number(year, 4, 1970..=9999)
        && number(hour, 2, 0..=23)
        && number(minute, 2, 0..=59)
        && number(second, 2, 0..=60)
}

/// Returns whether a text matches a pattern in which `*` stands for any text.
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
            let row = rows.iter().find(|(range, _)| version.is_in(range));
            row.map_or_else(
                || "nothing, because the case has no row for this version".into(),
                |(_, status)| spelled(status, version),
            )
        }
    }
}

/// Returns the expected response to `HEAD` for a state.
pub(crate) fn state_expectation(after: &StateAfter, version: Version) -> Expect {
    let is_tus = version.dialect() == CorpusDialect::Tus1;
    if after.gone {
        // tus also allows 410 for an upload that existed once.
        let status = if is_tus { Status::OneOf(vec![404, 410]) } else { Status::Is(404) };
        let absent = vec!["Upload-Offset".to_owned()];
        return Expect { status: Some(status), absent, ..Expect::default() };
    }
    let status = if is_tus { Status::Is(200) } else { Status::Class("2xx".into()) };
    Expect {
        status: Some(status),
        offset: after.offset.map(Expected::Is),
        complete: after.complete.map(Expected::Is),
        length: after.length.clone(),
        ..Expect::default()
    }
}

#[cfg(test)]
mod tests;
