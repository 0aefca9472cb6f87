//! The rules that apply to every exchange of every case.
//!
//! Pure functions, like [`judge`](super::judge): they return one sentence per violation.

use super::case::{Expect, Expected, RequestEnd, Rule};
use super::judge::RequestContext;
use super::version::INTEROP_FIELD;
use super::wire::{Head, Responses};

/// Returns the violations of a rule. `largest` is the largest offset reported before.
pub(crate) fn violations(
    rule: Rule,
    responses: &Responses,
    expect: &Expect,
    request: &RequestContext<'_>,
    largest: u64,
) -> Vec<String> {
    let last = responses.last.as_ref().map(|(head, _)| head);
    let (announcements, all) = (|| responses.announcements(), || responses.heads());
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
            let name = request.version.number_field().map_or(INTEROP_FIELD, |(name, _)| name);
            let sent = request.field(name);
            let wrong = announcements().filter(|head| sent.is_none() || head.field(name) != sent);
            wrong.map(|head| format!("a 104 has {:?}, the request {sent:?}", head.field(name))).collect()
        }
        Rule::InterimWithoutContent => {
            let declares = |head: &&Head| {
                head.field("content-length").is_some() || head.field("transfer-encoding").is_some()
            };
            let wrong = responses.interims.iter().filter(declares);
            wrong.map(|head| format!("{} declares content", head.status)).collect()
        }
        Rule::InterimLocationOnce => {
            let allowed = usize::from(request.creates);
            let more = announcements().skip(allowed).filter_map(|head| head.field("location"));
            more.map(|location| format!("another 104 response names {location}")).collect()
        }
        Rule::OneLocation => {
            let completeness_field = request.version.completeness_field(false);
            let protocol_speaks = last.filter(|head| {
                completeness_field.is_some_and(|(name, value)| head.field(name) == Some(value))
            });
            let locations: Vec<_> = responses
                .announcements()
                .chain(protocol_speaks)
                .filter_map(|head| head.field("location"))
                .collect();
            let differ = locations.windows(2).filter(|pair| pair[0] != pair[1]);
            differ.map(|pair| format!("first {}, then {}", pair[0], pair[1])).collect()
        }
        Rule::FreshLocation => {
            let named = all().filter(|_| request.creates).filter_map(|head| head.field("location"));
            let is_there = |location: &&str| request.uploads.paths().any(|path| location.ends_with(&path));
            let again = named.filter(is_there);
            again.map(|location| format!("{location} is not new")).collect()
        }
        Rule::OpaqueLocation => {
            let created = last.filter(|head| head.status == 201);
            let locations = announcements().chain(created).filter_map(|head| head.field("location"));
            let opaque = |location: &&str| is_opaque(location, request.target);
            locations.filter(|location| !opaque(location)).map(str::to_owned).collect()
        }
        Rule::NoRedirect => {
            let completeness_field = request.version.completeness_field(true);
            let transfers = matches!(request.outgoing.method.as_str(), "POST" | "PUT" | "PATCH")
                && completeness_field.is_some_and(|(name, _)| request.field(name).is_some());
            // The response of the target to a complete upload is not restricted.
            let is_of_target = |head: &Head| {
                transfers && completeness_field.is_some_and(|(name, value)| head.field(name) == Some(value))
            };
            let redirect = last.filter(|head| {
                matches!(head.status, 301..=303) && (transfers || !request.creates) && !is_of_target(head)
            });
            redirect.map(|head| format!("status {}", head.status)).into_iter().collect()
        }
        Rule::SaysCompleteness => {
            let Some((name, _)) = request.version.completeness_field(true) else { return Vec::new() };
            let asks = request.field(name).is_some()
                && matches!(request.outgoing.method.as_str(), "POST" | "PUT" | "PATCH");
            let is_exempt = matches!(&expect.complete, Some(Expected::Word(_)));
            // A request with a wrong method or media type is not an append, so its response need not state
            // completeness.
            let last = last.filter(|head| !matches!(head.status, 405 | 415));
            let silent = last.filter(|head| asks && !is_exempt && head.field(name).is_none());
            silent.map(|head| format!("{} has no {name}", head.status)).into_iter().collect()
        }
        Rule::NamesTus
        | Rule::NothingOfOthers
        | Rule::NeverRedirect
        | Rule::HeadWithoutContent
        | Rule::NoSniff
        | Rule::ReadableByPages
        | Rule::PlainRefusals => tus_violations(rule, responses, request),
    }
}

/// Returns the violations of a rule of tus.
fn tus_violations(rule: Rule, responses: &Responses, request: &RequestContext<'_>) -> Vec<String> {
    let Some((last, content)) = &responses.last else { return Vec::new() };
    let is_of_another = request.field("upload-draft-interop-version").is_some();
    if is_of_another && request.field("tus-resumable").is_none() {
        return Vec::new();
    }
    let Head { status, .. } = last;
    let is_question = request.outgoing.method == "OPTIONS";
    let wrong = match rule {
        // GET is not part of the protocol.
        Rule::NamesTus if request.outgoing.method == "GET" && request.field("tus-resumable").is_none() => {
            None
        }
        // A truncated request is refused by the HTTP server itself.
        Rule::NamesTus if request.outgoing.ends == RequestEnd::Cut => None,
        Rule::NamesTus => {
            let version = last.field("tus-resumable");
            (version != Some("1.0.0")).then(|| format!("{status} has the version {version:?}"))
        }
        Rule::NothingOfOthers => {
            let announced = responses.announcements().next().is_some();
            let foreign = FOREIGN.iter().filter(|name| !is_question && last.field(name).is_some());
            let foreign: Vec<_> = foreign.collect();
            (announced || !foreign.is_empty()).then(|| format!("104: {announced}, fields: {foreign:?}"))
        }
        Rule::NeverRedirect => (300..400).contains(status).then(|| format!("status {status}")),
        Rule::HeadWithoutContent => {
            let declared = last.field("content-length").filter(|declared| *declared != "0");
            let is_told = request.outgoing.method == "HEAD" && (200..300).contains(status);
            declared.filter(|_| is_told).map(|declared| format!("{declared} bytes are declared"))
        }
        Rule::NoSniff => {
            let told = last.field("x-content-type-options");
            (told != Some("nosniff")).then(|| format!("{status} has {told:?}"))
        }
        Rule::ReadableByPages => request.field("origin").and_then(|origin| unreadable(last, origin, request)),
        Rule::PlainRefusals => {
            let media_type = last.field("content-type").unwrap_or_default();
            let is_plain = media_type.starts_with("text/plain") && content.len() <= SHORT;
            let is_wrong = *status >= 400 && !content.is_empty() && !is_plain;
            is_wrong.then(|| format!("{} bytes of {media_type:?}", content.len()))
        }
        _ => None,
    };
    wrong.into_iter().collect()
}

/// Fields of the other dialects.
const FOREIGN: [&str; 6] = [
    "upload-complete",
    "upload-incomplete",
    "upload-draft-interop-version",
    "upload-draft-version",
    "upload-token",
    "upload-limit",
];

/// The maximum length of a refusal's text.
const SHORT: usize = 1024;

/// The response fields that scripts of tus clients read.
const READ_BY_SCRIPTS: [&str; 12] = [
    "location",
    "upload-offset",
    "upload-length",
    "upload-defer-length",
    "upload-metadata",
    "upload-concat",
    "upload-expires",
    "tus-resumable",
    "tus-version",
    "tus-extension",
    "tus-max-size",
    "tus-checksum-algorithm",
];

/// Returns the reason why a page of this origin cannot read the response.
fn unreadable(head: &Head, origin: &str, request: &RequestContext<'_>) -> Option<String> {
    let allowed = head.field("access-control-allow-origin");
    if allowed != Some("*") && allowed != Some(origin) {
        return Some(format!("{origin} may not read it, but {allowed:?}"));
    }
    if request.field("access-control-request-method").is_some() {
        return None;
    }
    let exposed = head.field("access-control-expose-headers").unwrap_or_default().to_ascii_lowercase();
    let exposed: Vec<&str> = exposed.split(',').map(str::trim).collect();
    let hidden: Vec<_> = READ_BY_SCRIPTS.iter().filter(|name| !exposed.contains(name)).collect();
    (!hidden.is_empty()).then(|| format!("{hidden:?} cannot be read"))
}

/// Returns a message if one of the protocol's fields does not have its canonical form.
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

/// Returns whether a URL is absolute and ends in a long random name below the target.
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
    use super::super::case::{Framing, RequestEnd};
    use super::super::uploads::Uploads;
    use super::super::version::Version;
    use super::super::wire::Outgoing;
    use super::*;

    fn head(status: u16, fields: &[(&str, &str)]) -> Head {
        let fields = fields.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Head { status, reason: None, fields }
    }

    fn outgoing(method: &str, fields: &[(&str, &str)]) -> Outgoing {
        Outgoing {
            method: method.into(),
            target: "/uploads".into(),
            fields: fields.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
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

    #[test]
    fn each_rule_of_tus_detects_a_violation() {
        let exposed = READ_BY_SCRIPTS.join(", ");
        let good = [
            ("Tus-Resumable", "1.0.0"),
            ("X-Content-Type-Options", "nosniff"),
            ("Access-Control-Allow-Origin", "https://page.example"),
            ("Access-Control-Expose-Headers", exposed.as_str()),
            ("Content-Type", "text/plain"),
        ];
        let with = |status, more: &[(&str, &str)]| head(status, &[more, &good[..]].concat());
        let cases = [
            (Rule::NamesTus, vec![], head(204, &[])),
            (Rule::NothingOfOthers, vec![head(104, &[])], with(204, &[])),
            (Rule::NothingOfOthers, vec![], with(204, &[("Upload-Limit", "min-size=0")])),
            (Rule::NeverRedirect, vec![], with(308, &[])),
            (Rule::HeadWithoutContent, vec![], with(200, &[("Content-Length", "9")])),
            (Rule::NoSniff, vec![], head(404, &[])),
            (Rule::ReadableByPages, vec![], head(404, &[])),
            (
                Rule::ReadableByPages,
                vec![],
                with(404, &[("Access-Control-Allow-Origin", "https://x.example")]),
            ),
            (Rule::ReadableByPages, vec![], with(404, &[("Access-Control-Expose-Headers", "Location")])),
            (Rule::PlainRefusals, vec![], with(404, &[("Content-Type", "application/problem+json")])),
        ];
        let outgoing = outgoing("HEAD", &[("Origin", "https://page.example")]);
        let (uploads, target) = (Uploads::default(), "/uploads");
        let request = RequestContext {
            version: Version::Tus1,
            outgoing: &outgoing,
            uploads: &uploads,
            creates: false,
            target,
        };
        for (rule, interims, last) in cases {
            let found = |interims, last: Head| {
                let responses = Responses { interims, last: Some((last, b"no".to_vec())) };
                violations(rule, &responses, &Expect::default(), &request, 0)
            };
            assert!(!found(interims, last).is_empty(), "{rule:?}");
            let well = found(vec![head(100, &[])], with(404, &[("Content-Length", "9")]));
            assert!(well.is_empty(), "{rule:?}: {well:?}");
        }
    }

    #[test]
    fn each_rule_detects_a_violation() {
        let id = "http://h/uploads/0123456789abcdefghjkmnpqrs";
        let good = head(104, &[("Location", id), ("Upload-Draft-Interop-Version", "8")]);
        let cases: [(Rule, Vec<Head>, Head); 12] = [
            (Rule::Canonical, vec![], head(204, &[("Upload-Offset", "+1")])),
            (Rule::OffsetsGrow, vec![], head(204, &[("Upload-Offset", "4")])),
            (
                Rule::OffsetsGrow,
                vec![head(104, &[("Upload-Offset", "9")])],
                head(201, &[("Upload-Offset", "8")]),
            ),
            (Rule::InterimNumber, vec![head(104, &[])], head(201, &[])),
            (Rule::InterimNumber, vec![head(104, &[("Upload-Draft-Interop-Version", "7")])], head(201, &[])),
            (Rule::InterimWithoutContent, vec![head(100, &[("Content-Length", "0")])], head(201, &[])),
            (Rule::InterimLocationOnce, vec![good.clone(), good.clone()], head(201, &[])),
            (
                Rule::OneLocation,
                vec![good.clone()],
                head(201, &[("Location", "http://h/uploads/other"), ("Upload-Complete", "?0")]),
            ),
            (Rule::OpaqueLocation, vec![head(104, &[("Location", "/uploads/1")])], head(201, &[])),
            (Rule::FreshLocation, vec![head(104, &[("Location", "http://h/uploads/old")])], head(201, &[])),
            (Rule::NoRedirect, vec![], head(302, &[])),
            (Rule::SaysCompleteness, vec![], head(204, &[])),
        ];
        for (rule, interims, last) in cases {
            // `NoRedirect` is tested on an upload, all other rules on a creation.
            let creates = !matches!(rule, Rule::NoRedirect);
            let fields = [("Upload-Draft-Interop-Version", "8"), ("Upload-Complete", "?1")];
            let outgoing = outgoing("PATCH", &fields);
            let mut uploads = Uploads::default();
            uploads.add("http://h/uploads/old", None);
            let (version, target) = (Version::Interop(8), "/uploads");
            let request = RequestContext { version, outgoing: &outgoing, uploads: &uploads, creates, target };
            let responses = |interims, last| Responses { interims, last: Some((last, Vec::new())) };
            let found = violations(rule, &responses(interims, last), &Expect::default(), &request, 5);
            assert!(!found.is_empty(), "{rule:?}");
            let fields = [("Upload-Offset", "5"), ("Upload-Complete", "?0"), ("Location", id)];
            let found = violations(
                rule,
                &responses(vec![good.clone()], head(201, &fields)),
                &Expect::default(),
                &request,
                5,
            );
            assert!(found.is_empty() || !creates, "{rule:?}: {found:?}");
        }
    }

    #[test]
    fn fields_have_one_canonical_form() {
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
    fn an_upload_url_has_a_long_opaque_name() {
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
