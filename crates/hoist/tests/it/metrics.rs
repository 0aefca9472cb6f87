//! `/metrics`: the sums of a scripted run equal what the script did, exactly.

use std::collections::BTreeMap;

use crate::harness::{
    AdminAt, Cut, Exchange, Scrape, Server, ServerDir, TRANSPORTS, TestRequest, TestResponse, Transport,
    bytes, poll_until_async, within_timeout,
};

const LENGTH: usize = 200_000;

/// The ways of an upload through the script. Each has URLs and fields of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Speaks {
    Token,
    Ietf,
    Tus,
    Nothing,
}

impl Speaks {
    fn label(self) -> &'static str {
        match self {
            Self::Token => "upload-token",
            Self::Ietf => "resumable-upload",
            Self::Tus => "tus",
            Self::Nothing => "conventional",
        }
    }
}

/// The counters that a scrape should show.
#[derive(Default)]
struct Tally(BTreeMap<String, f64>);

impl Tally {
    fn add(&mut self, series: impl Into<String>, count: usize) {
        #[expect(clippy::cast_precision_loss, reason = "samples are floating point, and counts are small")]
        let count = count as f64;
        *self.0.entry(series.into()).or_default() += count;
    }

    /// Compares every counter of hoist's, so that the ones that the script did not move are zero.
    fn assert_equal(&self, scrape: &Scrape) {
        let is_counted = |series: &&String| {
            let name = series.split('{').next().unwrap_or_default();
            name.ends_with("_total") || name.ends_with("_count") || name == "hoist_upload_bytes_sum"
        };
        let seen: BTreeMap<_, _> = scrape.0.iter().filter(|(series, _)| is_counted(series)).collect();
        for (series, value) in &seen {
            let expected = self.0.get(*series).copied().unwrap_or_default();
            assert!((**value - expected).abs() < 0.5, "{series}: {value}, and the script did {expected}");
        }
        let missing: Vec<_> = self.0.keys().filter(|series| !seen.contains_key(series)).collect();
        assert!(missing.is_empty(), "no samples: {missing:?}");
    }
}

struct Script {
    server: Server,
    admin: AdminAt,
    content: Vec<u8>,
    tally: Tally,
    uploads: usize,
}

impl Script {
    fn start(home: &ServerDir, flags: &[&str]) -> Self {
        let admin = AdminAt::socket(home);
        let place = admin.flag();
        let server = Server::start(home, &[&["--admin", &place], flags].concat());
        Self { server, admin, content: bytes(7, LENGTH), tally: Tally::default(), uploads: 0 }
    }

    /// Sends a request, and counts what every request counts.
    async fn send(&mut self, transport: Transport, speaks: Speaks, request: TestRequest) -> TestResponse {
        let got = self.server.request(transport, request).await;
        self.note_request(speaks, &got);
        got
    }

    fn note_request(&mut self, speaks: Speaks, got: &TestResponse) {
        if speaks == Speaks::Ietf {
            self.tally.add("hoist_interop_requests_total{version=\"8\"}", 1);
        }
        let announced = got.interims.iter().filter(|(status, _)| *status == 104).count();
        self.tally.add("hoist_interim_sent_total", announced);
    }

    /// Counts a transfer of `stored` bytes that ended in this way.
    fn note_transfer(&mut self, stored: usize, ending: &str) {
        self.tally.add(format!("hoist_transfers_ended_total{{ending=\"{ending}\"}}"), 1);
        self.tally.add("hoist_bytes_stored_total", stored);
        self.tally.add("hoist_sync_seconds_count", 1);
    }

    fn note_created(&mut self, speaks: Speaks) {
        self.tally.add(format!("hoist_uploads_created_total{{dialect=\"{}\"}}", speaks.label()), 1);
    }

    fn note_ended(&mut self, speaks: Speaks, outcome: &str, length: usize) {
        let dialect = speaks.label();
        self.tally
            .add(format!("hoist_uploads_ended_total{{dialect=\"{dialect}\",outcome=\"{outcome}\"}}"), 1);
        if matches!(outcome, "complete" | "delivered") {
            self.tally.add("hoist_upload_seconds_count", 1);
            self.tally.add("hoist_upload_bytes_count", 1);
            self.tally.add("hoist_upload_bytes_sum", length);
        }
    }

    /// Returns the creation of an upload of `length` bytes, and its token if it has one.
    fn creation(&mut self, speaks: Speaks, length: usize) -> (TestRequest, String) {
        self.uploads += 1;
        let token = format!("upload-{}", self.uploads);
        let request = match speaks {
            Speaks::Token => TestRequest::new("POST", &token).field("upload-length", length),
            Speaks::Ietf => ietf(TestRequest::to("POST", "/uploads")).field("upload-length", length),
            Speaks::Tus => tus(TestRequest::to("POST", "/uploads")).field("upload-length", length),
            Speaks::Nothing => TestRequest::to("PUT", &format!("/uploads/{token}")),
        };
        (request, token)
    }

    /// Brings content with a creation whose length is that of the content.
    async fn whole(&mut self, transport: Transport, speaks: Speaks, length: usize) -> Named {
        let (request, token) = self.creation(speaks, length);
        let mut request = complete(speaks, request.sized(&self.content[..length]), true);
        if speaks == Speaks::Tus {
            request = request.field("content-type", "application/offset+octet-stream");
        }
        let got = self.send(transport, speaks, request).await;
        assert!(got.status < 300, "{speaks:?}: {got:?}");
        self.note_created(speaks);
        self.note_transfer(length, "complete");
        self.note_ended(speaks, "complete", length);
        Named::of(speaks, &token, &got)
    }

    /// Creates an upload of `length` bytes without content, or with none of a whole.
    async fn create(&mut self, transport: Transport, speaks: Speaks, length: usize) -> Named {
        let (request, token) = self.creation(speaks, length);
        let got = self.send(transport, speaks, complete(speaks, request, false)).await;
        assert!(got.status < 300, "{speaks:?}: {got:?}");
        self.note_created(speaks);
        self.tally.add("hoist_sync_seconds_count", 1);
        Named::of(speaks, &token, &got)
    }

    /// Begins an append of all content from `at` on, that stalls at `until`.
    async fn stall(
        &mut self,
        transport: Transport,
        named: &Named,
        at: usize,
        until: usize,
        home: &ServerDir,
    ) -> Exchange {
        let request = named.append(at).sized(&self.content[at..until]);
        let request = complete(named.speaks, request, true).stalls(Some(LENGTH - at));
        let exchange = Exchange::begin(&self.server, transport, request, u64::MAX).await.expect("connected");
        home.holds(until).await;
        if named.speaks == Speaks::Ietf {
            self.tally.add("hoist_interop_requests_total{version=\"8\"}", 1);
        }
        exchange
    }

    /// Waits until no transfer is active.
    async fn is_idle(&self) {
        poll_until_async("the end of all transfers", async || {
            let scrape = self.admin.scrape().await;
            let active = |name| scrape.of(&format!("hoist_transfers_active{{transport=\"{name}\"}}"));
            (active("http/1.1") + active("h2") < 0.5).then_some(())
        })
        .await;
    }

    /// Takes an upload through a cut, a conflict, a take-over, two resumptions, its completion and a replay.
    async fn interrupted(&mut self, transport: Transport, speaks: Speaks, home: &ServerDir) {
        let upload = self.create(transport, speaks, LENGTH).await;
        let cut = self.stall(transport, &upload, 0, 100_000, home).await;
        cut.cut(Cut::Rst).await;
        self.is_idle().await;
        self.note_transfer(100_000, "cut");

        let conflict = complete(speaks, upload.append(50_000).sized(&self.content[50_000..]), true);
        let got = self.send(transport, speaks, conflict).await;
        assert_eq!(got.status, 409, "{got:?}");
        self.tally.add("hoist_offset_conflicts_total", 1);

        let mut stalled = self.stall(transport, &upload, 100_000, 150_000, home).await;
        self.note_resumed(100_000);
        let got = self.send(transport, speaks, upload.query()).await;
        assert_eq!(got.offset(), Some(150_000), "{got:?}");
        self.note_transfer(50_000, "superseded");
        self.tally.add("hoist_takeover_seconds_count", 1);
        let ended = within_timeout("the end of a superseded transfer", stalled.answer()).await;
        assert!(ended.is_err(), "{ended:?}");

        let rest = complete(speaks, upload.append(150_000).sized(&self.content[150_000..]), true);
        let got = self.send(transport, speaks, rest).await;
        assert!(got.status < 300 && got.offset() == Some(LENGTH), "{got:?}");
        self.note_resumed(150_000);
        self.note_transfer(50_000, "complete");
        self.note_ended(speaks, "complete", LENGTH);

        let got = self.send(transport, speaks, complete(speaks, upload.append(LENGTH), true)).await;
        assert!(got.status < 300, "{got:?}");
        // The answers of tus are about offsets alone.
        if speaks != Speaks::Tus {
            self.tally.add("hoist_answers_replayed_total", 1);
        }
    }

    fn note_resumed(&mut self, at: usize) {
        self.tally.add("hoist_resumes_total", 1);
        self.tally.add("hoist_bytes_saved_total", at);
    }

    /// Cancels an upload.
    async fn cancelled(&mut self, transport: Transport, speaks: Speaks) {
        let upload = self.create(transport, speaks, 10).await;
        let got = self.send(transport, speaks, upload.cancellation()).await;
        assert_eq!(got.status, 204, "{got:?}");
        self.note_ended(speaks, "cancelled", 0);
    }
}

/// An upload of the script, by its token or its path.
struct Named {
    speaks: Speaks,
    token: String,
    path: String,
}

impl Named {
    fn of(speaks: Speaks, token: &str, created: &TestResponse) -> Self {
        let path = created.field("location").map_or_else(String::new, |location| {
            location[location.find("/uploads").expect("the endpoint")..].to_owned()
        });
        Self { speaks, token: token.to_owned(), path }
    }

    fn request(&self, method: &'static str) -> TestRequest {
        match self.speaks {
            Speaks::Token => TestRequest::new(method, &self.token),
            Speaks::Ietf => ietf(TestRequest::to(method, &self.path)),
            Speaks::Tus => tus(TestRequest::to(method, &self.path)),
            Speaks::Nothing => panic!("an ordinary upload has no further requests"),
        }
    }

    fn append(&self, at: usize) -> TestRequest {
        let request = self.request("PATCH").field("upload-offset", at);
        match self.speaks {
            Speaks::Ietf => request.field("content-type", "application/partial-upload"),
            Speaks::Tus => request.field("content-type", "application/offset+octet-stream"),
            Speaks::Token | Speaks::Nothing => request,
        }
    }

    fn query(&self) -> TestRequest {
        self.request("HEAD")
    }

    fn cancellation(&self) -> TestRequest {
        self.request("DELETE")
    }
}

fn ietf(request: TestRequest) -> TestRequest {
    request.field("upload-draft-interop-version", 8)
}

fn tus(request: TestRequest) -> TestRequest {
    request.field("tus-resumable", "1.0.0")
}

/// Says whether the request completes the upload, in the dialects that say so.
fn complete(speaks: Speaks, request: TestRequest, is_complete: bool) -> TestRequest {
    match speaks {
        Speaks::Ietf => request.field("upload-complete", if is_complete { "?1" } else { "?0" }),
        Speaks::Token if !is_complete => request.field("upload-complete", "?0"),
        Speaks::Token | Speaks::Tus | Speaks::Nothing => request,
    }
}

#[tokio::test]
async fn the_sums_of_a_scripted_run_equal_what_the_script_did() {
    let home = ServerDir::new();
    let mut script = Script::start(&home, &["--durability", "os"]);
    for transport in TRANSPORTS {
        for speaks in [Speaks::Token, Speaks::Ietf, Speaks::Tus, Speaks::Nothing] {
            script.whole(transport, speaks, 1000).await;
        }
        for speaks in [Speaks::Token, Speaks::Ietf, Speaks::Tus] {
            script.interrupted(transport, speaks, &home).await;
            script.cancelled(transport, speaks).await;
        }
        script.cut_for_good(transport, &home).await;
        script.with_a_wrong_checksum(transport).await;
        script.in_numbered_parts(transport).await;
        script.concatenated(transport).await;
    }
    let scrape = script.admin.scrape().await;
    script.tally.assert_equal(&scrape);
    // One of each transport waits for the right content.
    assert!((scrape.of("hoist_uploads_open") - 2.0).abs() < 0.5, "{scrape:?}");
    assert!(scrape.of("hoist_store_free_bytes") > 0.0, "{scrape:?}");
    script.server.stop().await;
}

#[tokio::test]
async fn expired_uploads_and_idle_transfers_are_counted() {
    let home = ServerDir::new();
    let flags = ["--idle-timeout", "1s", "--max-age", "1s", "--sweep-interval", "1s"];
    let mut script = Script::start(&home, &flags);
    for transport in TRANSPORTS {
        let upload = script.create(transport, Speaks::Token, LENGTH).await;
        let mut stalled = script.stall(transport, &upload, 0, 1000, &home).await;
        let got = within_timeout("the end of an idle transfer", stalled.answer()).await.expect("an answer");
        assert_eq!(got.status, 408, "{got:?}");
        script.note_transfer(1000, "idle");
        script.note_ended(Speaks::Token, "expired", 0);
        poll_until_async("the end of the upload", async || {
            (script.admin.scrape().await.of("hoist_uploads_open") < 0.5).then_some(())
        })
        .await;
    }
    script.tally.assert_equal(&script.admin.scrape().await);
    script.server.stop().await;
}

#[tokio::test]
async fn the_answers_of_a_target_are_counted() {
    let home = ServerDir::new();
    let mut script = Script::start(&home, &["--target", "files", "--files-dir", &home.text("files")]);
    for transport in TRANSPORTS {
        let (request, _) = script.creation(Speaks::Token, 1000);
        let got = script.send(transport, Speaks::Token, request.sized(&script.content[..1000])).await;
        assert!(got.is_complete(), "{got:?}");
        script.note_created(Speaks::Token);
        script.note_transfer(1000, "complete");
        script.note_ended(Speaks::Token, "delivered", 1000);
        script.tally.add("hoist_target_seconds_count{outcome=\"accepted\"}", 1);
    }
    script.tally.assert_equal(&script.admin.scrape().await);
    script.server.stop().await;
}

#[tokio::test]
async fn counts_survive_a_reload_which_is_counted_itself() {
    let home = ServerDir::new();
    let config = home.path("hoist.toml");
    std::fs::write(&config, "max-size = \"1MiB\"\n").expect("written");
    let mut script = Script::start(&home, &["--config", &home.text("hoist.toml")]);
    script.whole(Transport::H1, Speaks::Tus, 10).await;
    for (text, is_ok) in [("max-size = \"2MiB\"\n", 1.0), ("max-size = 0\n", 0.0), ("", 1.0)] {
        let before = script.server.log().len();
        std::fs::write(&config, text).expect("written");
        script.server.signal(rustix::process::Signal::HUP);
        poll_until_async("the reload", async || {
            script.server.log()[before..].contains("reload").then_some(())
        })
        .await;
        let ok = script.admin.scrape().await.of("hoist_config_reload_ok");
        assert!((ok - is_ok).abs() < 0.5, "{text}: {ok}");
        script.whole(Transport::H2, Speaks::Tus, 10).await;
    }
    script.tally.assert_equal(&script.admin.scrape().await);
    script.server.stop().await;
}

impl Script {
    /// Interrupts an ordinary upload, which no request can continue.
    async fn cut_for_good(&mut self, transport: Transport, home: &ServerDir) {
        let (request, _) = self.creation(Speaks::Nothing, LENGTH);
        let request = request.sized(&self.content[..70_000]).stalls(Some(LENGTH));
        let exchange = Exchange::begin(&self.server, transport, request, u64::MAX).await.expect("connected");
        home.holds(70_000).await;
        exchange.cut(Cut::Rst).await;
        let ended = "hoist_uploads_ended_total{dialect=\"conventional\",outcome=\"discarded\"}";
        self.note_created(Speaks::Nothing);
        self.note_transfer(70_000, "cut");
        self.note_ended(Speaks::Nothing, "discarded", 0);
        let expected = self.tally.0[ended];
        poll_until_async("the end of a cut upload", async || {
            (self.admin.scrape().await.of(ended) >= expected).then_some(())
        })
        .await;
    }

    /// Sends content that does not match its checksum. Leaves the upload open.
    async fn with_a_wrong_checksum(&mut self, transport: Transport) {
        let upload = self.create(transport, Speaks::Tus, 10).await;
        let wrong = "sha1 2jmj7l5rSw0yVb/vlWAYkK/YBwk=";
        let request = upload.append(0).field("upload-checksum", wrong).sized(b"0123456789");
        let got = self.send(transport, Speaks::Tus, request).await;
        assert_eq!(got.status, 460, "{got:?}");
        // Small content is compared before it is stored.
        self.note_transfer(0, "refused");
    }

    /// Sends an upload in numbered parts, which counts as one.
    async fn in_numbered_parts(&mut self, transport: Transport) {
        self.uploads += 1;
        let token = format!("upload-{}", self.uploads);
        for (index, at) in [("0", 0), ("1;last", 500)] {
            let request = TestRequest::new("POST", &token).field("upload-index", index);
            let got = self.send(transport, Speaks::Token, request.sized(&self.content[at..at + 500])).await;
            assert_eq!(got.status, 204, "{got:?}");
            self.note_transfer(500, "complete");
        }
        self.note_created(Speaks::Token);
        self.note_ended(Speaks::Token, "complete", 1000);
    }

    /// Concatenates two partial uploads of tus, each of which counts.
    async fn concatenated(&mut self, transport: Transport) {
        let mut parts = Vec::new();
        for at in [0, 500] {
            let request = tus(TestRequest::to("POST", "/uploads")).field("upload-length", 500);
            let request = request.field("upload-concat", "partial");
            let request = request.field("content-type", "application/offset+octet-stream");
            let got = self.send(transport, Speaks::Tus, request.sized(&self.content[at..at + 500])).await;
            assert_eq!(got.status, 201, "{got:?}");
            self.note_created(Speaks::Tus);
            self.note_transfer(500, "complete");
            self.note_ended(Speaks::Tus, "complete", 500);
            parts.push(Named::of(Speaks::Tus, "", &got).path);
        }
        let request = tus(TestRequest::to("POST", "/uploads"));
        let request = request.field("upload-concat", format_args!("final;{}", parts.join(" ")));
        let got = self.send(transport, Speaks::Tus, request).await;
        assert_eq!(got.status, 201, "{got:?}");
        self.note_created(Speaks::Tus);
        self.note_ended(Speaks::Tus, "complete", 1000);
    }
}
