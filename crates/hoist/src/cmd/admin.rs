//! `hoist admin`: the verbs of the admin API, on the command line.

mod connection;

use std::fmt::Write as _;

use http::Method;
use serde_json::{Value, json};

use self::connection::Connection;
use super::client::block_on;
use crate::cli::{Admin, AdminLs, AdminVerb, UploadIds};
use crate::exit::{Exit, Failure};
use crate::output::{Bytes, Output, quoted};

/// The uploads on a page of `ls`.
const PAGE: usize = 500;

/// The longest event of `live`.
const EVENT_BYTES_MAX: usize = 4 << 20;

pub(crate) fn run(args: Admin, output: Output) -> Result<Exit, Failure> {
    let Admin { place, verb } = args;
    block_on(async move {
        let mut server = Connection::open(&place).await?;
        match verb {
            AdminVerb::Ls(filter) => list(&mut server, &filter, output).await,
            AdminVerb::Show(ids) => each(&mut server, &ids, Method::GET, "", output, show).await,
            AdminVerb::End(ids) => each(&mut server, &ids, Method::POST, "/end", output, ended).await,
            AdminVerb::Delete(ids) => each(&mut server, &ids, Method::DELETE, "", output, deleted).await,
            AdminVerb::Expire(ids) => each(&mut server, &ids, Method::POST, "/expire", output, expired).await,
            AdminVerb::Redeliver(ids) => {
                each(&mut server, &ids, Method::POST, "/redeliver", output, redelivered).await
            }
            AdminVerb::Admission { mode } => admission(&mut server, mode, output).await,
            AdminVerb::Sweep { dry_run } => sweep(&mut server, dry_run, output).await,
            AdminVerb::Reload => reload(&mut server, output).await,
            AdminVerb::Config => config(&mut server, output).await,
            AdminVerb::Live => live(&mut server, output).await,
        }
    })
}

async fn list(server: &mut Connection, filter: &AdminLs, output: Output) -> Result<Exit, Failure> {
    let (mut cursor, mut left, mut is_first) = (None::<String>, filter.limit.unwrap_or(usize::MAX), true);
    while left > 0 {
        let mut path = format!("/v1/uploads?limit={}", left.min(PAGE));
        for (name, value) in [
            ("state", filter.state.clone()),
            ("owner", filter.owner.clone()),
            ("age", filter.age.map(|age| age.0.as_secs().to_string())),
            ("cursor", cursor.take()),
        ] {
            if let Some(value) = value {
                let _ = write!(path, "&{name}={}", percent_encoded(&value));
            }
        }
        let page = server.request(Method::GET, &path).await?;
        let uploads = page["uploads"].as_array().map(Vec::as_slice).unwrap_or_default();
        left = left.saturating_sub(uploads.len());
        for upload in uploads {
            if std::mem::take(&mut is_first) && !output.is_json() {
                Output::data(format_args!(
                    "{}\n",
                    row(["ID", "STATE", "STORED", "CHANGED", "USER", "NAME"])
                ))?;
            }
            output.result(upload_row(upload), &event("upload", upload))?;
        }
        match page["next"].as_str() {
            Some(next) => cursor = Some(next.to_owned()),
            None => break,
        }
    }
    if is_first {
        output.message("no such uploads");
    }
    Ok(Exit::Success)
}

fn row([id, state, stored, changed, user, name]: [&str; 6]) -> String {
    format!("{id:26}  {state:12}  {stored:>20}  {changed:20}  {user:12}  {name}").trim_end().to_owned()
}

fn upload_row(upload: &Value) -> String {
    let state = match &upload["transfer"] {
        Value::Null => text(upload, "state").to_owned(),
        _ => "transferring".to_owned(),
    };
    let user = upload["owner"].as_str().map(quoted).unwrap_or_default();
    let rate = match upload["transfer"]["bytes_per_second"].as_u64() {
        Some(rate) => format!("{}  at {}/s", file_name(upload), Bytes(rate)),
        None => file_name(upload),
    };
    row([text(upload, "id"), &state, &stored(upload), text(upload, "changed"), &user, rate.trim_start()])
}

fn file_name(upload: &Value) -> String {
    upload["name"].as_str().map(quoted).unwrap_or_default()
}

fn stored(upload: &Value) -> String {
    let offset = Bytes(upload["offset"].as_u64().unwrap_or_default());
    match upload["length"].as_u64() {
        Some(length) => format!("{offset} of {}", Bytes(length)),
        None => offset.to_string(),
    }
}

fn text<'a>(document: &'a Value, name: &str) -> &'a str {
    document[name].as_str().unwrap_or("-")
}

/// Returns a document as an event of the JSON output.
fn event(name: &str, document: &Value) -> Value {
    let mut event = document.clone();
    if !event.is_object() {
        event = json!({});
    }
    event["event"] = name.into();
    event
}

/// Does the same with several uploads. One that fails does not keep the others from it.
async fn each(
    server: &mut Connection,
    ids: &UploadIds,
    method: Method,
    verb: &str,
    output: Output,
    print: fn(&str, &Value) -> (String, Value),
) -> Result<Exit, Failure> {
    let mut exit = Exit::Success;
    for id in &ids.ids {
        let path = format!("/v1/uploads/{}{verb}", percent_encoded(id));
        match server.request(method.clone(), &path).await {
            Ok(document) => {
                let (text, json) = print(id, &document);
                output.result(text, &json)?;
            }
            Err(failure) if ids.ids.len() > 1 && failure.exit != Exit::Unreachable => {
                exit = failure.exit;
                output.failure(&Failure::message(failure.exit, format_args!("{id}: {failure}")));
            }
            Err(failure) => return Err(failure),
        }
    }
    Ok(exit)
}

fn show(id: &str, upload: &Value) -> (String, Value) {
    let mut lines = format!("{id}\n");
    let mut line = |name: &str, value: String| {
        if !value.is_empty() {
            let _ = writeln!(lines, "  {name:14} {value}");
        }
    };
    line("state", text(upload, "state").to_owned());
    line("stored", stored(upload));
    line("name", file_name(upload));
    line("user", upload["owner"].as_str().map(quoted).unwrap_or_default());
    line("dialect", text(upload, "dialect").to_owned());
    line("path", upload["path"].as_str().unwrap_or_default().to_owned());
    line("type", upload["content_type"].as_str().map(quoted).unwrap_or_default());
    for (name, member) in [("created", "created"), ("changed", "changed"), ("expires", "expires")] {
        line(name, upload[member].as_str().unwrap_or_default().to_owned());
    }
    line(
        "resumed",
        upload["resumes"]
            .as_u64()
            .filter(|count| *count > 0)
            .map(|count| format!("{count} times"))
            .unwrap_or_default(),
    );
    line("parts", upload["parts"]["count"].as_u64().map(|count| count.to_string()).unwrap_or_default());
    line("answered", upload["answered"].as_u64().map(|status| status.to_string()).unwrap_or_default());
    line(
        "next delivery",
        upload["next_delivery_seconds"].as_f64().map(|wait| format!("in {wait:.0} s")).unwrap_or_default(),
    );
    let transfer = &upload["transfer"];
    if !transfer.is_null() {
        let rate = Bytes(transfer["bytes_per_second"].as_u64().unwrap_or_default());
        let (client, seconds) = (text(transfer, "client"), transfer["seconds"].as_f64().unwrap_or_default());
        line("transfer", format!("from {client} for {seconds:.0} s, at {rate}/s"));
    }
    (lines.trim_end().to_owned(), event("upload", upload))
}

fn ended(id: &str, upload: &Value) -> (String, Value) {
    (format!("{id}: ended, {} stored", stored(upload)), event("upload", upload))
}

fn deleted(id: &str, _: &Value) -> (String, Value) {
    (format!("{id}: deleted"), applied(id, "delete", "removed"))
}

fn expired(id: &str, _: &Value) -> (String, Value) {
    (format!("{id}: expired"), applied(id, "expire", "removed"))
}

fn redelivered(id: &str, document: &Value) -> (String, Value) {
    let outcome = text(document, "outcome");
    let words = if outcome == "awaits-parts" { "its parts are not complete yet" } else { outcome };
    (format!("{id}: {words}"), applied(id, "redeliver", outcome))
}

fn applied(id: &str, verb: &str, outcome: &str) -> Value {
    json!({ "event": "applied", "id": id, "verb": verb, "outcome": outcome })
}

async fn admission(server: &mut Connection, mode: Option<String>, output: Output) -> Result<Exit, Failure> {
    let answer = match mode {
        None => server.request(Method::GET, "/v1/admission").await?,
        Some(mode) => {
            let wanted = json!({ "mode": mode });
            server.request_with(Method::POST, "/v1/admission", Some(&wanted)).await?
        }
    };
    let line = match answer["previous"].as_str() {
        Some(previous) => format!("{} (it was {previous})", text(&answer, "mode")),
        None => text(&answer, "mode").to_owned(),
    };
    output.result(line, &event("admission", &answer))?;
    Ok(Exit::Success)
}

async fn sweep(server: &mut Connection, is_dry: bool, output: Output) -> Result<Exit, Failure> {
    let path = if is_dry { "/v1/sweep?dry-run" } else { "/v1/sweep" };
    let swept = server.request(Method::POST, path).await?;
    let count = |name: &str| swept[name].as_u64().unwrap_or_default();
    let would = if is_dry { "would be " } else { "" };
    let (seen, removed, delivered) = (count("seen"), count("removed"), count("delivered"));
    let line = format!("{seen} looked at, {removed} {would}removed, {delivered} {would}delivered");
    output.result(line, &event("swept", &swept))?;
    Ok(Exit::Success)
}

async fn reload(server: &mut Connection, output: Output) -> Result<Exit, Failure> {
    let reloaded = server.request(Method::POST, "/v1/reload").await?;
    let joined = |name: &str| {
        let items = reloaded[name].as_array().map(Vec::as_slice).unwrap_or_default();
        items.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(", ")
    };
    for warning in reloaded["warnings"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        output.message(format_args!("warning: {warning}"));
    }
    let applied = match joined("applied") {
        none if none.is_empty() => "no setting has changed".to_owned(),
        applied => applied,
    };
    let postponed = match joined("postponed") {
        none if none.is_empty() => String::new(),
        postponed => format!("\nneeds a restart: {postponed}"),
    };
    output.result(format!("reloaded: {applied}{postponed}"), &event("reloaded", &reloaded))?;
    Ok(Exit::Success)
}

async fn config(server: &mut Connection, output: Output) -> Result<Exit, Failure> {
    let config = server.request(Method::GET, "/v1/config").await?;
    for setting in config["settings"].as_array().into_iter().flatten() {
        let values = setting["values"].as_array().map(Vec::as_slice).unwrap_or_default();
        let values = values.iter().filter_map(Value::as_str).map(quoted).collect::<Vec<_>>().join(" ");
        let line = match setting["source"].as_str() {
            Some(source) => format!("{:<44} # {source}", format!("{} = {values}", text(setting, "name"))),
            None => format!("{:<44} # not set", format!("# {} =", text(setting, "name"))),
        };
        output.result(line, &event("setting", setting))?;
    }
    Ok(Exit::Success)
}

async fn live(server: &mut Connection, output: Output) -> Result<Exit, Failure> {
    let mut response = server.send(Method::GET, "/v1/live", None).await?;
    let (mut buffer, mut was_idle) = (Vec::new(), false);
    while let Some(piece) = server.next(&mut response).await? {
        buffer.extend_from_slice(&piece);
        while let Some(end) = buffer.windows(2).position(|two| two == b"\n\n") {
            let written: Vec<u8> = buffer.drain(..end + 2).collect();
            let Some((kind, data)) = parsed_event(&written) else { continue };
            let is_idle = kind == "transfers" && data["count"] == 0;
            // Nothing happens: said once.
            if !(is_idle && was_idle) {
                let mut line = json!({ "event": "live", "kind": kind });
                line["data"] = data.clone();
                output.result(live_line(&kind, &data), &line)?;
            }
            if kind == "transfers" {
                was_idle = is_idle;
            }
        }
        if buffer.len() > EVENT_BYTES_MAX {
            return Err(Failure::message(Exit::Refused, "the server sends an event that has no end"));
        }
    }
    output.message("the server shuts down");
    Ok(Exit::Success)
}

/// Returns the name and the data of a server-sent event.
fn parsed_event(written: &[u8]) -> Option<(String, Value)> {
    let text = str::from_utf8(written).ok()?;
    let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
    Some((field("event")?.to_owned(), serde_json::from_str(field("data")?).ok()?))
}

fn live_line(kind: &str, data: &Value) -> String {
    let upload = &data["upload"];
    let about =
        || format!("{}  {}  {}", text(upload, "id"), stored(upload), file_name(upload)).trim_end().to_owned();
    match kind {
        "transfers" => {
            let rows = data["transfers"].as_array().map(Vec::as_slice).unwrap_or_default();
            let rate =
                rows.iter().filter_map(|row| row["bytes_per_second"].as_u64()).fold(0, u64::saturating_add);
            format!("transfers    {} running, {}/s", data["count"], Bytes(rate))
        }
        "ended" | "removed" => format!("{kind:12} {}  {}", about(), text(data, "outcome")),
        "interrupted" => format!("{kind:12} {}  {}", about(), text(data, "reason")),
        "refused" => {
            let (method, path) = (text(data, "method"), quoted(text(data, "path")));
            format!("{kind:12} {method} {path}  {}  {}", data["status"], text(data, "reason"))
        }
        "missed" => format!("{kind:12} {} events, because this reader is too slow", data["count"]),
        _ => format!("{kind:12} {}", about()),
    }
}

/// Encodes a value for a query or a path segment.
fn percent_encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for octet in text.bytes() {
        match octet {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'~' => encoded.push(octet.into()),
            octet => {
                let _ = write!(encoded, "%{octet:02X}");
            }
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_encoded_for_urls() {
        assert_eq!(percent_encoded("a b/ä.&="), "a%20b%2F%C3%A4%2E%26%3D");
    }

    #[test]
    fn events_are_read_and_told_in_one_line() {
        let written = b"event: ended\ndata: {\"upload\":{\"id\":\"x\",\"offset\":3,\"length\":9,\"name\":\"a b\"},\"outcome\":\"expired\"}\n\n";
        let (kind, data) = parsed_event(written).expect("an event");
        assert_eq!(live_line(&kind, &data), "ended        x  3 B of 9 B  'a b'  expired");
        let transfers =
            json!({ "count": 2, "transfers": [{ "bytes_per_second": 1024 }, { "bytes_per_second": 1024 }] });
        assert_eq!(live_line("transfers", &transfers), "transfers    2 running, 2.0 KiB/s");
        for bad in [&b"event: x\n\n"[..], b"data: {}\n\n", b"event: x\ndata: {\n\n", b"\xff\n\n"] {
            assert!(parsed_event(bad).is_none());
        }
    }

    #[test]
    fn an_upload_is_one_row() {
        let upload = json!({
            "id": "01k3b0tr6gh9v8q2m5n7p4c1dx", "state": "open", "offset": 1024, "length": 4096, "owner": "anna",
            "name": "film.mkv", "changed": "2026-11-28T16:00:00Z", "transfer": { "bytes_per_second": 2048 },
        });
        assert_eq!(
            upload_row(&upload),
            "01k3b0tr6gh9v8q2m5n7p4c1dx  transferring    1.0 KiB of 4.0 KiB  2026-11-28T16:00:00Z  anna          film.mkv  at 2.0 KiB/s"
        );
    }
}
