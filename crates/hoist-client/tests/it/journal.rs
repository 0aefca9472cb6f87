//! Resumption by a later process, with the journal.

use std::path::Path;

use hoist_client::{Client, Dialect, Error, Form, Handle, Interop, Journal, Put, Source, Start};

use crate::script::{Act, Server, builder, bytes, respond, run_both, write};

const CREATED: &str = "104 Upload Resumption Supported|Location: /uploads/7|Upload-Draft-Interop-Version: 9";
const DONE: &str = "200 OK|Upload-Complete: ?1";

struct Fixture {
    folder: tempfile::TempDir,
    server: Server,
}

impl Fixture {
    async fn new() -> Self {
        let (folder, server) = (tempfile::tempdir().expect("a folder"), Server::start().await);
        std::fs::write(folder.path().join("file"), bytes(1000)).expect("written");
        Self { folder, server }
    }

    fn file(&self) -> std::path::PathBuf {
        self.folder.path().join("file")
    }

    fn journal(&self) -> Journal {
        Journal::at(self.folder.path().join("journal"))
    }

    fn put(&self, client: &Client) -> Put {
        client.put(self.server.url.clone(), Source::file(self.file())).journal(self.journal())
    }

    /// Starts an upload and drops it once its URL is recorded.
    async fn interrupt(&self, client: &Client) {
        let broken = vec![Act::Head, write(CREATED), Act::Content(400), Act::Stall];
        let put = self.put(client);
        let mut progress = put.progress();
        let journal = self.journal();
        let dropped = async {
            tokio::select! {
                _ = put.send() => panic!("the server does not answer"),
                () = async {
                    while journal.entries().expect("read").is_empty() {
                        progress.changed().await.expect("the upload is running");
                    }
                } => {}
            }
        };
        run_both(dropped, self.server.play(vec![broken])).await;
    }
}

fn client() -> Client {
    builder().dialect(Dialect::Ietf(Interop::V9)).build().expect("a client")
}

#[tokio::test]
async fn a_later_run_resumes_the_upload() {
    let fixture = Fixture::new().await;
    fixture.interrupt(&client()).await;
    let entries = fixture.journal().entries().expect("read");
    assert_eq!((entries.len(), entries[0].length, &entries[0].target), (1, 1000, &fixture.server.url));
    let url = format!("{}/7", fixture.server.url).parse().expect("a URL");
    let target = fixture.server.url.clone();
    assert_eq!(entries[0].handle, Handle::Url { target, url, dialect: Dialect::Ietf(Interop::V9) });

    let scripts = vec![respond("204 No Content|Upload-Offset: 400|Upload-Complete: ?0"), respond(DONE)];
    let put = fixture.put(&client());
    let (outcome, seen) = run_both(put.send(), fixture.server.play(scripts)).await;
    let outcome = outcome.expect("an upload");
    assert_eq!((outcome.start, outcome.resumed_bytes), (Start::Resumed, 400));
    assert_eq!(seen[1].content, bytes(1000)[400..]);
    assert_eq!(fixture.journal().entries().expect("read"), [], "the entry of a complete upload is removed");
}

#[tokio::test]
async fn a_changed_file_or_a_lost_upload_starts_a_new_upload() {
    let fixture = Fixture::new().await;
    fixture.interrupt(&client()).await;
    std::fs::write(fixture.file(), bytes(900)).expect("written");
    let put = fixture.put(&client());
    let scripts = vec![respond("204 No Content"), respond(DONE)];
    let (outcome, seen) = run_both(put.send(), fixture.server.play(scripts)).await;
    assert_eq!(outcome.expect("an upload").start, Start::Changed);
    assert_eq!(seen[0].request(), "DELETE /uploads/7", "the upload of the earlier file is cancelled");
    assert_eq!((seen[1].request(), seen[1].content.len()), ("POST /uploads", 900));

    fixture.interrupt(&client()).await;
    let put = fixture.put(&client());
    let scripts = vec![respond("404 Not Found"), respond(DONE)];
    let (outcome, seen) = run_both(put.send(), fixture.server.play(scripts)).await;
    assert_eq!(outcome.expect("an upload").start, Start::Forgotten);
    assert_eq!((seen[0].request(), seen[1].request()), ("HEAD /uploads/7", "POST /uploads"));
    assert_eq!(fixture.journal().entries().expect("read"), []);
}

#[tokio::test]
async fn a_token_is_recorded_before_it_is_used() {
    let fixture = Fixture::new().await;
    let client = builder().dialect(Dialect::Token(Form::Seed)).build().expect("a client");
    let put = fixture.put(&client);
    let (refused, seen) = run_both(put.send(), fixture.server.play(vec![respond("401 Unauthorized")])).await;
    assert!(matches!(refused, Err(Error::Refused { .. })));
    let put = fixture.put(&client);
    let scripts = vec![respond("404 Not Found"), respond("204 No Content|Upload-Offset: 1000")];
    let (outcome, again) = run_both(put.send(), fixture.server.play(scripts)).await;
    outcome.expect("an upload");
    assert_eq!((again[0].request(), again[1].request()), ("HEAD /uploads", "POST /uploads"));
    let token = seen[0].field("upload-token");
    assert!(token.is_some() && again.iter().all(|request| request.field("upload-token") == token));
}

#[tokio::test]
async fn two_runs_cannot_send_the_same_upload() {
    let fixture = Fixture::new().await;
    let first = fixture.put(&client());
    let mut progress = first.progress();
    let both = async {
        tokio::select! {
            _ = first.send() => panic!("the server does not answer"),
            second = async {
                progress.wait_for(|progress| progress.sent > 0).await.expect("the upload is running");
                fixture.put(&client()).send().await
            } => second,
        }
    };
    let script = vec![vec![Act::Head, Act::Content(1000), Act::Stall]];
    let (second, _) = run_both(both, fixture.server.play(script)).await;
    assert!(matches!(&second, Err(Error::Busy { path }) if path.ends_with(Path::new("file"))), "{second:?}");
}
