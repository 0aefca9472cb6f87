//! Programs that accept, refuse, and misbehave.

use hoist_proto::types::{Length, Principal, Timestamp, UploadId};
use hoist_proto::upload::Origin;

use super::*;

const PATIENCE: Duration = Duration::from_secs(30);

fn upload() -> Upload {
    let mut fields = HeaderMap::new();
    fields.append("content-type", "image/png".parse().expect("a value"));
    fields.append("x-twice", "a\"b".parse().expect("a value"));
    fields.append("x-twice", http::HeaderValue::from_bytes(b"\xff").expect("a value"));
    fields.append("authorization", "Bearer s3cret".parse().expect("a value"));
    fields.append("upload-token", "s3cret".parse().expect("a value"));
    Upload {
        owner: Some(Principal::new("alice")),
        origin: Origin { method: http::Method::POST, target: "/uploads?x=1".into(), fields },
        created: Timestamp::from_millis(0),
        touched: Timestamp::from_millis(0),
        lifetime: None,
        length: Some(Length::new(200)),
        ..hoist_proto::testing::upload(UploadId::from_bits([7; 16]))
    }
}

fn shell(script: &str, timeout: Duration) -> Command {
    Command::new("/bin/sh", ["-c".to_owned(), script.to_owned()], timeout)
}

async fn asked(command: &Command) -> Result<(), Refusal> {
    let call = Call {
        point: Point::PreCreate,
        upload: upload(),
        id: String::new(),
        offset: 0,
        files: None,
        endpoint: "/uploads".into(),
        request: crate::request_facts::RequestFacts::default(),
        stop: None,
        json: std::sync::OnceLock::new(),
    };
    match command.call(&call).await {
        Ok(answer) => answer.refusal.map_or(Ok(()), Err),
        Err(_) => Err(command.refusal()),
    }
}

async fn ask(script: &str) -> Result<(), Refusal> {
    asked(&shell(script, PATIENCE)).await
}

fn rejected(status: u16, detail: &str) -> Refusal {
    Reason::Rejected { status: status.try_into().expect("a status"), detail: detail.into() }.into()
}

// proves: TOK-SEC-02
#[tokio::test]
async fn the_exit_status_and_the_output_decide() {
    let no_words = "the server does not allow this upload";
    let cases: [(&str, Result<(), Refusal>); 15] = [
        ("exit 0", Ok(())),
        ("cat > /dev/null; echo all well", Ok(())),
        ("echo '{}'", Ok(())),
        ("echo '{\"status\":200}'", Ok(())),
        ("exit 1", Err(Reason::Forbidden(no_words.into()).into())),
        (
            "echo 'not on Sundays' >&2; echo more >&2; exit 3",
            Err(Reason::Forbidden("not on Sundays".into()).into()),
        ),
        ("echo '{\"detail\":\"words\"}'; exit 3", Err(Reason::Forbidden("words".into()).into())),
        ("printf '\\n  a\\033[31mb\\n' >&2; exit 1", Err(Reason::Forbidden("a[31mb".into()).into())),
        ("echo '{\"status\":422,\"detail\":\"too blue\"}'; exit 1", Err(rejected(422, "too blue"))),
        ("echo talk >&2; echo '{\"status\":429}'", Err(rejected(429, "talk"))),
        ("echo '{\"status\":302}'", Err(Reason::Unavailable(RETRY_AFTER).into())),
        ("echo '{\"status\":200}'; exit 1", Err(Reason::Unavailable(RETRY_AFTER).into())),
        ("echo '{\"status\":'", Err(Reason::Unavailable(RETRY_AFTER).into())),
        ("echo '{\"status\":70000}'", Err(Reason::Unavailable(RETRY_AFTER).into())),
        ("kill -9 $$", Err(Reason::Unavailable(RETRY_AFTER).into())),
    ];
    for (script, expected) in cases {
        assert_eq!(ask(script).await, expected, "{script}");
    }
}

#[tokio::test]
async fn the_input_describes_the_upload_without_its_secrets() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("question");
    assert_eq!(ask(&format!("cat > {}", path.display())).await, Ok(()));
    let text = std::fs::read_to_string(path).expect("asked");
    assert!(!text.contains("s3cret"), "{text}");
    let question: Value = serde_json::from_str(&text).expect("JSON");
    let fields = json!({ "content-type": ["image/png"], "x-twice": ["a\"b", "\u{fffd}"] });
    let upload = json!({
        "id": UploadId::from_bits([7; 16]).to_string(), "principal": "alice", "method": "POST",
        "target": "/uploads?x=1", "length": 200, "fields": fields,
    });
    assert_eq!(question, json!({ "event": "pre-create", "upload": upload }));
}

#[tokio::test]
async fn the_time_and_the_output_of_a_program_are_bounded() {
    let talkative = "head -c 10000000 /dev/zero >&2; echo; exit 1";
    assert!(
        matches!(ask(talkative).await, Err(Refusal { reason: Reason::Forbidden(_), .. })),
        "talk is read to its end"
    );
    let unavailable = Err(Reason::Unavailable(RETRY_AFTER).into());
    assert_eq!(ask("head -c 10000000 /dev/zero").await, unavailable, "too long an answer");
    let missing = Command::new("/nonexistent/hook", [], PATIENCE);
    assert_eq!(asked(&missing).await, unavailable);
    // `exec`, so that the spawned process is the one that sleeps.
    let stuck = shell("exec sleep 1000", Duration::from_millis(100));
    assert_eq!(asked(&stuck).await, unavailable);
}

#[tokio::test]
async fn a_program_is_killed_when_its_request_is_dropped() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("pid");
    let hook =
        shell(&format!("echo $$ > {0}.new && mv {0}.new {0}; exec sleep 1000", path.display()), PATIENCE);
    let read_pid = async {
        loop {
            if let Ok(pid) = std::fs::read_to_string(&path) {
                break pid.trim().to_owned();
            }
            tokio::task::yield_now().await;
        }
    };
    let pid = tokio::select! {
        biased;
        verdict = asked(&hook) => panic!("answered {verdict:?}"),
        pid = read_pid => pid,
    };
    // Dropped above, so the runtime kills and reaps the process.
    let gone = async {
        while std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z ")) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, gone).await.expect("killed");
}
