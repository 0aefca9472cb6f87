//! The axum example over real sockets: uploads resume beside the application's own routes, and a stop drains them.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use hoist_server::Running;
use http::HeaderMap;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::harness::SOON;

#[path = "../../examples/axum.rs"]
#[expect(dead_code, unreachable_pub, reason = "it is a program too")]
mod axum_example;

const CONTENT: &str = "one\ntwo\nthree\n";
const SENT_FIRST: usize = 6;

/// A response, read to the end of its connection.
struct Received {
    status: u16,
    fields: HeaderMap,
    content: String,
}

impl Received {
    fn field(&self, name: &str) -> Option<&str> {
        self.fields.get(name).map(|value| value.to_str().expect("visible ASCII"))
    }
}

/// The header fields that a dialect sends with each request of an upload.
struct Fields {
    create: &'static str,
    retrieve: &'static str,
    append: &'static str,
    /// Sent with the append that completes the upload.
    complete: &'static str,
    /// True if requests name the upload by a token instead of by its URL.
    by_token: bool,
    /// True if the last response has the content of the target's response.
    has_answer: bool,
}

const DIALECTS: [Fields; 3] = [
    Fields {
        create: "Upload-Token: an-example\r\nUpload-Length: 14\r\nUpload-Complete: ?0\r\n",
        retrieve: "Upload-Token: an-example\r\n",
        append: "Upload-Token: an-example\r\n",
        complete: "",
        by_token: true,
        has_answer: true,
    },
    Fields {
        create: "Upload-Draft-Interop-Version: 8\r\nUpload-Complete: ?0\r\nUpload-Length: 14\r\n",
        retrieve: "Upload-Draft-Interop-Version: 8\r\n",
        append: "Upload-Draft-Interop-Version: 8\r\nContent-Type: application/partial-upload\r\nUpload-Complete: ?1\r\n",
        complete: "",
        by_token: false,
        has_answer: true,
    },
    Fields {
        create: "Tus-Resumable: 1.0.0\r\nUpload-Length: 14\r\n",
        retrieve: "Tus-Resumable: 1.0.0\r\n",
        append: "Tus-Resumable: 1.0.0\r\nContent-Type: application/offset+octet-stream\r\n",
        complete: "",
        by_token: false,
        has_answer: false,
    },
];

/// The servers that the application runs under.
#[derive(Clone, Copy, Debug)]
enum Under {
    Axum,
    Hoist,
}

/// The application, served until `stop` is used or dropped.
struct Served {
    addr: SocketAddr,
    stop: oneshot::Sender<()>,
    task: JoinHandle<std::io::Result<()>>,
}

async fn serve(directory: &Path, under: Under) -> Served {
    let (app, running) = axum_example::app(directory).await.expect("a directory that can be used");
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let addr = listener.local_addr().expect("bound");
    let (stop, stopped) = oneshot::channel();
    let task = match under {
        Under::Axum => {
            let end = end(running, stopped);
            tokio::spawn(async move { axum::serve(listener, app).with_graceful_shutdown(end).await })
        }
        Under::Hoist => tokio::spawn(async move {
            let end = end(running, stopped);
            tokio::select! {
                () = end => Ok(()),
                ended = hoist_http::serve(listener, app) => ended,
            }
        }),
    };
    Served { addr, stop, task }
}

async fn end(running: Running, stopped: oneshot::Receiver<()>) {
    let _ = stopped.await;
    running.stop().await;
}

impl Served {
    async fn stop(self) {
        drop(self.stop);
        tokio::time::timeout(SOON, self.task)
            .await
            .expect("a stop in time")
            .expect("no panic")
            .expect("served");
    }

    /// Sends a head and content, and reads until the server closes the connection.
    async fn exchange(&self, line: &str, fields: &str, content: &str) -> Received {
        let mut connection = self.send(line, fields, content.len(), content).await;
        let mut response = Vec::new();
        let read = connection.read_to_end(&mut response);
        tokio::time::timeout(SOON, read).await.expect("a response in time").expect("readable");
        let response = String::from_utf8(response).expect("text");
        let mut messages = response.split_once("\r\n\r\n");
        while let Some((_, rest)) = messages.filter(|(head, _)| head.starts_with("HTTP/1.1 1")) {
            // Interim responses, under a server that sends them.
            messages = rest.split_once("\r\n\r\n");
        }
        let (head, content) = messages.expect("a head");
        let (status_line, fields) = head.split_once("\r\n").expect("a status line");
        let fields = fields.lines().filter_map(|line| line.split_once(": "));
        let fields =
            fields.map(|(name, value)| (name.parse().expect("a name"), value.parse().expect("a value")));
        let status = status_line["HTTP/1.1 ".len()..][..3].parse().expect("a status");
        Received { status, fields: fields.collect(), content: content.to_owned() }
    }

    /// Sends a head and the beginning of its content.
    async fn send(&self, line: &str, fields: &str, length: usize, content: &str) -> TcpStream {
        let mut connection = TcpStream::connect(self.addr).await.expect("a listening server");
        let head = format!(
            "{line} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\nContent-Length: {length}\r\n{fields}\r\n{content}",
            self.addr
        );
        connection.write_all(head.as_bytes()).await.expect("writable");
        connection
    }

    /// Creates an upload, and returns the path of its later requests.
    async fn create(&self, dialect: &Fields) -> String {
        let created = self.exchange("POST /uploads", dialect.create, "").await;
        assert!((200..300).contains(&created.status), "{}: {}", dialect.create, created.content);
        if dialect.by_token {
            return "/uploads".to_owned();
        }
        let location = created.field("location").expect("a location");
        let origin = format!("http://{}", self.addr);
        location.strip_prefix(&origin).expect("on this server").to_owned()
    }

    /// Begins to append, and closes the connection in the middle of the content.
    async fn append_and_cut(&self, dialect: &Fields, path: &str) {
        let fields = format!("{}{}Upload-Offset: 0\r\n", dialect.append, dialect.complete);
        let first = &CONTENT[..SENT_FIRST];
        drop(self.send(&format!("PATCH {path}"), &fields, CONTENT.len(), first).await);
    }

    /// Asks for the offset until it is the one after the bytes that were sent.
    async fn resume(&self, dialect: &Fields, path: &str) {
        let asking = async {
            loop {
                let state = self.exchange(&format!("HEAD {path}"), dialect.retrieve, "").await;
                if state.field("upload-offset") == Some("6") {
                    return;
                }
            }
        };
        tokio::time::timeout(SOON, asking).await.expect("the bytes that were sent count");
        let fields = format!("{}{}Upload-Offset: 6\r\n", dialect.append, dialect.complete);
        let rest = &CONTENT[SENT_FIRST..];
        let completed = self.exchange(&format!("PATCH {path}"), &fields, rest).await;
        assert!(
            (200..300).contains(&completed.status),
            "{fields}: {} {}",
            completed.status,
            completed.content
        );
        if dialect.has_answer {
            assert_eq!((completed.status, completed.content.as_str()), (201, "3 lines\n"));
        }
    }

    /// Checks that the application's own routes and its page for unknown paths answer.
    async fn answers_its_own_routes(&self) {
        for (path, status, content) in [
            ("/", 200, "send files to /uploads\n"),
            ("/readyz", 200, "ready\n"),
            ("/no/such/page", 404, "no such page\n"),
            ("/uploadsandmore", 404, "no such page\n"),
        ] {
            let page = self.exchange(&format!("GET {path}"), "", "").await;
            assert_eq!((page.status, page.content.as_str()), (status, content), "{path}");
        }
        let unknown = self.exchange("HEAD /uploads/00000000000000000000000000000000", "", "").await;
        assert_eq!(unknown.status, 404);
    }
}

#[tokio::test]
async fn uploads_resume_beside_the_routes_of_an_axum_application() {
    for under in [Under::Axum, Under::Hoist] {
        let directory = tempfile::tempdir().expect("a directory");
        let served = serve(directory.path(), under).await;
        for dialect in &DIALECTS {
            let path = served.create(dialect).await;
            served.append_and_cut(dialect, &path).await;
            served.answers_its_own_routes().await;
            served.resume(dialect, &path).await;
        }
        served.stop().await;
    }
}

#[tokio::test]
async fn a_stop_keeps_the_bytes_of_running_transfers() {
    let directory = tempfile::tempdir().expect("a directory");
    let served = serve(directory.path(), Under::Axum).await;
    let mut uploads = Vec::new();
    for dialect in &DIALECTS {
        let path = served.create(dialect).await;
        let fields = format!("{}{}Upload-Offset: 0\r\n", dialect.append, dialect.complete);
        let first = &CONTENT[..SENT_FIRST];
        let connection = served.send(&format!("PATCH {path}"), &fields, CONTENT.len(), first).await;
        uploads.push((dialect, path, connection));
    }
    let stored = async {
        while contents_of(directory.path(), SENT_FIRST as u64) < DIALECTS.len() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(SOON, stored).await.expect("the bytes reach the store");
    // The connections stay open: the server does not wait for them.
    served.stop().await;

    let served = serve(directory.path(), Under::Axum).await;
    for (dialect, path, _connection) in &uploads {
        served.resume(dialect, path).await;
    }
    served.stop().await;
}

/// Returns how many uploads in a store's directory have `bytes` bytes of content.
fn contents_of(directory: &Path, bytes: u64) -> usize {
    let uploads = std::fs::read_dir(directory.join("open")).expect("readable");
    let contents = uploads.map(|upload| upload.expect("readable").path().join("content").metadata());
    contents.filter(|content| content.as_ref().is_ok_and(|content| content.len() == bytes)).count()
}

#[tokio::test]
async fn a_client_that_stalls_below_a_router_may_resume() {
    let directory = tempfile::tempdir().expect("a directory");
    let (app, running) = axum_example::app(directory.path()).await.expect("a directory that can be used");
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let addr = listener.local_addr().expect("bound");
    let limits = hoist_http::Limits { body_idle: Duration::from_millis(50), ..Default::default() };
    let http = hoist_http::Server::new().limits(limits).serve(listener, app, CancellationToken::new());
    let served = Served { addr, stop: oneshot::channel().0, task: tokio::spawn(http) };
    let dialect = &DIALECTS[0];
    let path = served.create(dialect).await;
    let line = format!("PATCH {path}");
    let fields = format!("{}Upload-Offset: 0\r\n", dialect.append);
    let mut connection = served.send(&line, &fields, CONTENT.len(), &CONTENT[..SENT_FIRST]).await;
    let mut response = String::new();
    let read = connection.read_to_string(&mut response);
    tokio::time::timeout(SOON, read).await.expect("a response in time").expect("readable");
    assert!(response.starts_with("HTTP/1.1 408 "), "{response}");
    served.resume(dialect, &path).await;
    running.stop().await;
    served.task.abort();
}
