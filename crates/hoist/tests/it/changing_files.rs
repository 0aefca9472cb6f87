//! `hoist put` with files that change during the upload or whose metadata is wrong.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt as _;
use std::time::Duration;

use rustix::process::Signal;

use crate::child_process::{ChildProcess, ExitReport, hoist};
use crate::faulty_proxy::{Direction, Fault, Proxy};
use crate::harness::{Server, ServerDir, TestRequest, Transport, bytes};

/// A length that is quick to upload and long enough to be interrupted.
const LENGTH: usize = 8 << 20;

fn put(home: &ServerDir, words: &[&str]) -> ChildProcess {
    let mut command = hoist(["put"].iter().chain(words).chain(&["--json", "--retry-for", "30s"]));
    command.env("XDG_STATE_HOME", home.path("state"));
    ChildProcess::start(command)
}

async fn ended(put: ChildProcess) -> ExitReport {
    tokio::task::spawn_blocking(move || put.ended()).await.expect("it ends")
}

/// A link slow enough to interrupt an upload on it.
async fn slow(server: &Server) -> Proxy {
    let slow = Fault::Slow { way: Direction::Up, piece: 16 << 10, late: Duration::from_millis(2) };
    Proxy::start(server, [Some(slow); 16]).await
}

/// Uploads `film` through a slow proxy and kills the command once the server holds part of it.
async fn interrupted(home: &ServerDir, proxy: &Proxy) {
    let running = put(home, &[&home.text("film"), &proxy.url("/uploads")]);
    home.holds(2 << 20).await;
    running.signal(Signal::INT);
    let ended = ended(running).await;
    assert_eq!(ended.code, Some(130), "{ended:?}");
}

/// Changes a byte in the middle of a file and restores its modification time, as `cp -p` does.
fn edit(home: &ServerDir) -> Vec<u8> {
    let film = home.path("film");
    let (modified, mut content) =
        (fs::metadata(&film).expect("a file").modified(), fs::read(&film).expect("read"));
    content[1 << 20] ^= 1;
    fs::write(&film, &content).expect("written");
    let modified = modified.expect("a time");
    File::options().write(true).open(&film).expect("open").set_modified(modified).expect("set");
    content
}

#[tokio::test]
async fn a_file_edited_in_the_middle_is_uploaded_anew_despite_its_old_mtime() {
    let home = ServerDir::new();
    let server = Server::start(&home, &[]);
    fs::write(home.path("film"), bytes(1, LENGTH)).expect("written");
    let proxy = slow(&server).await;
    interrupted(&home, &proxy).await;
    let before = fs::metadata(home.path("film")).expect("a file");
    let content = edit(&home);
    let after = fs::metadata(home.path("film")).expect("a file");
    assert_eq!(
        (before.len(), before.mtime(), before.mtime_nsec()),
        (after.len(), after.mtime(), after.mtime_nsec())
    );
    let ended = ended(put(&home, &[&home.text("film"), &proxy.url("/uploads")])).await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert_eq!(ended.event("send")["start"], "changed");
    assert!(home.done() == [content], "the bytes are those of one version");
    server.stop().await;
}

#[tokio::test]
async fn no_mixture_of_two_versions_of_a_file_becomes_complete() {
    let home = ServerDir::new();
    let server = Server::start(&home, &[]);
    for dialect in ["ietf", "tus1", "token"] {
        fs::write(home.path("film"), bytes(1, LENGTH)).expect("written");
        let proxy = slow(&server).await;
        let words = [&home.text("film"), &proxy.url("/uploads"), "--no-resume", "--dialect", dialect];
        let running = put(&home, &words);
        home.holds(2 << 20).await;
        edit(&home);
        let ended = ended(running).await;
        assert_eq!(ended.code, Some(8), "{dialect}: {ended:?}");
        assert!(home.done().is_empty(), "{dialect}: no version of the file is this upload");
    }
    server.stop().await;
}

#[tokio::test]
async fn a_file_of_procfs_is_uploaded_as_it_is_read() {
    let home = ServerDir::new();
    let server = Server::start(&home, &[]);
    // Neither changes while the machine runs.
    for file in ["/proc/version", "/sys/kernel/mm/transparent_hugepage/enabled"] {
        let Ok(content) = fs::read(file) else { continue };
        assert_ne!(content.len() as u64, fs::metadata(file).expect("a file").len(), "{file} is no example");
        let ended = ended(put(&home, &[file, &server.url])).await;
        assert_eq!(ended.code, Some(0), "{ended:?}");
        assert_eq!(ended.event("done")["bytes"], content.len(), "{ended:?}");
        assert!(home.done().contains(&content), "{file}");
    }
    assert!(home.done().iter().all(|content| !content.is_empty()));
    server.stop().await;
}

/// An ordinary web server: responds with 200 to any request whose content has a known length.
async fn start_ordinary_server() -> (String, tokio::task::JoinSet<()>) {
    use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};

    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}/uploads", listener.local_addr().expect("an address"));
    let mut serving = tokio::task::JoinSet::new();
    serving.spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let mut stream = BufReader::new(stream);
            let (mut line, mut bytes) = (String::new(), 0_usize);
            while stream.read_line(&mut line).await.is_ok_and(|read| read > 2) {
                if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                    bytes = value.trim().parse().expect("a number");
                }
                line.clear();
            }
            let mut content = vec![0; bytes];
            let page =
                "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nConnection: close\r\n\r\n<h1>Hello</h1>";
            if stream.read_exact(&mut content).await.is_ok() {
                let _ = stream.write_all(page.as_bytes()).await;
            }
        }
    });
    (url, serving)
}

// proves: IETF-CLI-18
#[tokio::test]
async fn a_server_without_upload_protocol_causes_a_warning() {
    let home = ServerDir::new();
    let (url, _serving) = start_ordinary_server().await;
    fs::write(home.path("film"), bytes(3, 1000)).expect("written");
    for dialect in ["auto", "ietf", "token"] {
        let ended = ended(put(&home, &[&home.text("film"), &url, "--dialect", dialect])).await;
        assert_eq!(ended.code, Some(0), "{dialect}: {ended:?}");
        let done = ended.event("done");
        assert_eq!((&done["resumable"], &done["bytes"]), (&false.into(), &1000.into()), "{dialect}");
        assert!(ended.stderr.contains("supports no resumable uploads"), "{dialect}: {}", ended.stderr);
    }
    for dialect in ["auto", "ietf", "token"] {
        let film = home.text("film");
        let words: [&str; 5] = [&film, &url, "--dialect", dialect, "--require-resumable"];
        let ended = ended(put(&home, &words)).await;
        assert_eq!(ended.code, Some(15), "{dialect}: {ended:?}");
        assert_eq!(ended.event("failed")["kind"], "unresumable", "{dialect}");
    }
    let own = ServerDir::new();
    let server = Server::start(&own, &[]);
    let ended = ended(put(&home, &[&home.text("film"), &server.url, "--require-resumable"])).await;
    assert_eq!((ended.code, &ended.event("done")["resumable"]), (Some(0), &true.into()), "{ended:?}");
    server.stop().await;
}

#[tokio::test]
async fn a_growing_file_is_sent_with_its_original_length() {
    use std::io::Write as _;

    let home = ServerDir::new();
    let server = Server::start(&home, &[]);
    let content = bytes(4, LENGTH);
    fs::write(home.path("film"), &content).expect("written");
    let proxy = slow(&server).await;
    let running = put(&home, &[&home.text("film"), &proxy.url("/uploads")]);
    home.holds(1 << 20).await;
    let mut film = File::options().append(true).open(home.path("film")).expect("open");
    film.write_all(b"more").expect("written");
    let ended = ended(running).await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(home.done() == [content]);
    server.stop().await;
}

/// Creates an upload as another API client would, with its first bytes. Returns its path.
async fn made(server: &Server, dialect: &str, length: usize, first: &[u8]) -> String {
    let create = TestRequest::to("POST", "/uploads");
    let create = match dialect {
        "tus1" => create.field("tus-resumable", "1.0.0").field("upload-length", length),
        _ => create
            .field("upload-draft-interop-version", 6)
            .field("upload-complete", "?0")
            .field("upload-length", length),
    };
    let created = server.request(Transport::H1, create).await;
    let location: http::Uri = created.field("location").expect("a URL").parse().expect("a URL");
    let append = TestRequest::to("PATCH", location.path()).field("upload-offset", 0).sized(first);
    let append = match dialect {
        "tus1" => {
            append.field("tus-resumable", "1.0.0").field("content-type", "application/offset+octet-stream")
        }
        _ => append
            .field("upload-draft-interop-version", 6)
            .field("upload-complete", "?0")
            .field("content-type", "application/partial-upload"),
    };
    let appended = server.request(Transport::H1, append).await;
    assert!((200..300).contains(&appended.status), "{dialect}: {appended:?}");
    location.path().to_owned()
}

#[tokio::test]
async fn an_upload_created_elsewhere_is_resumed_at_its_url() {
    for dialect in ["tus1", "ietf"] {
        let home = ServerDir::new();
        let server = Server::start(&home, &[]);
        let content = bytes(5, LENGTH);
        fs::write(home.path("film"), &content).expect("written");
        let path = made(&server, dialect, LENGTH, &content[..100_000]).await;
        let proxy = slow(&server).await;
        let url = proxy.url(&path);

        // A file that does not match is refused, and the upload is kept.
        fs::write(home.path("other"), b"short").expect("written");
        let other = ended(put(&home, &[&home.text("other"), &url])).await;
        assert_eq!(other.code, Some(5), "{dialect}: {other:?}");
        assert_eq!(home.uploads("open"), 1);

        let running = put(&home, &[&home.text("film"), &url]);
        home.holds(2 << 20).await;
        running.signal(Signal::INT);
        let first = ended(running).await;
        assert_eq!((first.code, &first.event("send")["start"]), (Some(130), &"found".into()), "{first:?}");
        assert_eq!(first.event("send")["offset"], 100_000);

        // A changed file does not continue the upload.
        edit(&home);
        let edited = ended(put(&home, &[&home.text("film"), &url])).await;
        assert_eq!(edited.code, Some(8), "{dialect}: {edited:?}");
        fs::write(home.path("again"), &content).expect("written");
        let last = ended(put(&home, &[&home.text("again"), &url])).await;
        assert_eq!((last.code, &last.event("send")["start"]), (Some(0), &"found".into()), "{last:?}");
        assert!(home.only_complete() == content, "{dialect}");
        server.stop().await;
    }
}
