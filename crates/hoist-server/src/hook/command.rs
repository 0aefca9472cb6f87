//! A hook that runs a program, with the upload on its standard input and the decision in its exit status.
//!
//! Owns the JSON format and the bounds on the program.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use hoist_proto::refusal::{Reason, Refusal};
use hoist_proto::upload::Upload;
use hoist_store::store::BoxFuture;
use http::HeaderMap;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process;
use tokio::sync::Semaphore;

use super::Hook;

const STDOUT_BYTES_MAX: u64 = 64 << 10;
/// The bytes of its standard error that are kept. The rest is discarded, so that the program is not blocked.
const STDERR_BYTES_MAX: u64 = 4 << 10;
const DETAIL_CHARS_MAX: usize = 500;
const RUNNING_MAX: usize = 32;
/// The time after which a peer may retry if the program failed.
const RETRY_AFTER: Duration = Duration::from_secs(5);

/// Variables by which a service manager talks to the server and not to the programs it runs.
const SERVICE_MANAGER_VARIABLES: [&str; 6] =
    ["NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "LISTEN_PID"];

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
    arguments: Vec<String>,
    timeout: Duration,
    permits: Semaphore,
}

impl Command {
    /// Creates a hook that runs `program`, looked up in `PATH` and without a shell, for at most `timeout`.
    pub fn new(
        program: impl Into<PathBuf>,
        arguments: impl IntoIterator<Item = String>,
        timeout: Duration,
    ) -> Self {
        Self {
            program: program.into(),
            arguments: arguments.into_iter().collect(),
            timeout,
            permits: Semaphore::new(RUNNING_MAX),
        }
    }

    async fn run(&self, question: &[u8]) -> Result<Exited, String> {
        let _permit = self.permits.acquire().await.map_err(|_| "cannot be scheduled")?;
        let mut command = process::Command::new(&self.program);
        for name in SERVICE_MANAGER_VARIABLES {
            command.env_remove(name);
        }
        let mut child = command
            .args(&self.arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // A disconnected peer or the timeout ends the program too.
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| format!("cannot be run: {error}"))?;
        let (Some(mut stdin), Some(stdout), Some(stderr)) =
            (child.stdin.take(), child.stdout.take(), child.stderr.take())
        else {
            return Err("has no pipes".into());
        };
        let ask = async move {
            // The program may exit without reading its input.
            let _ = stdin.write_all(question).await;
        };
        let ((), stdout, stderr, status) =
            tokio::join!(ask, read(stdout, STDOUT_BYTES_MAX), read(stderr, STDERR_BYTES_MAX), child.wait());
        let status = status.map_err(|error| format!("cannot be waited for: {error}"))?;
        let ((stdout, is_cut), (stderr, _)) = (stdout?, stderr?);
        if is_cut {
            return Err(format!("wrote more than {STDOUT_BYTES_MAX} bytes to standard output"));
        }
        let code = status.code().ok_or_else(|| format!("ended by {status}"))?;
        Ok(Exited { is_success: code == 0, stdout, stderr })
    }
}

impl Hook for Command {
    //= TOK-SEC-02
    fn before_create<'a>(&'a self, upload: &'a Upload) -> BoxFuture<'a, Result<(), Refusal>> {
        Box::pin(async move {
            let question = question(upload).to_string();
            let ended = tokio::time::timeout(self.timeout, self.run(question.as_bytes())).await;
            let ended = ended.unwrap_or_else(|_| Err(format!("took longer than {:?}", self.timeout)));
            ended.and_then(|ended| ended.verdict()).unwrap_or_else(|why| {
                tracing::error!(program = %self.program.display(), upload = %upload.id.short(), %why, "the hook failed");
                Err(Reason::Unavailable(RETRY_AFTER).into())
            })
        })
    }
}

struct Exited {
    is_success: bool,
    stdout: String,
    stderr: String,
}

#[derive(Default, Deserialize)]
struct Override {
    status: Option<u16>,
    detail: Option<String>,
}

impl Exited {
    fn verdict(&self) -> Result<Result<(), Refusal>, String> {
        let stdout = self.stdout.trim();
        let overridden: Override = if stdout.starts_with('{') {
            serde_json::from_str(stdout).map_err(|error| format!("wrote malformed JSON: {error}"))?
        } else {
            Override::default()
        };
        let first_line = || self.stderr.lines().map(str::trim).find(|line| !line.is_empty());
        let detail = || {
            let text = overridden
                .detail
                .as_deref()
                .or_else(first_line)
                .unwrap_or("the server does not allow this upload");
            text.chars().filter(|c| !c.is_control()).take(DETAIL_CHARS_MAX).collect::<String>()
        };
        match (overridden.status, self.is_success) {
            (None | Some(200..=299), true) => Ok(Ok(())),
            (None, false) => Ok(Err(Reason::Forbidden(detail()).into())),
            (Some(status @ 400..=599), _) => {
                let status = status.try_into().map_err(|_| format!("answered status {status}"))?;
                Ok(Err(Reason::Rejected { status, detail: detail() }.into()))
            }
            (Some(status), _) => Err(format!("answered status {status}, which does not refuse")),
        }
    }
}

/// Reads to the end, and returns the beginning as text and whether there was more.
async fn read(mut from: impl AsyncRead + Unpin, bytes_max: u64) -> Result<(String, bool), String> {
    let broken = |error| format!("cannot be read from: {error}");
    let mut bytes = Vec::new();
    (&mut from).take(bytes_max).read_to_end(&mut bytes).await.map_err(broken)?;
    let rest = tokio::io::copy(&mut from, &mut tokio::io::sink()).await.map_err(broken)?;
    Ok((String::from_utf8_lossy(&bytes).into_owned(), rest > 0))
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
