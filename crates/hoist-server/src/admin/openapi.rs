//! The `OpenAPI` 3.1 document of the admin API, made from the table of routes.
//!
//! Owns the schemas of what the routes take and answer.

use serde_json::{Map, Value, json};

use super::api::{LIMIT_DEFAULT, LIMIT_MAX};
use super::routes::{ID, Parameter, ROUTES, Route, Verb};
use super::stream::EVENT_STREAM;
use crate::operator::{AdmissionMode, StateFilter};

const JSON: &str = "application/json";

/// Returns the document.
pub(super) fn document() -> Value {
    let mut paths = Map::new();
    for route in ROUTES {
        let path = paths.entry(route.path).or_insert_with(|| json!({}));
        path[route.method.as_str().to_lowercase()] = operation(route);
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "hoist admin API",
            "description": "To see the uploads of a hoist server and to steer it. Errors are problem documents (RFC 9457).",
            "version": env!("CARGO_PKG_VERSION"),
            "license": { "name": "MIT OR Apache-2.0", "identifier": "MIT OR Apache-2.0" },
        },
        "servers": [{ "url": "/" }],
        "security": [{ "token": [] }, {}],
        "paths": paths,
        "components": {
            "securitySchemes": {
                "token": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "A token of --admin-token-file. Not needed on a unix socket.",
                },
            },
            "schemas": schemas(),
            "responses": { "Problem": problem("The request failed. The problem document says why.") },
        },
    })
}

fn operation(route: &Route) -> Value {
    let mut parameters: Vec<_> = route.parameters.iter().map(|one| parameter(*one)).collect();
    if route.path.contains(ID) {
        parameters.push(json!({
            "name": "id",
            "in": "path",
            "required": true,
            "description": "The id of the upload.",
            "schema": { "$ref": "#/components/schemas/UploadId" },
        }));
    }
    let mut operation = json!({
        "operationId": route.operation,
        "summary": route.summary,
        "description": route.description,
        "parameters": parameters,
        "responses": responses(route),
    });
    if let Some(schema) = taken(route.verb) {
        operation["requestBody"] = json!({ "required": true, "content": { JSON: { "schema": schema } } });
    }
    operation
}

fn parameter(parameter: Parameter) -> Value {
    let (description, schema) = match parameter {
        Parameter::State => (
            "Only uploads in this state. `open` includes those to which content is being transferred.",
            json!({ "enum": StateFilter::ALL.map(StateFilter::name) }),
        ),
        Parameter::Owner => ("Only uploads of this principal.", json!({ "type": "string", "minLength": 1 })),
        Parameter::Age => (
            "Only uploads that were created at least so many seconds ago.",
            json!({ "type": "integer", "minimum": 0, "maximum": u32::MAX }),
        ),
        Parameter::Cursor => (
            "The `next` of the page before, with the same state.",
            json!({ "type": "string", "pattern": "^[oct][0-9A-Za-z_-]{0,64}$" }),
        ),
        Parameter::Limit => (
            "The most uploads on the page.",
            json!({ "type": "integer", "minimum": 1, "maximum": LIMIT_MAX, "default": LIMIT_DEFAULT }),
        ),
        Parameter::DryRun => ("Say what would be done, and do nothing.", json!({ "type": "boolean" })),
    };
    json!({
        "name": parameter.name(),
        "in": "query",
        "description": description,
        "allowEmptyValue": parameter == Parameter::DryRun,
        "schema": schema,
    })
}

fn responses(route: &Route) -> Value {
    let (status, description, media_type) = match route.verb {
        Verb::DeleteUpload | Verb::ExpireUpload => ("204", "The upload is removed.", None),
        Verb::StreamEvents => ("200", "The stream. It ends when the server shuts down.", Some(EVENT_STREAM)),
        _ => ("200", "Done.", Some(JSON)),
    };
    let mut success = json!({ "description": description });
    if let Some(media_type) = media_type {
        success["content"] = json!({ media_type: { "schema": answered(route.verb) } });
    }
    let mut responses = json!({ status: success });
    let refused = || json!({ "$ref": "#/components/responses/Problem" });
    for status in route.errors.iter().chain(&[401]) {
        responses[status.to_string()] = refused();
    }
    if route.verb == Verb::Reload {
        responses["409"] = json!({
            "description": "The configuration has problems. Nothing has changed.",
            "content": { "application/problem+json": { "schema": { "$ref": "#/components/schemas/ReloadProblem" } } },
        });
    }
    responses
}

/// Returns the schema of the body that a route takes.
fn taken(verb: Verb) -> Option<Value> {
    (verb == Verb::SetAdmission).then(|| json!({ "$ref": "#/components/schemas/SetAdmission" }))
}

/// Returns the schema of the content that a route answers with.
fn answered(verb: Verb) -> Value {
    let of = |name: &str| json!({ "$ref": format!("#/components/schemas/{name}") });
    match verb {
        Verb::ListUploads => of("Page"),
        Verb::ShowUpload | Verb::EndTransfer => of("UploadDetails"),
        Verb::RedeliverUpload => of("Redelivered"),
        Verb::DeleteUpload | Verb::ExpireUpload => json!(false),
        Verb::StreamEvents => json!({ "type": "string" }),
        Verb::ShowAdmission | Verb::SetAdmission => of("Admission"),
        Verb::Sweep => of("Swept"),
        Verb::Reload => of("Reloaded"),
        Verb::ShowConfig => of("Config"),
        Verb::ShowDocument => json!({ "type": "object" }),
    }
}

fn problem(description: &str) -> Value {
    json!({
        "description": description,
        "content": { "application/problem+json": { "schema": { "$ref": "#/components/schemas/Problem" } } },
    })
}

/// Returns the schema of an object. A name with `?` may be missing; all others are always there.
fn object(members: &[(&str, Value)]) -> Value {
    let required: Vec<_> =
        members.iter().map(|(name, _)| *name).filter(|name| !name.ends_with('?')).collect();
    let members =
        members.iter().map(|(name, schema)| (name.trim_end_matches('?').to_owned(), schema.clone()));
    json!({ "type": "object", "properties": members.collect::<Map<_, _>>(), "required": required })
}

fn nullable(schema: &Value) -> Value {
    json!({ "oneOf": [schema, { "type": "null" }] })
}

fn schemas() -> Value {
    let of = |name: &str| json!({ "$ref": format!("#/components/schemas/{name}") });
    let (text, count) = (json!({ "type": "string" }), json!({ "type": "integer", "minimum": 0 }));
    let (seconds, time) =
        (json!({ "type": "number", "minimum": 0 }), json!({ "type": "string", "format": "date-time" }));
    let (texts, ids) =
        (json!({ "type": "array", "items": text }), json!({ "type": "array", "items": of("UploadId") }));
    let modes = AdmissionMode::ALL.map(AdmissionMode::name);
    let mut details = upload_members(&text, &count, &time);
    details.extend([
        ("content_type", nullable(&text)),
        ("resumes", count.clone()),
        ("answered", nullable(&json!({ "type": "integer", "minimum": 100, "maximum": 999 }))),
        ("next_delivery_seconds", nullable(&seconds)),
        ("parts", nullable(&object(&[("count", count.clone()), ("ids", nullable(&ids))]))),
    ]);
    json!({
        "UploadId": { "type": "string", "pattern": "^[0-7][0-9a-hjkmnp-tv-z]{25}$", "example": "01k3b0tr6gh9v8q2m5n7p4c1dx" },
        "Transfer": object(&[
            ("client", nullable(&text)),
            ("seconds", seconds),
            ("bytes", count.clone()),
            ("bytes_per_second", count.clone()),
        ]),
        "Upload": object(&upload_members(&text, &count, &time)),
        "UploadDetails": object(&details),
        "Page": object(&[
            ("uploads", json!({ "type": "array", "items": of("Upload") })),
            ("next", nullable(&text)),
        ]),
        "Redelivered": object(&[("outcome", json!({ "enum": ["delivered", "awaits-parts"] }))]),
        "Admission": object(&[("mode", json!({ "enum": modes })), ("previous?", json!({ "enum": modes }))]),
        "SetAdmission": {
            "type": "object",
            "properties": { "mode": { "enum": modes } },
            "required": ["mode"],
            "additionalProperties": false,
        },
        "Swept": object(&[
            ("dry_run", json!({ "type": "boolean" })),
            ("seen", count.clone()),
            ("removed", count.clone()),
            ("delivered", count.clone()),
        ]),
        "Reloaded": object(&[("applied", texts.clone()), ("postponed", texts.clone()), ("warnings", texts.clone())]),
        "Config": object(&[(
            "settings",
            json!({
                "type": "array",
                "items": object(&[
                    ("name", text.clone()),
                    ("values", nullable(&texts)),
                    ("source", nullable(&text)),
                ]),
            }),
        )]),
        "Problem": object(&problem_members(&text)),
        "ReloadProblem": object(&[problem_members(&text), vec![("problems?", texts)]].concat()),
    })
}

fn problem_members(text: &Value) -> Vec<(&'static str, Value)> {
    let status = json!({ "type": "integer", "minimum": 400, "maximum": 599 });
    vec![("type", text.clone()), ("title", text.clone()), ("status", status), ("detail", text.clone())]
}

fn upload_members(text: &Value, count: &Value, time: &Value) -> Vec<(&'static str, Value)> {
    let of = |name: &str| json!({ "$ref": format!("#/components/schemas/{name}") });
    vec![
        ("id", of("UploadId")),
        ("path", nullable(text)),
        ("state", json!({ "enum": ["open", "received", "complete", "failed"] })),
        ("kind", json!({ "enum": ["single", "part", "whole"] })),
        ("dialect", json!({ "enum": ["conventional", "upload-token", "resumable-upload", "tus"] })),
        ("owner", nullable(text)),
        ("name", nullable(text)),
        ("offset", count.clone()),
        ("length", nullable(count)),
        ("created", time.clone()),
        ("changed", time.clone()),
        ("expires", nullable(time)),
        ("transfer", nullable(&of("Transfer"))),
    ]
}

#[cfg(test)]
mod tests {
    use http::Method;

    use super::*;

    /// Returns every `$ref` in a document.
    fn references(value: &Value, found: &mut Vec<String>) {
        match value {
            Value::Object(members) => {
                for (name, member) in members {
                    match member {
                        Value::String(text) if name == "$ref" => found.push(text.clone()),
                        _ => references(member, found),
                    }
                }
            }
            Value::Array(items) => items.iter().for_each(|item| references(item, found)),
            _ => {}
        }
    }

    #[test]
    fn the_document_has_each_route_and_no_other() {
        let document = document();
        let mut operations = Vec::new();
        for (path, methods) in document["paths"].as_object().expect("paths") {
            for (method, operation) in methods.as_object().expect("methods") {
                let method = Method::from_bytes(method.to_uppercase().as_bytes()).expect("a method");
                operations.push((path.clone(), method, operation["operationId"].clone()));
            }
        }
        let mut expected: Vec<_> = ROUTES
            .iter()
            .map(|route| (route.path.to_owned(), route.method.clone(), json!(route.operation)))
            .collect();
        let key = |(path, method, _): &(String, Method, Value)| (path.clone(), method.to_string());
        operations.sort_by_key(key);
        expected.sort_by_key(key);
        assert_eq!(operations, expected);
    }

    #[test]
    fn each_reference_leads_somewhere() {
        let document = document();
        let mut found = Vec::new();
        references(&document, &mut found);
        assert!(!found.is_empty());
        for reference in found {
            let pointer = reference.strip_prefix('#').expect("within the document");
            assert!(document.pointer(pointer).is_some(), "{reference}");
        }
    }
}
