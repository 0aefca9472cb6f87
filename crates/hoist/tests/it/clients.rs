//! Third-party clients against the server, mostly through a faulty proxy. A script or program drives each client: it
//! takes a job and prints its result in a common form.

mod ietf;
pub(crate) mod installed;
mod javascript;
mod snippets;
mod tus1;
mod tus_uploader;
mod tuspy;
mod uppy;

use std::collections::HashMap;
use std::fs;
use std::process::Stdio;

use serde_json::Value;
use tokio::process::Command;

use crate::harness::{Server, ServerDir, TIMEOUT, TRANSPORTS, TestRequest, TestResponse, Transport};

const MIB: usize = 1 << 20;

/// The result of a job, as printed by the script.
#[derive(Debug)]
struct Done(Value);

impl Done {
    fn outcome(&self) -> &str {
        self.0["outcome"].as_str().expect("an outcome")
    }

    /// Requests with their responses, in the order in which they were started.
    fn requests(&self) -> &[Value] {
        self.0["requests"].as_array().expect("requests")
    }

    /// Returns the path of the upload.
    fn path(&self) -> String {
        path(self.0["url"].as_str().unwrap_or_else(|| panic!("no URL: {:#}", self.0)))
    }

    /// Returns the number of requests with a method.
    fn count(&self, method: &str) -> usize {
        self.requests().iter().filter(|request| request["method"] == method).count()
    }

    fn succeeded(self) -> Self {
        assert_eq!(self.outcome(), "success", "{:#}", self.0);
        self
    }

    /// Asserts that no response takes back an acknowledged offset, and that no request sends acknowledged bytes again.
    fn never_went_back(&self) {
        let mut acknowledged: HashMap<String, u64> = HashMap::new();
        for request in self.requests().iter().filter(|request| request["step"].is_null()) {
            let field = |which: &str, name: &str| {
                let fields = request[which].as_object().expect("fields").iter();
                let mut fields = fields.filter(|(other, _)| other.eq_ignore_ascii_case(name));
                fields.next().map(|(_, value)| value.as_str().expect("text"))
            };
            let own = request["url"].as_str().expect("a path").to_owned();
            let before = acknowledged.entry(field("got", "location").map_or(own, path)).or_default();
            let offset = |which| field(which, "upload-offset").map(|at| at.parse::<u64>().expect("a number"));
            for offset in [offset("sent"), offset("got")].into_iter().flatten() {
                assert!(offset >= *before, "back from {before} to {offset}: {request}\n{:#}", self.0);
            }
            *before = offset("got").unwrap_or(*before);
        }
    }
}

fn path(url: &str) -> String {
    url.parse::<http::Uri>().expect("a URL").path().to_owned()
}

/// The dialect in which the test queries uploads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Dialect {
    /// The newest version of the IETF draft.
    Draft,
    Tus,
}

/// The server and content of one test.
struct Bench {
    dialect: Dialect,
    home: ServerDir,
    server: Server,
    content: Vec<u8>,
    file: String,
}

impl Bench {
    fn new(dialect: Dialect, content: Vec<u8>, flags: &[&str]) -> Self {
        Self::at(ServerDir::new(), dialect, content, flags)
    }

    /// Returns a test bench in a directory that already has files.
    fn at(home: ServerDir, dialect: Dialect, content: Vec<u8>, flags: &[&str]) -> Self {
        let server = Server::start(&home, &[&["--durability", "os"], flags].concat());
        let file = home.text("content.bin");
        fs::write(&file, &content).expect("written");
        Self { dialect, home, server, content, file }
    }

    /// Runs the script of a client and parses its result.
    async fn drive(&self, mut driver: Command, job: &Value) -> Done {
        driver.arg(job.to_string());
        driver.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        let child = driver.spawn().expect("it runs");
        let output = tokio::time::timeout(TIMEOUT * 2, child.wait_with_output()).await;
        let output = output.unwrap_or_else(|_| panic!("it does not end: {job}")).expect("a child");
        let said = String::from_utf8_lossy(&output.stdout);
        let done = serde_json::from_str(&said);
        let done =
            done.unwrap_or_else(|_| panic!("{job}: {said} {}", String::from_utf8_lossy(&output.stderr)));
        Done(done)
    }

    fn request(&self, method: &'static str, path: &str) -> TestRequest {
        TestRequest::to(method, path).with(match self.dialect {
            Dialect::Draft => ("upload-draft-interop-version", "8"),
            Dialect::Tus => ("tus-resumable", "1.0.0"),
        })
    }

    async fn state(&self, path: &str) -> TestResponse {
        self.server.request(Transport::H1, self.request("HEAD", path)).await
    }

    /// Asserts that the client's upload is complete and has the content, and that any other complete upload has the
    /// content or a part of it.
    async fn holds(&self, done: &Done) {
        let state = self.state(&done.path()).await;
        let is_complete = match self.dialect {
            Dialect::Draft => state.is_complete(),
            Dialect::Tus => state.field("upload-length") == Some(&self.content.len().to_string()),
        };
        assert!(is_complete, "{state:?} after {:#}", done.0);
        assert_eq!(state.offset(), Some(self.content.len()));
        let path = done.path();
        let id = path.rsplit('/').next().expect("an id");
        let content = fs::read(self.home.data().join("done").join(id).join("content")).expect("content");
        assert!(content == self.content, "other bytes");
        for stored in self.home.done() {
            let is_part =
                stored.len() < content.len() && content.windows(stored.len()).any(|part| part == stored);
            assert!(stored == content || is_part, "other bytes");
        }
        done.never_went_back();
    }

    /// Removes the complete uploads, before the next upload of the same bench.
    async fn clear(&self, done: &Done) {
        for transport in TRANSPORTS {
            let status = self.server.request(transport, self.request("DELETE", &done.path())).await.status;
            assert!(matches!(status, 204 | 404 | 410), "{status}");
        }
    }

    /// Asserts that no upload is left.
    fn is_empty(&self) {
        assert_eq!(self.home.uploads("open") + self.home.uploads("done"), 0, "something is left");
    }
}

/// Returns a job with additional members.
fn with(job: &Value, more: Value) -> Value {
    let mut whole = job.clone();
    let own = whole.as_object_mut().expect("an object");
    let Value::Object(more) = more else { panic!("an object") };
    own.extend(more);
    whole
}
