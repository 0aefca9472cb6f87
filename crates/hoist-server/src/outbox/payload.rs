//! The content of deliveries, in the two formats.
//!
//! Owns what `CloudEvents` tell. The JSON of tusd's hooks is that of [`tusd_event`](crate::tusd_event).

use hoist_proto::types::{Length, Principal, Timestamp};
use hoist_proto::upload::{Composition, EventKind, EventRequest, PendingEvent, Phase, Upload};
use serde_json::{Value, json};

use super::sink::Format;
use crate::request_facts::RequestFacts;
use crate::tusd_event::{self, EventUpload};

/// An event of an upload, and the URL that the upload is under.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Told<'a> {
    pub(crate) upload: &'a Upload,
    pub(crate) event: &'a PendingEvent,
    /// The path of the upload URL.
    pub(crate) endpoint: &'a str,
    /// Scheme and authority of the server, if they are configured.
    pub(crate) origin: Option<&'a str>,
}

impl Told<'_> {
    /// Returns the content of a delivery.
    pub(crate) fn content(self, format: Format) -> Vec<u8> {
        let content = match format {
            Format::CloudEvents => self.cloud_event(),
            Format::Tusd => self.tusd(),
        };
        content.to_string().into_bytes()
    }

    fn tusd(self) -> Value {
        let Self { upload, event, endpoint, .. } = self;
        // The length is that of the moment of the event.
        let upload = Upload { length: event.length, ..upload.clone() };
        let id = upload.url_path();
        let of = EventUpload { upload: &upload, id: &id, offset: event.offset.get(), files: None, endpoint };
        tusd_event::event(hook(event.kind), of, &facts(event.request.as_deref()))
    }

    fn cloud_event(self) -> Value {
        let Self { upload, event, endpoint, origin } = self;
        let tusd = self.tusd();
        let Value::Object(seen) = &tusd["Event"]["Upload"] else { return Value::Null };
        let member = |name: &str| seen.get(name).cloned().unwrap_or_default();
        let status = match &upload.phase {
            Phase::Delivered(answer) | Phase::Failed(answer) if event.kind != EventKind::Created => {
                Some(answer.status.as_u16())
            }
            _ => None,
        };
        let parts = match &upload.composition {
            Composition::Concatenated(_) => member("PartialUploads"),
            Composition::Direct | Composition::Part | Composition::Indexed(_) => Value::Null,
        };
        json!({
            "specversion": "1.0",
            "id": event.id(upload.id),
            "source": format!("{}{endpoint}", origin.unwrap_or_default()),
            "type": format!("hoist.upload.{}", event.kind),
            "subject": member("ID"),
            "time": event.at.rfc3339(),
            "datacontenttype": "application/json",
            "data": {
                "upload": {
                    "id": member("ID"),
                    "dialect": upload.family.name(),
                    "principal": upload.owner.as_ref().map(Principal::name),
                    "created": upload.created.rfc3339(),
                    "expires": upload.expires().map(Timestamp::rfc3339),
                    "length": event.length.map(Length::get),
                    "offset": event.offset.get(),
                    "metadata": member("MetaData"),
                    "partial": member("IsPartial"),
                    "final": member("IsFinal"),
                    "parts": parts,
                    "status": status,
                },
                "request": event.request.as_deref().map(|_| {
                    let request = &tusd["Event"]["HTTPRequest"];
                    json!({
                        "method": request["Method"],
                        "uri": request["URI"],
                        "remote": request["RemoteAddr"],
                        "headers": request["Header"],
                    })
                }),
            },
        })
    }
}

/// Returns the name of the hook in which tusd tells of an event.
const fn hook(kind: EventKind) -> &'static str {
    match kind {
        EventKind::Created => "post-create",
        EventKind::Finished => "post-finish",
        EventKind::Terminated | EventKind::Expired | EventKind::Failed => "post-terminate",
    }
}

fn facts(request: Option<&EventRequest>) -> RequestFacts {
    request.map_or_else(RequestFacts::default, |request| {
        let EventRequest { method, uri, remote, fields } = request.clone();
        RequestFacts::new(method, uri, remote, fields)
    })
}

/// Returns what may be kept of a request; `None` without one. Shares no buffer with the request.
pub(crate) fn at_rest(facts: &RequestFacts) -> Option<EventRequest> {
    let kept = facts.at_rest();
    let mut fields = kept.fields()?.clone();
    for value in fields.values_mut() {
        if let Ok(copy) = http::HeaderValue::from_bytes(value.as_bytes()) {
            *value = copy;
        }
    }
    let method = http::Method::from_bytes(kept.method().as_bytes()).ok()?;
    Some(EventRequest { method, uri: kept.target().to_owned(), remote: kept.peer().to_owned(), fields })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use hoist_proto::types::{Offset, UploadId};
    use hoist_proto::upload::TargetResponse;
    use http::{HeaderMap, HeaderValue, Method, StatusCode};

    use super::*;

    fn upload() -> Upload {
        let mut upload = hoist_proto::testing::upload(UploadId::from_bits([1; 16]));
        let metadata = HeaderValue::from_static("filename YS50eHQ=");
        upload.origin.fields.insert("upload-metadata", metadata);
        upload.phase = Phase::Delivered(TargetResponse::of(StatusCode::CREATED));
        upload.owner = Some(Principal::new("alice"));
        upload.length = Some(Length::new(5));
        upload
    }

    fn event(kind: EventKind, length: Option<u64>) -> PendingEvent {
        let fields = HeaderMap::from_iter([(http::header::USER_AGENT, HeaderValue::from_static("curl/8"))]);
        let (uri, remote) = ("/uploads".to_owned(), "192.0.2.7:4711".to_owned());
        PendingEvent {
            kind,
            at: Timestamp::from_millis(1_700_000_000_123),
            offset: Offset::new(length.unwrap_or_default()),
            length: length.map(Length::new),
            sinks: Vec::new(),
            request: Some(Arc::new(EventRequest { method: Method::POST, uri, remote, fields })),
            given_up: None,
            retried: None,
        }
    }

    fn told(upload: &Upload, event: &PendingEvent, format: Format) -> Value {
        let told = Told { upload, event, endpoint: "/uploads", origin: Some("https://up.example") };
        serde_json::from_slice(&told.content(format)).expect("JSON")
    }

    #[test]
    fn a_cloud_event_has_the_attributes_of_the_specification() {
        let upload = upload();
        let id = upload.url_path();
        let expected = json!({
            "specversion": "1.0",
            "id": format!("{id}.finished"),
            "source": "https://up.example/uploads",
            "type": "hoist.upload.finished",
            "subject": id,
            "time": "2023-11-14T22:13:20Z",
            "datacontenttype": "application/json",
            "data": {
                "upload": {
                    "id": id, "dialect": "upload-token", "principal": "alice",
                    "created": "2023-11-14T22:13:20Z", "expires": "2023-11-14T23:13:20Z",
                    "length": 5, "offset": 5, "metadata": {"filename": "a.txt"},
                    "partial": false, "final": false, "parts": null, "status": 201,
                },
                "request": {
                    "method": "POST", "uri": "/uploads", "remote": "192.0.2.7:4711",
                    "headers": {"User-Agent": ["curl/8"]},
                },
            },
        });
        assert_eq!(told(&upload, &event(EventKind::Finished, Some(5)), Format::CloudEvents), expected);
        let swept = PendingEvent { request: None, ..event(EventKind::Expired, None) };
        assert_eq!(told(&upload, &swept, Format::CloudEvents)["data"]["request"], Value::Null);
    }

    #[test]
    fn an_event_tells_the_state_of_its_moment() {
        let upload = upload();
        let created = event(EventKind::Created, None);
        let cloud = told(&upload, &created, Format::CloudEvents);
        let seen = &cloud["data"]["upload"];
        assert_eq!(
            (&seen["length"], &seen["offset"], &seen["status"]),
            (&Value::Null, &json!(0), &Value::Null)
        );
        let tusd = told(&upload, &created, Format::Tusd);
        let seen = &tusd["Event"]["Upload"];
        assert_eq!(
            (&seen["Size"], &seen["SizeIsDeferred"], &seen["Offset"]),
            (&json!(0), &json!(true), &json!(0))
        );
    }

    #[test]
    fn the_names_of_hooks_are_those_of_tusd() {
        let upload = upload();
        for (kind, name) in [
            (EventKind::Created, "post-create"),
            (EventKind::Finished, "post-finish"),
            (EventKind::Terminated, "post-terminate"),
            (EventKind::Expired, "post-terminate"),
            (EventKind::Failed, "post-terminate"),
        ] {
            let seen = told(&upload, &event(kind, Some(5)), Format::Tusd);
            assert_eq!(
                (&seen["Type"], &seen["Event"]["HTTPRequest"]["Method"]),
                (&json!(name), &json!("POST"))
            );
        }
    }

    #[test]
    fn nothing_secret_is_kept_of_a_request() {
        let fields = HeaderMap::from_iter([
            (http::header::AUTHORIZATION, HeaderValue::from_static("Bearer s3cret")),
            (http::header::CONTENT_TYPE, HeaderValue::from_static("text/plain")),
        ]);
        let facts =
            RequestFacts::new(Method::POST, "/uploads?key=s3cret".into(), "192.0.2.7:1".into(), fields);
        let kept = at_rest(&facts).expect("a request");
        assert!(!format!("{kept:?}").contains("s3cret"), "{kept:?}");
        assert_eq!((kept.uri.as_str(), kept.fields.len()), ("/uploads", 1));
        assert_eq!(at_rest(&RequestFacts::default()), None);
    }
}
