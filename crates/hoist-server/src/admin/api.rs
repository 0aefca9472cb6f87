//! The admin API below `/v1`: from a request to a verb of the [operator](crate::operator), and from its outcome to a response.

use std::collections::HashMap;
use std::time::Duration;

use bytes::{Buf, BytesMut};
use hoist_proto::types::{Principal, UploadId};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, header};
use http_body_util::BodyExt as _;
use serde_json::{Map, Value, json};

use super::routes::{self, Found, Parameter, Route, Verb};
use super::stream::{EVENT_STREAM, EventStream};
use super::{Admin, json, openapi, problem};
use crate::answer::{self, Answer, Body};
use crate::intake::Content;
use crate::operator::{AdmissionMode, Filter, Operator, OperatorError, Redelivered, StateFilter};

/// The most uploads on a page, and their number if the request states none.
pub(super) const LIMIT_MAX: usize = 1000;
pub(super) const LIMIT_DEFAULT: usize = 100;

/// The largest body of a request.
const BODY_BYTES_MAX: usize = 4096;

/// The time that the sender of such a body gets.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// Answers a request that is admitted, on a path below `/v1`.
pub(super) async fn answer<B: Content>(admin: &Admin, head: &Parts, body: B) -> Answer {
    let found = routes::at(head.uri.path());
    if found.is_empty() {
        return problem::not_found();
    }
    let Some(Found { route, id }) = found.iter().find(|found| found.route.takes(&head.method)) else {
        let methods: Vec<_> = found.iter().flat_map(|found| found.route.methods()).collect();
        return problem::method_not_allowed(&methods.join(", "));
    };
    let asked = Asked { admin, operator: admin.hoist.operator(), endpoint: admin.hoist.endpoint(), head };
    let answered = match read_query(route, head.uri.query()) {
        Ok(query) => Box::pin(asked.run(route, *id, &query, body)).await,
        Err(refused) => Err(refused),
    };
    answered.unwrap_or_else(|refused| *refused)
}

impl Route {
    /// Returns whether the route takes a method. `HEAD` is `GET` without the content, but for a stream, which has no end.
    fn takes(&self, method: &Method) -> bool {
        self.method == *method || (*method == Method::HEAD && self.has_head())
    }

    fn has_head(&self) -> bool {
        self.method == Method::GET && self.verb != Verb::StreamEvents
    }

    fn methods(&self) -> impl Iterator<Item = &str> {
        [self.method.as_str()].into_iter().chain(self.has_head().then_some("HEAD"))
    }
}

/// A response that is a problem document.
type Refused = Box<Answer>;

type Query = HashMap<&'static str, String>;

/// A request to the API.
struct Asked<'a> {
    admin: &'a Admin,
    operator: Operator,
    endpoint: &'a str,
    head: &'a Parts,
}

impl Asked<'_> {
    async fn run<B: Content>(
        self,
        route: &Route,
        id: Option<&str>,
        query: &Query,
        body: B,
    ) -> Result<Answer, Refused> {
        let operator = &self.operator;
        let id = || {
            let unknown = "there is no such upload: an id has 26 digits and lower-case letters";
            id.and_then(|id| id.parse::<UploadId>().ok())
                .ok_or_else(|| refused(StatusCode::NOT_FOUND, unknown))
        };
        match route.verb {
            Verb::ListUploads => self.list(query).await,
            Verb::ShowUpload => {
                let details = operator.show(id()?).await.map_err(|failure| self.failed(&failure))?;
                Ok(document(&json::details(&details, self.endpoint)))
            }
            Verb::DeleteUpload => {
                operator.delete(id()?).await.map_err(|failure| self.failed(&failure))?;
                Ok(no_content())
            }
            Verb::EndTransfer => {
                let details = operator.end(id()?).await.map_err(|failure| self.failed(&failure))?;
                Ok(document(&json::details(&details, self.endpoint)))
            }
            Verb::ExpireUpload => {
                operator.expire(id()?).await.map_err(|failure| self.failed(&failure))?;
                Ok(no_content())
            }
            Verb::RedeliverUpload => {
                let outcome = operator.redeliver(id()?).await.map_err(|failure| self.failed(&failure))?;
                let outcome = match outcome {
                    Redelivered::Delivered => "delivered",
                    Redelivered::AwaitsParts => "awaits-parts",
                };
                Ok(document(&json!({ "outcome": outcome })))
            }
            Verb::StreamEvents => self.stream(),
            Verb::ShowAdmission => Ok(document(&json!({ "mode": operator.admission_mode().name() }))),
            Verb::SetAdmission => self.set_admission(body).await,
            Verb::Sweep => {
                let is_dry = query.get(Parameter::DryRun.name()).is_some_and(|value| value != "false");
                let swept = if is_dry { operator.sweep_dry().await } else { operator.sweep().await };
                Ok(document(&json::swept(&swept.map_err(|failure| self.failed(&failure))?, is_dry)))
            }
            Verb::Reload => self.reload().await,
            Verb::ShowConfig => self.config(),
            Verb::ShowDocument => Ok(document(&openapi::document())),
        }
    }

    async fn list(&self, query: &Query) -> Result<Answer, Refused> {
        let invalid = |parameter: Parameter, what: &str| {
            refused(StatusCode::BAD_REQUEST, format!("`{}` takes {what}", parameter.name()))
        };
        let number = |parameter: Parameter, what: &str| match query.get(parameter.name()) {
            Some(text) if !text.is_empty() && text.bytes().all(|octet| octet.is_ascii_digit()) => {
                text.parse::<u64>().map(Some).map_err(|_| invalid(parameter, what))
            }
            Some(_) => Err(invalid(parameter, what)),
            None => Ok(None),
        };
        let mut filter = Filter::default();
        if let Some(name) = query.get(Parameter::State.name()) {
            let names = StateFilter::ALL.map(StateFilter::name).join(", ");
            let what = format!("one of {names}");
            filter.state = Some(StateFilter::named(name).ok_or_else(|| invalid(Parameter::State, &what))?);
        }
        filter.owner = query.get(Parameter::Owner.name()).map(|name| Principal::new(name.as_str()));
        filter.age_min = number(Parameter::Age, "a number of seconds")?.map(Duration::from_secs);
        let what = format!("a number from 1 to {LIMIT_MAX}");
        let limit = match number(Parameter::Limit, &what)? {
            None => LIMIT_DEFAULT,
            Some(limit) => usize::try_from(limit)
                .ok()
                .filter(|limit| (1..=LIMIT_MAX).contains(limit))
                .ok_or_else(|| invalid(Parameter::Limit, &what))?,
        };
        let cursor = match query.get(Parameter::Cursor.name()) {
            None => None,
            Some(text) => {
                let what = "the `next` of an earlier page of the same list";
                Some(text.parse().map_err(|_| invalid(Parameter::Cursor, what))?)
            }
        };
        let listed = self.operator.list(&filter, cursor.as_ref(), limit).await;
        Ok(document(&json::listed(&listed.map_err(|failure| self.failed(&failure))?, self.endpoint)))
    }

    fn stream(&self) -> Result<Answer, Refused> {
        let live = self.operator.live().map_err(|failure| self.failed(&failure))?;
        let stream = EventStream::new(self.operator.clone(), live, self.endpoint);
        let mut answer = Response::new(Body::of_pieces(Box::new(stream)));
        let fields = answer.headers_mut();
        fields.insert(header::CONTENT_TYPE, HeaderValue::from_static(EVENT_STREAM));
        fields.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        Ok(answer)
    }

    async fn set_admission<B: Content>(&self, body: B) -> Result<Answer, Refused> {
        let wanted = "send {\"mode\": \"open\"}, \"resume-only\" or \"closed\"";
        let document_sent = read_json(&self.head.headers, body).await?;
        let mode = match document_sent.as_object() {
            Some(members) if members.len() == 1 => members.get("mode").and_then(Value::as_str),
            _ => None,
        };
        let mode: AdmissionMode = mode
            .and_then(|mode| mode.parse().ok())
            .ok_or_else(|| refused(StatusCode::BAD_REQUEST, wanted))?;
        let previous = self.operator.set_admission_mode(mode);
        Ok(document(&json!({ "mode": mode.name(), "previous": previous.name() })))
    }

    async fn reload(&self) -> Result<Answer, Refused> {
        let Some(host) = &self.admin.host else { return Err(no_config()) };
        match host.reload().await {
            Ok(reloaded) => Ok(document(&json!({
                "applied": reloaded.applied,
                "postponed": reloaded.postponed,
                "warnings": reloaded.warnings,
            }))),
            Err(problems) => {
                let detail = "the configuration has problems; the previous settings stay in use";
                let more = Map::from_iter([("problems".to_owned(), json!(problems))]);
                Err(Box::new(problem::problem_with(StatusCode::CONFLICT, detail, &more)))
            }
        }
    }

    fn config(&self) -> Result<Answer, Refused> {
        let Some(host) = &self.admin.host else { return Err(no_config()) };
        let settings = host.config().into_iter().map(
            |setting| json!({ "name": setting.name, "values": setting.values, "source": setting.source }),
        );
        Ok(document(&json!({ "settings": settings.collect::<Vec<_>>() })))
    }

    fn failed(&self, failure: &OperatorError) -> Refused {
        let status = match failure {
            OperatorError::NoSuchUpload => StatusCode::NOT_FOUND,
            OperatorError::WrongState(_) => StatusCode::CONFLICT,
            OperatorError::BadCursor => StatusCode::BAD_REQUEST,
            OperatorError::Busy(_) => StatusCode::SERVICE_UNAVAILABLE,
            OperatorError::Failed(_) => {
                tracing::warn!(path = self.head.uri.path(), error = %failure, "an admin request failed");
                StatusCode::INTERNAL_SERVER_ERROR
            }
        };
        let mut answer = problem::problem(status, failure.to_string());
        if status == StatusCode::SERVICE_UNAVAILABLE {
            answer.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        Box::new(answer)
    }
}

fn refused(status: StatusCode, detail: impl Into<std::borrow::Cow<'static, str>>) -> Refused {
    Box::new(problem::problem(status, detail))
}

fn no_config() -> Refused {
    refused(StatusCode::NOT_FOUND, "this server is part of a program without a configuration of its own")
}

fn document(value: &Value) -> Answer {
    answer::document("application/json", format!("{value}\n"))
}

fn no_content() -> Answer {
    let mut answer = Answer::default();
    *answer.status_mut() = StatusCode::NO_CONTENT;
    answer
}

/// Reads the query of a route. A parameter that the route does not have is refused, and so is one that occurs twice.
fn read_query(route: &Route, query: Option<&str>) -> Result<Query, Refused> {
    let bad = |detail: String| refused(StatusCode::BAD_REQUEST, detail);
    let mut read = HashMap::new();
    for pair in query.unwrap_or_default().split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let decoded = (percent_decoded(name), percent_decoded(value));
        let (Some(name), Some(value)) = decoded else {
            return Err(bad("the query is not UTF-8 text, percent-encoded".to_owned()));
        };
        let Some(parameter) = route.parameters.iter().find(|parameter| parameter.name() == name) else {
            let names: Vec<_> = route.parameters.iter().map(|parameter| parameter.name()).collect();
            let known = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
            return Err(bad(format!("an unknown parameter; this path has these: {known}")));
        };
        let is_valid = match parameter {
            Parameter::DryRun => matches!(value.as_str(), "" | "true" | "false"),
            Parameter::Owner => !value.is_empty(),
            Parameter::State | Parameter::Age | Parameter::Cursor | Parameter::Limit => true,
        };
        if !is_valid {
            return Err(bad(format!("`{}` has no such value", parameter.name())));
        }
        if read.insert(parameter.name(), value).is_some() {
            return Err(bad(format!("`{}` is given twice", parameter.name())));
        }
    }
    Ok(read)
}

/// Decodes a name or a value of a query. Returns `None` if it is not percent-encoded UTF-8.
fn percent_decoded(text: &str) -> Option<String> {
    let mut octets = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(octet) = rest.next() {
        octets.push(match octet {
            b'+' => b' ',
            b'%' => {
                let digit = |octet: Option<u8>| char::from(octet?).to_digit(16);
                let (high, low) = (digit(rest.next())?, digit(rest.next())?);
                u8::try_from(high * 16 + low).ok()?
            }
            octet => octet,
        });
    }
    String::from_utf8(octets).ok()
}

/// Reads the body of a request, a JSON document of at most [`BODY_BYTES_MAX`].
async fn read_json<B: Content>(fields: &HeaderMap, body: B) -> Result<Value, Refused> {
    let media_type =
        fields.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let essence = media_type.split(';').next().unwrap_or_default().trim();
    if !essence.eq_ignore_ascii_case("application/json") {
        return Err(refused(StatusCode::UNSUPPORTED_MEDIA_TYPE, "send application/json"));
    }
    let read = tokio::time::timeout(BODY_TIMEOUT, read_body(body)).await;
    let bytes = read.map_err(|_| refused(StatusCode::BAD_REQUEST, "the body arrived too slowly"))??;
    serde_json::from_slice(&bytes).map_err(|_| refused(StatusCode::BAD_REQUEST, "the body is not JSON"))
}

async fn read_body<B: Content>(mut body: B) -> Result<BytesMut, Refused> {
    let too_large =
        || refused(StatusCode::PAYLOAD_TOO_LARGE, format!("the body may have {BODY_BYTES_MAX} bytes"));
    if body.size_hint().lower() > BODY_BYTES_MAX as u64 {
        return Err(too_large());
    }
    let mut read = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| refused(StatusCode::BAD_REQUEST, "the body ended early"))?;
        let Ok(data) = frame.into_data() else { continue };
        if read.len() + data.remaining() > BODY_BYTES_MAX {
            return Err(too_large());
        }
        read.extend_from_slice(&data);
    }
    Ok(read)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_is_decoded_as_browsers_encode_it() {
        for (text, expected) in [
            ("anna", Some("anna")),
            ("a+b%20c%2b", Some("a b c+")),
            ("%C3%A4", Some("ä")),
            ("", Some("")),
            ("%", None),
            ("%4", None),
            ("%zz", None),
            ("%ff", None),
            ("%+1", None),
        ] {
            assert_eq!(percent_decoded(text).as_deref(), expected, "{text}");
        }
    }
}
