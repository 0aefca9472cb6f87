//! SIGHUP: a changed configuration applies to a running server, or not at all.

use std::fs;
use std::path::PathBuf;

use rustix::process::Signal;

use crate::harness::{
    Exchange, Server, ServerDir, TestRequest, Transport, bytes, poll_until, within_timeout,
};
use crate::tls_and_auth::{certify, shows, trusting};

/// A server with a configuration file.
struct Reloading {
    home: ServerDir,
    server: Server,
    file: PathBuf,
}

impl Reloading {
    fn start(settings: &str) -> Self {
        let home = ServerDir::new();
        Self::start_in(home, settings, &[])
    }

    fn start_in(home: ServerDir, settings: &str, flags: &[&str]) -> Self {
        let file = home.path("hoist.toml");
        fs::write(&file, settings).expect("written");
        let config = home.text("hoist.toml");
        let server = Server::start(&home, &[&["--config", &config], flags].concat());
        Self { home, server, file }
    }

    /// Changes the file and reloads. Returns the lines that the log gains, up to the one with `expected`.
    async fn reload(&self, settings: &str, expected: &str) -> String {
        fs::write(&self.file, settings).expect("written");
        let before = self.server.log().len();
        self.server.signal(Signal::HUP);
        let gained = || {
            let log = self.server.log();
            let gained = log.get(before..)?;
            gained.lines().any(|line| line.contains(expected)).then(|| gained.to_owned())
        };
        poll_until(expected, gained).await
    }

    async fn create(&self, token: &str, content: &[u8], field: Option<(&str, &str)>) -> u16 {
        let request = TestRequest::new("POST", token).sized(content);
        let request = match field {
            Some((name, value)) => request.field(name, value),
            None => request,
        };
        self.server.request(Transport::H1, request).await.status
    }
}

#[tokio::test]
async fn changed_limits_apply_to_new_requests_and_leave_running_ones_alone() {
    let running = Reloading::start("max-size = \"1MiB\"\n");
    let content = bytes(1, 700_000);
    let request = TestRequest::new("POST", "running").sized(&content);
    let mut exchange =
        Exchange::begin(&running.server, Transport::H1, request, 300_000).await.expect("a connection");
    assert!(within_timeout("the bytes", exchange.reached()).await.is_none(), "it goes on too far");
    let log = running.reload("max-size = \"1KiB\"\nmax-age = \"1h\"\n", "reloaded: ").await;
    assert!(log.contains("reloaded: max-size 1MiB -> 1KiB, max-age 7d -> 1h"), "{log}");
    assert_eq!(running.create("later", &[7; 2000], None).await, 413);
    exchange.send_rest();
    let got = within_timeout("the answer", exchange.answer()).await.expect("its connection lives");
    assert!(got.status == 204 && got.is_complete(), "{got:?}");
    assert_eq!(running.home.only_complete(), content);
    let log = running.reload("max-size = \"1KiB\"\nmax-age = \"1h\"\n", "reloaded: ").await;
    assert!(log.contains("no setting has changed"), "{log}");
    // Back to the default.
    let log = running.reload("", "reloaded: ").await;
    assert!(log.contains("reloaded: max-size 1KiB -> unset, max-age 1h -> 7d"), "{log}");
    assert_eq!(running.create("later", &[7; 2000], None).await, 204);
    running.server.stop().await;
}

#[tokio::test]
async fn a_wrong_configuration_changes_nothing_and_each_problem_is_logged() {
    let running = Reloading::start("max-size = \"1KiB\"\n");
    let wrong = "max-size = \"1GuB\"\nmax-sise = 1\ncors-origin = \"off\"\n";
    let log = running.reload(wrong, "max-size: `1GuB`").await;
    let file = running.file.display();
    assert!(log.contains(&format!("cannot reload: {file}:2: unknown key `max-sise`")), "{log}");
    assert_eq!(log.matches("the previous settings stay in use").count(), 2, "{log}");
    // A file that cannot be used is as wrong as a value.
    let wrong = "max-size = \"1GiB\"\nbearer-file = \"/nonexistent\"\nhook-command = \"/nonexistent\"\n";
    let log = running.reload(wrong, "program /nonexistent not found").await;
    assert!(log.contains("bearer-file: /nonexistent: No such file"), "{log}");
    let log = running.reload("target = \"files\"\nfiles-dir = \"/proc/hoist\"\n", "files-dir").await;
    assert!(log.contains("cannot create /proc/hoist"), "{log}");
    assert_eq!(running.create("a", &[7; 2000], None).await, 413, "the old limit");
    let preflight = TestRequest::new("OPTIONS", "b").field("origin", "https://a.example");
    let got = running.server.request(Transport::H1, preflight).await;
    assert_eq!(got.field("access-control-allow-origin"), Some("*"), "the old CORS");
    fs::remove_file(&running.file).expect("removed");
    let before = running.server.log().len();
    running.server.signal(Signal::HUP);
    poll_until("the complaint", || running.server.log()[before..].contains("cannot read").then_some(()))
        .await;
    assert_eq!(running.create("a", &[7; 2000], None).await, 413);
    running.server.stop().await;
}

#[tokio::test]
async fn settings_that_need_a_restart_are_named_and_the_others_applied() {
    let running = Reloading::start("max-size = \"1KiB\"\nendpoint = \"/uploads\"\n");
    let changed = "max-size = \"1MiB\"\nendpoint = \"/other\"\nworkers = 3\nmax-stored-bytes = \"1GiB\"\n";
    for _ in 0..2 {
        let log = running.reload(changed, "not applied until a restart: ").await;
        let line = log.lines().find(|line| line.contains("not applied")).expect("a line");
        assert!(line.contains("endpoint /uploads -> /other"), "{line}");
        assert!(line.contains("workers ") && line.contains("max-stored-bytes unset -> 1GiB"), "{line}");
        assert!(!line.contains("max-size"), "{line}");
    }
    assert_eq!(running.create("a", &[7; 2000], None).await, 204);
    running.server.stop().await;
}

#[tokio::test]
async fn flags_and_the_environment_stay_as_at_the_start() {
    let running = Reloading::start_in(ServerDir::new(), "max-size = \"1KiB\"\n", &["--max-size", "2KiB"]);
    running.reload("max-size = \"3KiB\"\nmax-age = \"1h\"\n", "reloaded: max-age 7d -> 1h").await;
    assert_eq!(running.create("a", &[7; 2500], None).await, 413);
    running.server.stop().await;
}

#[tokio::test]
async fn authentication_hook_and_log_level_are_replaced() {
    let home = ServerDir::new();
    let tokens = home.text("tokens");
    fs::write(&tokens, "s3cret alice\n").expect("written");
    let running = Reloading::start_in(home, "log-level = \"warn\"\n", &[]);
    assert_eq!(running.create("a", b"film", None).await, 204);
    let bearer = format!("bearer-file = \"{tokens}\"\nlog-level = \"info\"\n");
    running.reload(&bearer, "reloaded: bearer-file unset -> ").await;
    assert_eq!(running.create("b", b"film", None).await, 401);
    let authorized = Some(("authorization", "Bearer s3cret"));
    assert_eq!(running.create("b", b"film", authorized).await, 204);

    // Another file, which would refuse every request.
    let empty = running.home.text("empty");
    fs::write(&empty, "# no tokens\n").expect("written");
    running.reload(&format!("bearer-file = \"{empty}\"\n"), "has no tokens").await;
    assert_eq!(running.create("c", b"film", authorized).await, 204);

    let hook = format!("{bearer}hook-command = \"sh -c 'exit 1'\"\n");
    let log = running.reload(&hook, "reloaded: hook-command (changed)").await;
    assert!(!log.contains("exit 1"), "arguments may be secret: {log}");
    let refused = running.create("d", b"film", authorized).await;
    assert!((400..500).contains(&refused), "{refused}");
    running.reload(&bearer, "reloaded: hook-command (changed)").await;
    assert_eq!(running.create("d", b"film", authorized).await, 204);
    running.server.stop().await;
}

#[tokio::test]
async fn a_certificate_at_another_path_is_used_without_a_restart() {
    let home = ServerDir::new();
    let other = ServerDir::new();
    let first = certify(&home);
    let second = certify(&other);
    let tls = |home: &ServerDir| {
        let (cert, key) = (home.text("cert.pem"), home.text("key.pem"));
        format!("tls-cert = \"{cert}\"\ntls-key = \"{key}\"\n")
    };
    let (old, new) = (tls(&home), tls(&other));
    let mut running = Reloading::start_in(home, &old, &[]);
    running.server.tls = Some(trusting(std::slice::from_ref(&first)));
    running.reload(&new, "reloaded: tls-cert ").await;
    assert!(shows(&running.server, &second).await && !shows(&running.server, &first).await);
    // Without TLS, the listener would have to change.
    let log = running.reload("", "not applied until a restart: tls-cert ").await;
    assert!(log.contains("tls-key "), "{log}");
    assert!(shows(&running.server, &second).await);
    running.server.stop().await;
}
