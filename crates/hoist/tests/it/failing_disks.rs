//! Full, read-only and missing disks: errors are reported, and acknowledged bytes are kept.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::harness::{
    Exchange, Raw, Server, ServerDir, TRANSPORTS, TestRequest, TestResponse, Transport, bytes, poll_until,
    poll_until_async, print_note, within_timeout,
};

const MIB: usize = 1 << 20;

/// A small file system, unmounted on drop.
struct Mounted(PathBuf);

impl Mounted {
    /// Returns `None` with a note if this process may not mount.
    fn tmpfs(at: &Path, options: &str) -> Option<Self> {
        fs::create_dir_all(at).expect("a directory");
        let arguments = ["-t", "tmpfs", "-o", options, "tmpfs"];
        match Command::new("mount").args(arguments).arg(at).output() {
            Ok(output) if output.status.success() => Some(Self(at.to_owned())),
            Ok(output) => {
                print_note(format_args!(
                    "not tested: mount says {}",
                    String::from_utf8_lossy(&output.stderr)
                ));
                None
            }
            Err(error) => {
                print_note(format_args!("not tested: there is no mount: {error}"));
                None
            }
        }
    }
}

impl Mounted {
    fn remount(&self, how: &str) {
        let options = format!("remount,{how}");
        let status = Command::new("mount").args(["-o", &options]).arg(&self.0).status();
        assert!(status.expect("it was there before").success(), "remounted {how}");
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        // Lazily, because the server that uses it has only just ended.
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

/// Directories in which nothing can be created, not even by root, until this is dropped.
struct Immutable(Vec<PathBuf>);

impl Immutable {
    fn make(directories: Vec<PathBuf>) -> Option<Self> {
        let done = Command::new("chattr").arg("+i").args(&directories).output();
        let made = Self(directories);
        match done {
            Ok(output) if output.status.success() => Some(made),
            other => {
                print_note(format_args!("not tested: chattr says {other:?}"));
                None
            }
        }
    }
}

impl Drop for Immutable {
    fn drop(&mut self) {
        let _ = Command::new("chattr").arg("-i").args(&self.0).stderr(std::process::Stdio::null()).status();
    }
}

fn is_problem(got: &TestResponse, status: u16) -> bool {
    let document: serde_json::Value = serde_json::from_slice(&got.content).unwrap_or_default();
    got.status == status
        && got.field("content-type") == Some("application/problem+json")
        && document["status"] == status
}

#[tokio::test]
async fn a_full_disk_is_found_at_creation_when_the_length_is_known() {
    let home = ServerDir::new();
    let Some(_disk) = Mounted::tmpfs(&home.data(), "size=8m") else { return };
    let server = Server::start(&home, &[]);
    for transport in TRANSPORTS {
        let declared =
            server.request(transport, TestRequest::new("POST", "a").field("upload-length", 64 * MIB)).await;
        assert!(is_problem(&declared, 507), "{declared:?}");
        let sent = server.request(transport, TestRequest::new("POST", "b").sized(vec![1; 16 * MIB])).await;
        assert!(is_problem(&sent, 507), "{sent:?}");
        // The client need not send content that cannot be stored.
        let mut raw = Raw::connect(&server).await;
        raw.send("POST /uploads HTTP/1.1\r\nHost: a\r\nUpload-Token: c\r\nExpect: 100-continue\r\nContent-Length: 99999999\r\n\r\n")
            .await;
        assert_eq!(raw.answer(false).await.expect("an answer").status, 507);
        for token in ["a", "b", "c"] {
            assert_eq!(server.offset(transport, token).await, Err(404));
        }
        let fits = server.request(transport, TestRequest::new("POST", "fits").sized(vec![1; 4 * MIB])).await;
        assert!(fits.is_complete(), "{fits:?}");
        assert_eq!(server.request(transport, TestRequest::new("DELETE", "fits")).await.status, 204);
    }
    assert_eq!(home.uploads("open") + home.uploads("done"), 0);
    assert!(home.log().contains("no space left"), "{}", home.log());
    server.stop().await;
}

#[tokio::test]
async fn empty_requests_do_not_use_up_disk_space() {
    for transport in TRANSPORTS {
        let home = ServerDir::new();
        let Some(_disk) = Mounted::tmpfs(&home.data(), "size=64m") else { return };
        let server = Server::start(&home, &[]);
        for token in ["a", "b"] {
            let request = TestRequest::new("POST", token)
                .field("upload-length", 33_000_000)
                .field("upload-complete", "?0");
            let created = server.request(transport, request).await;
            assert!(created.status < 300 && !created.is_complete(), "{created:?}");
        }
        let honest =
            server.request(transport, TestRequest::new("POST", "honest").sized(bytes(1, 5 * MIB))).await;
        assert!(honest.is_complete(), "{honest:?}");
        let never = server
            .request(
                transport,
                TestRequest::new("POST", "never").field("upload-length", 15_000_000_000_000_u64),
            )
            .await;
        assert!(is_problem(&never, 507), "{never:?}");
        server.stop().await;
    }
}

#[tokio::test]
async fn uploads_leave_room_on_the_volume() {
    let home = ServerDir::new();
    let Some(_disk) = Mounted::tmpfs(&home.data(), "size=8m") else { return };
    let server = Server::start(&home, &["--keep-free", "3MiB"]);
    for transport in TRANSPORTS {
        let declared =
            server.request(transport, TestRequest::new("POST", "a").field("upload-length", 6 * MIB)).await;
        assert!(is_problem(&declared, 507), "{declared:?}");
        let full = server.request(transport, TestRequest::new("POST", "b").chunked(vec![1; 7 * MIB])).await;
        assert!(is_problem(&full, 507), "{full:?}");
        let kept = full.offset().expect("the offset of what fitted");
        assert!(kept > 4 * MIB && kept <= 5 * MIB, "{kept}");
        assert_eq!(server.offset(transport, "b").await, Ok(kept));
        assert_eq!(server.request(transport, TestRequest::new("DELETE", "b")).await.status, 204);
    }
    server.stop().await;
}

/// A volume that becomes read-only, as after a disk error.
#[tokio::test]
async fn a_volume_that_becomes_read_only_keeps_what_was_acknowledged() {
    for transport in TRANSPORTS {
        let home = ServerDir::new();
        let Some(disk) = Mounted::tmpfs(&home.data(), "size=8m") else { return };
        let server = Server::start(&home, &[]);
        let content = bytes(3, 2000);
        let request =
            TestRequest::new("POST", "film").field("upload-length", 2000).field("upload-complete", "?0");
        assert_eq!(server.request(transport, request.sized(&content[..1000])).await.offset(), Some(1000));
        disk.remount("ro");
        assert_eq!(server.offset(transport, "film").await, Ok(1000), "what is stored can be asked for");
        let refused =
            server.request(transport, TestRequest::append("film", 1000).sized(&content[1000..])).await;
        assert!(is_problem(&refused, refused.status) && refused.status >= 500, "{refused:?}");
        assert!(
            server.request(transport, TestRequest::new("POST", "new").sized(b"hello")).await.status >= 500
        );
        assert!(
            server.request(transport, TestRequest::new("DELETE", "film")).await.status >= 500,
            "it cannot be removed now"
        );
        until_ready(&server, transport, 503).await;
        disk.remount("rw");
        until_ready(&server, transport, 200).await;
        assert_eq!(server.offset(transport, "film").await, Ok(1000));
        let done = server.request(transport, TestRequest::append("film", 1000).sized(&content[1000..])).await;
        assert!(done.is_complete(), "{done:?}");
        assert!(home.only_complete() == content);
        server.stop().await;
    }
}

// proves: TOK-CRE-01, TOK-APP-05, TOK-OFF-03
#[tokio::test]
async fn an_upload_on_a_full_disk_keeps_its_bytes_and_resumes_once_there_is_space() {
    for transport in TRANSPORTS {
        let home = ServerDir::new();
        let Some(_disk) = Mounted::tmpfs(&home.data(), "size=8m") else { return };
        let server = Server::start(&home, &[]);
        let filler =
            server.request(transport, TestRequest::new("POST", "filler").sized(vec![1; 3 * MIB])).await;
        assert!(filler.is_complete());

        let content = bytes(8, 7 * MIB);
        let full = server.request(transport, TestRequest::new("POST", "film").chunked(&content)).await;
        assert!(is_problem(&full, 507), "{full:?}");
        let kept = full.offset().expect("a full disk does not hide the offset");
        assert!(kept > 4 * MIB && kept < 5 * MIB, "{kept}");
        assert_eq!(server.offset(transport, "film").await, Ok(kept));
        assert!(home.open()[0] == content[..kept]);
        let more =
            server.request(transport, TestRequest::append("film", kept).chunked(&content[kept..])).await;
        assert!(is_problem(&more, 507), "{more:?}");
        let kept = more.offset().expect("an offset").max(kept);

        // A restart on the full disk loses nothing.
        server.stop().await;
        let server = Server::start(&home, &[]);
        assert_eq!(server.offset(transport, "film").await, Ok(kept));
        assert_eq!(server.request(transport, TestRequest::new("DELETE", "filler")).await.status, 204);
        let done =
            server.request(transport, TestRequest::append("film", kept).chunked(&content[kept..])).await;
        assert!(done.status == 204 && done.is_complete(), "{done:?}");
        assert!(home.only_complete() == content);
        server.stop().await;
    }
}

#[tokio::test]
async fn a_nearly_full_disk_is_not_ready() {
    const FLOOR: usize = 8 * MIB / 100;
    let home = ServerDir::new();
    let Some(_disk) = Mounted::tmpfs(&home.data(), "size=8m") else { return };
    let server = Server::start(&home, &["--keep-free", "1MiB", "--log-format", "json"]);
    until_ready(&server, Transport::H1, 200).await;
    // Another program takes what is left, but for the space to keep free and less than the floor.
    let filler = home.data().join("filler");
    let taken = |left: usize| {
        fs::write(&filler, "").expect("written");
        let stat = rustix::fs::statvfs(home.data().as_path()).expect("a file system");
        let free = usize::try_from(stat.f_bavail * stat.f_frsize).expect("small");
        fs::write(&filler, vec![1; free - left]).expect("written");
    };
    taken(MIB + FLOOR / 2);
    for transport in TRANSPORTS {
        let got = until_ready(&server, transport, 503).await;
        assert_eq!(got.content, "the disk is full, or nearly so\n");
        let json = TestRequest::to("GET", "/readyz").field("accept", "application/json");
        let got = server.request(transport, json).await;
        let document: serde_json::Value = serde_json::from_slice(&got.content).expect("JSON");
        assert_eq!((got.status, &document["reason"]), (503, &"disk-full".into()), "{document}");
    }
    taken(MIB + 3 * FLOOR);
    until_ready(&server, Transport::H1, 200).await;
    server.stop().await;
    let log = home.log();
    assert_eq!(log.matches("\"message\":\"not ready\"").count(), 1, "once, and not for each request: {log}");
    assert!(log.contains("\"reason\":\"disk-full\"") && log.contains("\"message\":\"ready again\""), "{log}");
}

// proves: TOK-CRE-01, TOK-APP-05
#[tokio::test]
async fn truncated_small_content_is_never_complete() {
    let home = ServerDir::new();
    let Some(_disk) = Mounted::tmpfs(&home.data(), "size=8m") else { return };
    let server = Server::start(&home, &[]);
    // All but a few pages of the free space, and too little for a reservation.
    let room =
        server.request(Transport::H1, TestRequest::new("POST", "room").chunked(vec![1; 9 * MIB])).await;
    let room = room.offset().expect("a full disk does not hide the offset");
    assert_eq!(server.request(Transport::H1, TestRequest::new("DELETE", "room")).await.status, 204);
    let filler = TestRequest::new("POST", "filler").sized(vec![1; room - 100_000]);
    assert!(server.request(Transport::H1, filler).await.is_complete());

    let content = bytes(9, 150_000);
    for transport in TRANSPORTS {
        for request in [
            TestRequest::new("POST", "film").sized(&content),
            TestRequest::new("POST", "film").chunked(&content),
        ] {
            let full = server.request(transport, request).await;
            assert!(is_problem(&full, 507), "{full:?}");
            let kept = full.offset().expect("a full disk does not hide the offset");
            assert!(kept > 50_000 && kept < content.len() && !full.is_complete(), "{full:?}");
            assert!(home.open()[0] == content[..kept]);
            assert_eq!(server.request(transport, TestRequest::new("DELETE", "film")).await.status, 204);
        }
        for request in [
            TestRequest::to("PUT", "/uploads/film").sized(&content),
            TestRequest::to("POST", "/uploads").chunked(&content),
        ] {
            let full = server.request(transport, request).await;
            assert!(is_problem(&full, 507), "{full:?}");
            assert_eq!((home.uploads("open"), home.uploads("done")), (0, 1), "only the filler is there");
        }
    }
    server.stop().await;
}

/// Asserts that uploads are refused with 5xx, that the health check fails, and that the log has the reason.
async fn is_out_of_order(home: &ServerDir, server: &Server, running: Option<Exchange>) {
    for transport in TRANSPORTS {
        let refused = server.request(transport, TestRequest::new("POST", "new").sized(b"hello")).await;
        assert!(is_problem(&refused, refused.status) && refused.status >= 500, "{refused:?}");
        let health = until_ready(server, transport, 503).await;
        assert!(!String::from_utf8_lossy(&health.content).contains('/'), "a path is nobody's business");
        assert_eq!(server.request(transport, TestRequest::to("GET", "/healthz")).await.status, 200);
    }
    if let Some(mut running) = running {
        assert!(within_timeout("the running transfer", running.answer()).await.is_err());
    }
    let log = home.log();
    assert!(log.contains("ERROR") && log.contains("the store"), "{log}");
}

/// Waits for the health check, whose result is cached for a moment.
async fn until_ready(server: &Server, transport: Transport, status: u16) -> TestResponse {
    poll_until_async(&format!("/readyz to become {status}"), async || {
        let got = server.request(transport, TestRequest::to("GET", "/readyz")).await;
        (got.status == status).then_some(got)
    })
    .await
}

#[tokio::test]
async fn a_data_directory_that_becomes_read_only_is_reported_and_recovers() {
    let home = ServerDir::new();
    let server = Server::start(&home, &[]);
    assert_eq!(until_ready(&server, Transport::H1, 200).await.content, "ready\n");
    let request = TestRequest::new("POST", "early").sized(bytes(1, 1000)).stalls(Some(2000));
    let exchange = Exchange::begin(&server, Transport::H1, request, u64::MAX).await.expect("a connection");
    home.holds(1000).await;
    let directories = vec![home.data(), home.data().join("open"), home.data().join("done")];
    let Some(immutable) = Immutable::make(directories) else { return };
    is_out_of_order(&home, &server, None).await;
    drop(immutable);
    until_ready(&server, Transport::H1, 200).await;
    drop(exchange);
    assert_eq!(
        server.offset(Transport::H1, "early").await,
        Ok(1000),
        "what was stored before is still there"
    );
    let done = server
        .request(Transport::H1, TestRequest::append("early", 1000).sized(&bytes(1, 2000)[1000..]))
        .await;
    assert!(done.is_complete(), "{done:?}");
    server.stop().await;
}

#[tokio::test]
async fn a_data_directory_that_vanishes_is_reported() {
    let home = ServerDir::new();
    let server = Server::start(&home, &[]);
    let request = TestRequest::new("POST", "early").sized(bytes(1, 1000)).stalls(Some(2000));
    let exchange = Exchange::begin(&server, Transport::H2, request, u64::MAX).await.expect("a connection");
    home.holds(1000).await;
    fs::remove_dir_all(home.data()).expect("removed");
    let asked = server.request(Transport::H1, TestRequest::new("HEAD", "early")).await;
    assert!(asked.status >= 500 || asked.status == 404, "nothing is known any more: {asked:?}");
    is_out_of_order(&home, &server, Some(exchange)).await;
    server.stop().await;
}

#[tokio::test]
async fn a_server_does_not_start_on_a_directory_it_cannot_use() {
    let home = ServerDir::new();
    let file = home.path("file");
    fs::write(&file, "no directory").expect("written");
    let read_only = home.path("read-only");
    let disk = Mounted::tmpfs(&read_only, "ro,size=1m");
    let mut cases = vec![file.clone(), file.join("below")];
    cases.extend(disk.iter().flat_map(|_| [read_only.clone(), read_only.join("below")]));
    for data in cases {
        let ended = Server::fail(&home, &data, &["--log-level", "error"]).await;
        assert!(ended.code.is_some_and(|code| code != 0), "{}: {ended:?}", data.display());
        assert_eq!(ended.stdout, "", "{ended:?}");
        assert_eq!(ended.stderr.lines().count(), 1, "{ended:?}");
        assert!(ended.stderr.contains(data.to_str().expect("UTF-8")), "{ended:?}");
        assert!(!ended.stderr.contains("panicked"), "{ended:?}");
    }
    // A directory left by one server can be used by the next.
    let server = Server::start(&home, &[]);
    server.stop().await;
    let server = Server::start(&home, &[]);
    poll_until("the lock", || home.data().join("lock").exists().then_some(())).await;
    server.stop().await;
}
