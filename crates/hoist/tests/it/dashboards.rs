//! The dashboard and the alerts in `contrib/`: every metric that they name is in a scrape, `promtool` accepts them, and
//! Prometheus gets data for every query.

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use crate::harness::{AdminAt, Server, ServerDir, TIMEOUT, TestRequest, Transport, poll_until, print_note};

const TOKEN: &str = "0123456789abcdef0123456789abcdef";

fn contrib(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../contrib").join(path)
}

fn rules() -> String {
    fs::read_to_string(contrib("prometheus/hoist.rules.yml")).expect("the alerts")
}

/// Returns the queries of all panels of the dashboard.
fn queries() -> Vec<String> {
    let text = fs::read_to_string(contrib("grafana/hoist.json")).expect("the dashboard");
    let dashboard: Value = serde_json::from_str(&text).expect("JSON");
    let panels = dashboard["panels"].as_array().expect("panels").iter();
    let targets = panels.filter_map(|panel| panel["targets"].as_array()).flatten();
    targets.map(|target| target["expr"].as_str().expect("a query").to_owned()).collect()
}

/// Returns the names of hoist's metrics in a text.
fn names(text: &str) -> BTreeSet<&str> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    words.filter(|word| word.starts_with("hoist_")).collect()
}

/// Starts a server that has taken an upload.
async fn served(home: &ServerDir, admin: &str, flags: &[&str]) -> Server {
    // A sink that nothing listens on, so that there is one.
    let flags = [&["--admin", admin, "--events", "http://127.0.0.1:9/"], flags].concat();
    let server = Server::start(home, &flags);
    let upload = TestRequest::new("POST", "film").sized(b"0123456789");
    assert_eq!(server.request(Transport::H1, upload).await.status, 204);
    server
}

#[tokio::test]
async fn every_metric_of_the_dashboard_and_the_alerts_is_in_a_scrape() {
    let home = ServerDir::new();
    let admin = AdminAt::socket(&home);
    let server = served(&home, &admin.flag(), &[]).await;
    let scrape = admin.scrape().await;
    let scraped: BTreeSet<&str> =
        scrape.0.keys().map(|series| series.split('{').next().expect("a name")).collect();
    let (queries, rules) = (queries().join("\n"), rules());
    assert!(names(&queries).len() > 10 && names(&rules).len() > 4, "{queries}");
    for name in names(&queries).union(&names(&rules)) {
        assert!(scraped.contains(name), "{name} is not in {scraped:?}");
    }
    server.stop().await;
}

#[tokio::test]
async fn every_metric_is_explained() {
    let home = ServerDir::new();
    let admin = AdminAt::socket(&home);
    let server = served(&home, &admin.flag(), &["--metrics-compat", "tusd"]).await;
    let got = admin.request("GET", "/metrics", &[]).await;
    let text = str::from_utf8(&got.content).expect("text");
    let document = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/metrics.md");
    let document = fs::read_to_string(document).expect("the document");
    let types: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")).collect();
    assert!(types.len() > 20, "{types:?}");
    for line in types {
        let name = line.split(' ').next().expect("a name");
        let is_there = ["`", "{"].iter().any(|end| document.contains(&format!("`{name}{end}")));
        assert!(is_there, "docs/metrics.md does not explain {name}");
    }
    server.stop().await;
}

/// Runs `promtool` on a text, or returns `None` with a note if it is not installed. Returns whether it succeeds, and what it
/// says.
fn promtool(words: &[&str], input: &str) -> Option<(bool, String)> {
    let mut command = Command::new("promtool");
    command.args(words).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = match command.spawn() {
        Ok(child) => child,
        Err(error) => {
            print_note(format_args!("skipped: promtool cannot be run: {error}"));
            return None;
        }
    };
    child.stdin.take().expect("a pipe").write_all(input.as_bytes()).expect("it reads");
    let output = child.wait_with_output().expect("it ends");
    let said = [output.stdout, output.stderr].concat();
    Some((output.status.success(), String::from_utf8_lossy(&said).into_owned()))
}

#[tokio::test]
async fn promtool_finds_nothing() {
    let home = ServerDir::new();
    let admin = AdminAt::socket(&home);
    let server = served(&home, &admin.flag(), &[]).await;
    let got = admin.request("GET", "/metrics", &[]).await;
    let text = str::from_utf8(&got.content).expect("text").to_owned();
    server.stop().await;
    let Some((is_ok, said)) = promtool(&["check", "metrics"], &text) else { return };
    assert!(is_ok && said.is_empty(), "{said}");
    let rules = contrib("prometheus/hoist.rules.yml");
    let (is_ok, said) =
        promtool(&["check", "rules", rules.to_str().expect("UTF-8")], "").expect("it ran before");
    assert!(is_ok && said.contains("SUCCESS"), "{said}");

    // The names of tusd are as they are, but the format is sound.
    let home = ServerDir::new();
    let admin = AdminAt::socket(&home);
    let server = served(&home, &admin.flag(), &["--metrics-compat", "tusd"]).await;
    let got = admin.request("GET", "/metrics", &[("accept", "application/openmetrics-text")]).await;
    assert_eq!(got.field("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
    let text = str::from_utf8(&got.content).expect("text");
    let (_, said) = promtool(&["check", "metrics"], text).expect("it ran before");
    assert!(said.lines().all(|line| line.starts_with("tusd_") && line.contains("_total")), "{said}");
    server.stop().await;
}

/// A Prometheus, killed on drop.
struct Prometheus {
    child: Child,
    addr: SocketAddr,
}

impl Prometheus {
    /// Starts it with a configuration file, or returns `None` with a note if it is not installed.
    fn start(home: &ServerDir, config: &str) -> Option<Self> {
        let file = home.path("prometheus.yml");
        fs::write(&file, config).expect("written");
        let free = TcpListener::bind("127.0.0.1:0").expect("bound").local_addr().expect("an address");
        let log = fs::File::create(home.path("prometheus.log")).expect("a log");
        let child = Command::new("prometheus")
            .arg(format!("--config.file={}", file.display()))
            .arg(format!("--storage.tsdb.path={}", home.text("tsdb")))
            .arg(format!("--web.listen-address={free}"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn();
        match child {
            Ok(child) => Some(Self { child, addr: free }),
            Err(error) => {
                print_note(format_args!("skipped: prometheus cannot be run: {error}"));
                None
            }
        }
    }

    /// Requests a resource of its API; `None` if it does not answer yet.
    fn get(&self, path: &str) -> Option<Value> {
        let mut stream = TcpStream::connect(self.addr).ok()?;
        stream.set_read_timeout(Some(TIMEOUT)).ok()?;
        // Of HTTP/1.0, so that the response ends with the connection.
        write!(stream, "GET /api/v1/{path} HTTP/1.0\r\n\r\n").ok()?;
        let mut text = String::new();
        stream.read_to_string(&mut text).ok()?;
        serde_json::from_str(text.split_once("\r\n\r\n")?.1).ok()
    }

    /// Returns the number of series in the result of a query.
    fn count(&self, query: &str) -> Option<usize> {
        let mut encoded = String::new();
        for octet in query.bytes() {
            if octet.is_ascii_alphanumeric() {
                encoded.push(octet.into());
            } else {
                let _ = std::fmt::Write::write_fmt(&mut encoded, format_args!("%{octet:02X}"));
            }
        }
        let answer = self.get(&format!("query?query={encoded}"))?;
        assert!(answer["status"] == "success" || answer["errorType"] == "unavailable", "{query}: {answer}");
        Some(answer["data"]["result"].as_array()?.len())
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test]
async fn prometheus_gets_data_for_every_query_of_the_dashboard() {
    let home = ServerDir::new();
    fs::write(home.path("tokens"), format!("{TOKEN}\n")).expect("written");
    let tokens = home.text("tokens");
    let server = served(&home, "127.0.0.1:0", &["--admin-token-file", &tokens]).await;
    let admin = AdminAt::logged(&server).await.flag();
    // The example, for this server and in haste.
    let config = fs::read_to_string(contrib("prometheus/prometheus.yml")).expect("the example");
    let rules = contrib("prometheus/hoist.rules.yml");
    let config = config
        .replace("scrape_interval: 15s", "scrape_interval: 200ms\n  evaluation_interval: 200ms")
        .replace("scrape_timeout: 10s", "scrape_timeout: 200ms")
        .replace("hoist.rules.yml", rules.to_str().expect("UTF-8"))
        .replace("/etc/prometheus/hoist.token", &tokens)
        .replace("127.0.0.1:9091", &admin);
    let Some(prometheus) = Prometheus::start(&home, &config) else { return };
    for query in queries() {
        let query = query.replace("$instance", ".*").replace("$__rate_interval", "1m");
        poll_until(&query, || prometheus.count(&query).filter(|series| *series > 0)).await;
    }
    let is_evaluated = || {
        let answer = prometheus.get("rules")?;
        let rules = answer["data"]["groups"][0]["rules"].as_array()?;
        let health = rules.iter().map(|rule| rule["health"].as_str().unwrap_or_default());
        let health: Vec<_> = health.collect();
        assert!(!health.contains(&"err"), "{answer}");
        health.iter().all(|health| *health == "ok").then_some(health.len())
    };
    assert!(poll_until("the evaluation of all alerts", is_evaluated).await > 5);
    server.stop().await;
}
