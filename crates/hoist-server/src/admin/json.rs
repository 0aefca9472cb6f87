//! The JSON of the admin API: how uploads, transfers and events are written.

use serde_json::{Value, json};

use hoist_proto::types::{Length, Principal, Timestamp, UploadId};

use crate::operator::{Listed, LiveEvent, Parts, RefusedRequest, TransferView, UploadDetails, UploadView};
use crate::sweep::Swept;

pub(super) fn upload(view: &UploadView, endpoint: &str) -> Value {
    json!({
        "id": view.id.to_string(),
        "path": view.path(endpoint),
        "state": view.state.name(),
        "kind": view.kind.name(),
        "dialect": view.family.name(),
        "owner": view.owner.as_ref().map(Principal::name),
        "name": view.name,
        "offset": view.offset.get(),
        "length": view.length.map(Length::get),
        "created": view.created.rfc3339(),
        "changed": view.touched.rfc3339(),
        "expires": view.expires.map(Timestamp::rfc3339),
        "transfer": view.transfer.as_ref().map(transfer),
    })
}

pub(super) fn transfer(view: &TransferView) -> Value {
    json!({
        "client": view.client.map(|client| client.to_string()),
        "seconds": view.duration.as_secs_f64(),
        "bytes": view.bytes,
        "bytes_per_second": view.bytes_per_second,
    })
}

pub(super) fn details(details: &UploadDetails, endpoint: &str) -> Value {
    let mut document = upload(&details.view, endpoint);
    document["content_type"] = json!(details.content_type);
    document["resumes"] = json!(details.resumes);
    document["answered"] = json!(details.answered.map(|status| status.as_u16()));
    document["next_delivery_seconds"] = json!(details.next_delivery.map(|wait| wait.as_secs_f64()));
    document["parts"] = match &details.parts {
        Parts::None => Value::Null,
        Parts::Concatenated(ids) => {
            json!({ "count": ids.len(), "ids": ids.iter().map(ToString::to_string).collect::<Vec<_>>() })
        }
        Parts::Indexed(count) => json!({ "count": count, "ids": null }),
    };
    document
}

pub(super) fn listed(listed: &Listed, endpoint: &str) -> Value {
    json!({
        "uploads": listed.uploads.iter().map(|view| upload(view, endpoint)).collect::<Vec<_>>(),
        "next": listed.next.as_ref().map(ToString::to_string),
    })
}

pub(super) fn swept(swept: &Swept, is_dry: bool) -> Value {
    json!({ "dry_run": is_dry, "seen": swept.seen, "removed": swept.removed, "delivered": swept.delivered })
}

/// Returns the name of an event, and its data.
pub(super) fn event(event: &LiveEvent, endpoint: &str) -> (&'static str, Value) {
    let of_upload = |view| json!({ "upload": upload(view, endpoint) });
    match event {
        LiveEvent::Created(view) => ("created", of_upload(view)),
        LiveEvent::Received(view) => ("received", of_upload(view)),
        LiveEvent::Ended(view, outcome) => {
            ("ended", json!({ "upload": upload(view, endpoint), "outcome": outcome.name() }))
        }
        LiveEvent::Removed(view, outcome) => {
            ("removed", json!({ "upload": upload(view, endpoint), "outcome": outcome.name() }))
        }
        LiveEvent::Interrupted(view, cause) => {
            ("interrupted", json!({ "upload": upload(view, endpoint), "reason": cause.name() }))
        }
        LiveEvent::Refused(request) => ("refused", refused(request)),
        LiveEvent::Missed(count) => ("missed", json!({ "count": count })),
    }
}

fn refused(request: &RefusedRequest) -> Value {
    json!({
        "client": request.client.map(|client| client.to_string()),
        "method": request.method.as_str(),
        "path": request.path,
        "dialect": request.dialect.map(hoist_proto::upload::Family::name),
        "status": request.status,
        "reason": request.reason,
    })
}

/// Returns the running transfers, of which `transfers` are the first.
pub(super) fn transfers(transfers: &[(UploadId, TransferView)], count: usize) -> Value {
    let rows = transfers.iter().map(|(id, view)| {
        let mut row = transfer(view);
        row["id"] = json!(id.to_string());
        row
    });
    json!({ "count": count, "transfers": rows.collect::<Vec<_>>() })
}
