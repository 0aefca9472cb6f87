//! A hook that runs a program, with the upload on its standard input and the decision in its exit status.
//!
//! Owns the JSON format and the bounds on the program.

use std::path::PathBuf;
use std::time::Duration;

use hoist_proto::refusal::{Reason, Refusal};
use hoist_proto::upload::Upload;
use hoist_store::store::BoxFuture;
use http::HeaderMap;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Answer, Call, Failure, Point, Points, Receiver};
use crate::program::{Exited, Program, Programs};

const DETAIL_CHARS_MAX: usize = 500;
const RUNNING_MAX: usize = 32;
/// The time after which a peer may retry if the program failed.
const RETRY_AFTER: Duration = Duration::from_secs(5);

/// Fields that hold secrets and are not passed to the program.
const SECRET_FIELDS: [&str; 4] = ["authorization", "cookie", "proxy-authorization", "upload-token"];

/// Runs a program before each upload is created.
///
/// It gets one JSON object on standard input:
///
/// ```json
/// {"event": "pre-create", "upload": {"id": "...", "principal": "alice", "method": "POST", "target": "/uploads",
///  "length": 1024, "fields": {"content-type": ["image/png"]}}}
/// ```
///
/// `principal` and `length` are null if unknown. Exit status 0 accepts the upload. Any other status refuses it with 403
/// and the first line of standard error as the reason. A JSON object on standard output, `{"status": 422, "detail":
/// "..."}`, overrides the exit status and the reason. If the program cannot be run, is killed, exceeds the timeout, or
/// writes malformed JSON, the peer gets 503 and the cause is logged.
pub struct Command {
    program: PathBuf,
    name: String,
    arguments: Vec<String>,
    programs: Programs,
}

impl Command {
    /// Creates a hook that runs `program`, looked up in `PATH` and without a shell, for at most `timeout`.
    pub fn new(
        program: impl Into<PathBuf>,
        arguments: impl IntoIterator<Item = String>,
        timeout: Duration,
    ) -> Self {
        let program = program.into();
        Self {
            name: program.display().to_string(),
            program,
            arguments: arguments.into_iter().collect(),
            programs: Programs::new(RUNNING_MAX, timeout),
        }
    }
}

impl Receiver for Command {
    fn name(&self) -> &str {
        &self.name
    }

    fn points(&self) -> Points {
        Points::of(Point::PreCreate)
    }

    //= TOK-SEC-02
    fn call<'a>(&'a self, call: &'a Call) -> BoxFuture<'a, Result<Answer, Failure>> {
        Box::pin(async move {
            let question = question(call.upload()).to_string();
            let (file, arguments) = (&*self.program, &*self.arguments);
            let program = Program { file, arguments, directory: None, variables: &[] };
            let ended = self.programs.run(program, question.as_bytes()).await;
            let ended = ended.map_err(|error| Failure(error.to_string()))?;
            let verdict = verdict(&ended).map_err(Failure)?;
            Ok(verdict.err().map(Answer::refusing).unwrap_or_default())
        })
    }

    fn refusal(&self) -> Refusal {
        Reason::Unavailable(RETRY_AFTER).into()
    }
}

#[derive(Default, Deserialize)]
struct Override {
    status: Option<u16>,
    detail: Option<String>,
}

fn verdict(exited: &Exited) -> Result<Result<(), Refusal>, String> {
    let stdout = exited.stdout.trim_ascii();
    let overridden: Override = if stdout.starts_with(b"{") {
        serde_json::from_slice(stdout).map_err(|error| format!("wrote malformed JSON: {error}"))?
    } else {
        Override::default()
    };
    let first_line = || exited.stderr.lines().map(str::trim).find(|line| !line.is_empty());
    let detail = || {
        let text = overridden
            .detail
            .as_deref()
            .or_else(first_line)
            .unwrap_or("the server does not allow this upload");
        text.chars().filter(|c| !c.is_control()).take(DETAIL_CHARS_MAX).collect::<String>()
    };
    match (overridden.status, exited.status == 0) {
        (None | Some(200..=299), true) => Ok(Ok(())),
        (None, false) => Ok(Err(Reason::Forbidden(detail()).into())),
        (Some(status @ 400..=599), _) => {
            let status = status.try_into().map_err(|_| format!("answered status {status}"))?;
            Ok(Err(Reason::Rejected { status, detail: detail() }.into()))
        }
        (Some(status), _) => Err(format!("answered status {status}, which does not refuse")),
    }
}

fn question(upload: &Upload) -> Value {
    json!({
        "event": "pre-create",
        "upload": {
            "id": upload.id.to_string(),
            "principal": upload.owner.as_ref().map(hoist_proto::types::Principal::name),
            "method": upload.origin.method.as_str(),
            "target": upload.origin.target,
            "length": upload.length.map(hoist_proto::types::Length::get),
            "fields": fields(&upload.origin.fields),
        },
    })
}

/// Returns the fields as strings in JSON. Octets that are not UTF-8 become replacement characters.
fn fields(fields: &HeaderMap) -> Value {
    let known = fields.keys().filter(|name| !SECRET_FIELDS.contains(&name.as_str()));
    known
        .map(|name| {
            let lines =
                fields.get_all(name).iter().map(|value| String::from_utf8_lossy(value.as_bytes()).into());
            (name.as_str().to_owned(), Value::Array(lines.collect()))
        })
        .collect::<serde_json::Map<_, _>>()
        .into()
}

#[cfg(test)]
mod tests;
