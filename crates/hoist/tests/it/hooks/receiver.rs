//! A receiver of webhooks, written from the contract alone: a loop over connections that records each request.

use std::sync::{Arc, Mutex};

use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use crate::harness::{poll_until, within_timeout};

/// A request of the server to the receiver.
#[derive(Clone, Debug)]
pub(crate) struct Received {
    /// The head, in lower case.
    pub(crate) head: String,
    pub(crate) json: Value,
}

impl Received {
    pub(crate) fn hook(&self) -> &str {
        self.json["Type"].as_str().expect("a name")
    }

    pub(crate) fn upload(&self) -> &Value {
        &self.json["Event"]["Upload"]
    }

    pub(crate) fn request(&self) -> &Value {
        &self.json["Event"]["HTTPRequest"]
    }
}

/// The bytes that a receiver answers with.
#[derive(Clone, Debug)]
pub(crate) enum Reply {
    /// JSON, with the status 200 and its media type.
    Json(String),
    /// These bytes, and then the end of the connection.
    Raw(Vec<u8>),
    /// Nothing, and the connection stays open.
    Never,
}

impl Reply {
    pub(crate) fn agrees() -> Self {
        Self::Json("{}".to_owned())
    }

    pub(crate) fn json(text: &str) -> Self {
        Self::Json(text.to_owned())
    }

    pub(crate) fn raw(text: &str) -> Self {
        Self::Raw(text.replace('|', "\r\n").into_bytes())
    }
}

/// Returns the reply to a request, given the number of requests before it.
type Answers = dyn Fn(usize, &Received) -> Reply + Send + Sync;

/// A running receiver.
pub(crate) struct Receiver {
    pub(crate) url: String,
    received: Arc<Mutex<Vec<Received>>>,
    _tasks: JoinSet<()>,
}

impl Receiver {
    pub(crate) async fn start(answers: impl Fn(usize, &Received) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
        let url = format!("http://{}/hook", listener.local_addr().expect("bound"));
        let received: Arc<Mutex<Vec<Received>>> = Arc::default();
        let (answers, seen): (Arc<Answers>, _) = (Arc::new(answers), Arc::clone(&received));
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.expect("a connection");
                connections.spawn(serve(stream, Arc::clone(&answers), Arc::clone(&seen)));
            }
        });
        Self { url, received, _tasks: tasks }
    }

    /// Starts a receiver that agrees with everything.
    pub(crate) async fn agreeing() -> Self {
        Self::start(|_, _| Reply::agrees()).await
    }

    pub(crate) fn all(&self) -> Vec<Received> {
        self.received.lock().expect("not poisoned").clone()
    }

    /// Returns the names of the hooks so far.
    pub(crate) fn hooks(&self) -> Vec<String> {
        self.all().iter().map(|received| received.hook().to_owned()).collect()
    }

    /// Waits for the first request of a hook.
    pub(crate) async fn first(&self, hook: &str) -> Received {
        let find = || self.all().into_iter().find(|received| received.hook() == hook);
        poll_until(&format!("{hook}; received {:?}", self.hooks()), find).await
    }

    /// Waits until there are this many requests of a hook.
    pub(crate) async fn count(&self, hook: &str, count: usize) {
        let has = || (self.hooks().iter().filter(|name| *name == hook).count() >= count).then_some(());
        poll_until(&format!("{count} of {hook}"), has).await;
    }
}

async fn serve(mut stream: TcpStream, answers: Arc<Answers>, seen: Arc<Mutex<Vec<Received>>>) {
    while let Some(received) = read(&mut stream).await {
        let number = {
            let mut seen = seen.lock().expect("not poisoned");
            seen.push(received.clone());
            seen.len() - 1
        };
        let bytes = match answers(number, &received) {
            Reply::Json(json) => format!(
                "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{json}",
                json.len()
            )
            .into_bytes(),
            Reply::Raw(bytes) => {
                // The server may have closed its side.
                let _ = stream.write_all(&bytes).await;
                return;
            }
            Reply::Never => {
                // Ends when the server gives up.
                let _ = within_timeout("the server to give up", stream.read_u8()).await;
                return;
            }
        };
        if stream.write_all(&bytes).await.is_err() {
            return;
        }
    }
}

/// Reads one request. Returns `None` at the end of the connection.
async fn read(stream: &mut TcpStream) -> Option<Received> {
    let mut bytes = Vec::new();
    loop {
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&bytes[..end]).to_lowercase();
            let length =
                head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse::<usize>().ok());
            let content = &bytes[end + 4..];
            if content.len() >= length.unwrap_or(0) {
                return Some(Received { head, json: serde_json::from_slice(content).expect("JSON") });
            }
        }
        match stream.read_buf(&mut bytes).await {
            Ok(1..) => {}
            Ok(0) | Err(_) => return None,
        }
    }
}
