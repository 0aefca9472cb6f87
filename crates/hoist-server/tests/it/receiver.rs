//! A receiver of events: an HTTP server that remembers what it got.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use http::{HeaderMap, StatusCode};
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::harness::SOON;

/// An event that was received, in the order of the requests.
#[derive(Clone, Debug)]
pub(crate) struct ReceivedEvent {
    pub(crate) id: String,
    pub(crate) fields: HeaderMap,
    pub(crate) content: Value,
    /// True if it was answered with success.
    pub(crate) is_taken: bool,
}

/// The answer to an event that was received so many times before.
pub(crate) type Answers = Arc<dyn Fn(usize) -> (Duration, StatusCode) + Send + Sync>;

#[derive(Clone)]
struct Site {
    received: Arc<Mutex<Vec<ReceivedEvent>>>,
    count: watch::Sender<usize>,
    answers: Answers,
}

pub(crate) struct Receiver {
    site: Site,
    pub(crate) address: SocketAddr,
    task: JoinHandle<()>,
}

impl Receiver {
    pub(crate) async fn new() -> Self {
        Self::answering(Arc::new(|_| (Duration::ZERO, StatusCode::NO_CONTENT))).await
    }

    pub(crate) async fn answering(answers: Answers) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        Self::at(listener, answers)
    }

    pub(crate) fn at(listener: TcpListener, answers: Answers) -> Self {
        let site = Site { received: Arc::default(), count: watch::channel(0).0, answers };
        let address = listener.local_addr().expect("is bound");
        let router = Router::new().fallback(receive).with_state(site.clone());
        let task = tokio::spawn(async move { axum::serve(listener, router).await.expect("serves") });
        Self { site, address, task }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}/in", self.address)
    }

    pub(crate) fn received(&self) -> Vec<ReceivedEvent> {
        self.site.received.lock().expect("no panic").clone()
    }

    /// Waits for a moment in which more may have been received.
    pub(crate) async fn next(&self) {
        let mut counted = self.site.count.subscribe();
        // What was just received may not be noted yet.
        let _ = tokio::time::timeout(Duration::from_millis(20), counted.changed()).await;
    }

    /// Waits until that many events were taken, and returns their ids in order.
    pub(crate) async fn taken(&self, count: usize) -> Vec<String> {
        let mut counted = self.site.count.subscribe();
        let enough = counted.wait_for(|taken| *taken >= count);
        if tokio::time::timeout(SOON, enough).await.is_err() {
            let received = self.received().into_iter().map(|event| (event.id, event.is_taken));
            panic!("only {:?}", received.collect::<Vec<_>>());
        }
        let taken = self.received().into_iter().filter(|event| event.is_taken);
        taken.map(|event| event.id).collect()
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn receive(State(site): State<Site>, fields: HeaderMap, content: Bytes) -> StatusCode {
    let id = fields["webhook-id"].to_str().expect("text").to_owned();
    let earlier = site.received.lock().expect("no panic").iter().filter(|event| event.id == id).count();
    let (wait, status) = (site.answers)(earlier);
    // time itself is tested: a slow receiver
    tokio::time::sleep(wait).await;
    let content = serde_json::from_slice(&content).expect("JSON");
    let is_taken = status.is_success();
    site.received.lock().expect("no panic").push(ReceivedEvent { id, fields, content, is_taken });
    site.count.send_modify(|count| *count += usize::from(is_taken));
    status
}
