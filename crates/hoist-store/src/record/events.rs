//! The events in a record.

use std::sync::Arc;

use hoist_proto::types::{Length, Offset, Timestamp};
use hoist_proto::upload::{EventRequest, GivenUp, PendingEvent, SinkKey};
use http::Method;
use serde::{Deserialize, Serialize};

use super::{Field, damaged, fields_map, fields_text};
use crate::store::Error;

#[derive(Serialize, Deserialize)]
pub(super) struct EventText {
    /// Not an enum, so that the error for an unknown one can say what it means.
    kind: String,
    at_ms: u64,
    offset: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    length: Option<u64>,
    sinks: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    request: Option<RequestText>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    given_up: Option<GivenUpText>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    retried_ms: Option<u64>,
}

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum RequestText {
    Facts {
        method: String,
        uri: String,
        remote: String,
        fields: Vec<Field>,
    },
    /// `"same"`: that of the event before.
    Same(SameName),
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum SameName {
    Same,
}

#[derive(Serialize, Deserialize)]
struct GivenUpText {
    at_ms: u64,
    attempts: u32,
    why: String,
}

pub(super) fn texts(events: &[PendingEvent]) -> Vec<EventText> {
    let mut previous: Option<&Arc<EventRequest>> = None;
    let text = |event| {
        let text = EventText::of(event, previous);
        previous = event.request.as_ref();
        text
    };
    events.iter().map(text).collect()
}

pub(super) fn events(texts: Vec<EventText>) -> Result<Vec<PendingEvent>, Error> {
    let mut events: Vec<PendingEvent> = Vec::with_capacity(texts.len());
    for text in texts {
        let previous = events.last().and_then(|event| event.request.clone());
        events.push(text.event(previous)?);
    }
    Ok(events)
}

impl EventText {
    fn of(event: &PendingEvent, previous: Option<&Arc<EventRequest>>) -> Self {
        let request = |request: &Arc<EventRequest>| {
            if previous == Some(request) {
                RequestText::Same(SameName::Same)
            } else {
                RequestText::of(request)
            }
        };
        let given_up = |GivenUp { at, attempts, why }: &GivenUp| GivenUpText {
            at_ms: at.millis(),
            attempts: *attempts,
            why: why.clone(),
        };
        Self {
            kind: event.kind.name().to_owned(),
            at_ms: event.at.millis(),
            offset: event.offset.get(),
            length: event.length.map(Length::get),
            sinks: event.sinks.iter().map(SinkKey::to_string).collect(),
            request: event.request.as_ref().map(request),
            given_up: event.given_up.as_ref().map(given_up),
            retried_ms: event.retried.map(Timestamp::millis),
        }
    }

    fn event(self, previous: Option<Arc<EventRequest>>) -> Result<PendingEvent, Error> {
        let kind = self.kind.parse().map_err(|error| {
            damaged(format!(
                "the record has an event of type {:?}, as a newer version writes: {error}",
                self.kind
            ))
        })?;
        let sinks = self.sinks.iter().map(|key| key.parse::<SinkKey>()).collect::<Result<_, _>>();
        let request = match self.request {
            None => None,
            Some(RequestText::Same(SameName::Same)) => {
                let none = || damaged("an event of the record refers to the request of none before it");
                Some(previous.ok_or_else(none)?)
            }
            Some(RequestText::Facts { method, uri, remote, fields }) => {
                let method = Method::from_bytes(method.as_bytes());
                let method =
                    method.map_err(|_| damaged("the method of an event in the record is not one"))?;
                Some(Arc::new(EventRequest { method, uri, remote, fields: fields_map(fields)? }))
            }
        };
        let given_up = |GivenUpText { at_ms, attempts, why }| GivenUp {
            at: Timestamp::from_millis(at_ms),
            attempts,
            why,
        };
        Ok(PendingEvent {
            kind,
            at: Timestamp::from_millis(self.at_ms),
            offset: Offset::new(self.offset),
            length: self.length.map(Length::new),
            sinks: sinks
                .map_err(|error| damaged(format!("an event of the record has a sink that is {error}")))?,
            request,
            given_up: self.given_up.map(given_up),
            retried: self.retried_ms.map(Timestamp::from_millis),
        })
    }
}

impl RequestText {
    fn of(request: &EventRequest) -> Self {
        Self::Facts {
            method: request.method.to_string(),
            uri: request.uri.clone(),
            remote: request.remote.clone(),
            fields: fields_text(&request.fields),
        }
    }
}
