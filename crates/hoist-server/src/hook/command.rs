//! A hook that is a program: the question on its standard input, the answer in its exit status.
//!
//! Owns the JSON between the two and the bounds on the program. What becomes of a refusal is proto's business.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use hoist_proto::refusal::Refusal;
use hoist_proto::upload::Upload;
use hoist_store::store::BoxFuture;
use http::HeaderMap;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process;
use tokio::sync::Semaphore;

use super::Hook;

/// Bytes a program may write to its standard output.
const ANSWER_BYTES_MAX: u64 = 64 << 10;
/// Bytes of its standard error that are looked at; the rest is read and thrown away, so that it does not get stuck.
const TALK_BYTES_MAX: u64 = 4 << 10;
/// Characters of what a peer is told.
const DETAIL_CHARS_MAX: usize = 500;
/// Programs that run at once; more wait for their turn, within the same time.
const RUNNING_MAX: usize = 32;
/// When a peer may try again after the program failed to answer.
const RETRY_AFTER: Duration = Duration::from_secs(5);

/// Fields that are secrets, or would be as good as one. The program has no use for them that is worth the risk.
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
/// `principal` and `length` are null where nobody said. Exit status 0 lets the upload be created. Any other refuses it with 403
/// and the first line of standard error as its reason. A JSON object on standard output, `{"status": 422, "detail":
/// "..."}`, overrides both, whatever the exit status. A program that cannot be run, is killed, takes too long, or writes
/// nonsense answers nothing: the peer gets 503 and the log the cause.
pub struct Command {
    program: PathBuf,
    arguments: Vec<String>,
    timeout: Duration,
    turns: Semaphore,
}

impl Command {
    /// The program, found as a shell would find it, and how long it may take. No shell is involved.
    pub fn new(
        program: impl Into<PathBuf>,
        arguments: impl IntoIterator<Item = String>,
        timeout: Duration,
    ) -> Self {
        Self {
            program: program.into(),
            arguments: arguments.into_iter().collect(),
            timeout,
            turns: Semaphore::new(RUNNING_MAX),
        }
    }

    async fn run(&self, question: &[u8]) -> Result<Ended, Broken> {
        let _turn = self.turns.acquire().await.map_err(|_| Broken("no turn".into()))?;
        let mut child = process::Command::new(&self.program)
            .args(&self.arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // A peer that goes away, or our own patience ending, ends the program too.
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| Broken(format!("cannot be run: {error}")))?;
        let (Some(mut stdin), Some(stdout), Some(stderr)) =
            (child.stdin.take(), child.stdout.take(), child.stderr.take())
        else {
            return Err(Broken("has no pipes".into()));
        };
        let ask = async move {
            // A program need not read the question to answer it.
            let _ = stdin.write_all(question).await;
        };
        let ((), answer, talk, status) =
            tokio::join!(ask, read(stdout, ANSWER_BYTES_MAX), read(stderr, TALK_BYTES_MAX), child.wait());
        let status = status.map_err(|error| Broken(format!("cannot be waited for: {error}")))?;
        let (answer, talk) = (answer?, talk?);
        if answer.is_cut {
            return Err(Broken(format!("wrote more than {ANSWER_BYTES_MAX} bytes")));
        }
        let code = status.code().ok_or_else(|| Broken(format!("ended by {status}")))?;
        Ok(Ended { is_success: code == 0, answer: answer.text, talk: talk.text })
    }
}

impl Hook for Command {
    //= TOK-SEC-02
    fn before_create<'a>(&'a self, upload: &'a Upload) -> BoxFuture<'a, Result<(), Refusal>> {
        Box::pin(async move {
            let question = question(upload).to_string();
            let ended = match tokio::time::timeout(self.timeout, self.run(question.as_bytes())).await {
                Ok(ended) => ended,
                Err(_) => Err(Broken(format!("took longer than {:?}", self.timeout))),
            };
            ended.and_then(|ended| ended.verdict()).unwrap_or_else(|Broken(why)| {
                tracing::error!(program = %self.program.display(), upload = %upload.id.short(), %why, "the hook failed");
                Err(Refusal::Unavailable(RETRY_AFTER))
            })
        })
    }
}

/// Why there is no answer: our operator's trouble, not the peer's.
#[derive(Debug)]
struct Broken(String);

/// A program that ran to its end.
struct Ended {
    is_success: bool,
    answer: String,
    talk: String,
}

#[derive(Default, Deserialize)]
struct Override {
    status: Option<u16>,
    detail: Option<String>,
}

impl Ended {
    fn verdict(&self) -> Result<Result<(), Refusal>, Broken> {
        let answer = self.answer.trim();
        let said: Override = if answer.starts_with('{') {
            serde_json::from_str(answer).map_err(|error| Broken(format!("answered broken JSON: {error}")))?
        } else {
            Override::default()
        };
        let first_line = || self.talk.lines().map(str::trim).find(|line| !line.is_empty());
        let detail = || {
            let words =
                said.detail.as_deref().or_else(first_line).unwrap_or("the server does not allow this upload");
            words.chars().filter(|c| !c.is_control()).take(DETAIL_CHARS_MAX).collect::<String>()
        };
        match (said.status, self.is_success) {
            (None | Some(200..=299), true) => Ok(Ok(())),
            (None, false) => Ok(Err(Refusal::Forbidden(detail()))),
            (Some(status @ 400..=599), _) => {
                let status = status.try_into().map_err(|_| Broken(format!("answered status {status}")))?;
                Ok(Err(Refusal::Rejected { status, detail: detail() }))
            }
            (Some(status), _) => Err(Broken(format!("answered status {status}, which does not refuse"))),
        }
    }
}

struct Text {
    text: String,
    is_cut: bool,
}

/// Reads to the end and keeps the beginning.
async fn read(mut from: impl AsyncRead + Unpin, bytes_max: u64) -> Result<Text, Broken> {
    let broken = |error| Broken(format!("cannot be listened to: {error}"));
    let mut bytes = Vec::new();
    (&mut from).take(bytes_max).read_to_end(&mut bytes).await.map_err(broken)?;
    let rest = tokio::io::copy(&mut from, &mut tokio::io::sink()).await.map_err(broken)?;
    Ok(Text { text: String::from_utf8_lossy(&bytes).into_owned(), is_cut: rest > 0 })
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

/// Untrusted, so: strings in JSON and nothing else. What is not UTF-8 shows as replacement characters.
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
