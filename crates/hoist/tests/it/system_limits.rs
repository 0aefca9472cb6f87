//! Limits of the operating system: file sizes, file modes, locks, output. Each affects at most one upload.

use std::fs::{self, File};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Child, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use crate::harness::system::{shell, strace};
use crate::harness::{
    Raw, Server, ServerDir, TRANSPORTS, TestRequest, Transport, bytes, command, poll_until, print_note,
};

const MIB: usize = 1 << 20;

fn mode(path: &Path) -> u32 {
    fs::metadata(path).expect("it is there").permissions().mode() & 0o777
}

/// Starts a server that delivers into the directory `files`.
fn delivering(home: &ServerDir, program: &[String]) -> Server {
    Server::under(home, program, &["--target", "files", "--files-dir", &home.text("files")])
}

#[tokio::test]
async fn a_file_size_limit_affects_only_the_upload_that_reaches_it() {
    for transport in TRANSPORTS {
        let home = ServerDir::new();
        let server = Server::under(&home, &shell("ulimit -f 4096"), &[]);
        let content = bytes(1, 5 * MIB);
        let full = server.request(transport, TestRequest::new("POST", "large").chunked(&content)).await;
        assert_eq!(full.status, 507, "{full:?}");
        let kept = full.offset().expect("the limit does not hide the offset");
        assert!(kept >= 2 * MIB && kept < content.len(), "{kept}");
        for _ in 0..2 {
            assert_eq!(server.offset(transport, "large").await, Ok(kept), "what was stored stays");
            let again =
                server.request(transport, TestRequest::append("large", kept).chunked(&content[kept..])).await;
            assert_eq!((again.status, again.offset()), (507, Some(kept)), "{again:?}");
        }
        assert!(home.open()[0] == content[..kept]);

        let created = TestRequest::to("POST", "/uploads").with(("tus-resumable", "1.0.0"));
        let created = server.request(transport, created.field("upload-length", content.len())).await;
        assert_eq!(created.status, 201, "{created:?}");
        let location = created.field("location").expect("a URL");
        let path = &location[location.find("/uploads/").expect("an upload")..];
        let append = TestRequest::to("PATCH", path)
            .with(("tus-resumable", "1.0.0"))
            .with(("content-type", "application/offset+octet-stream"))
            .field("upload-offset", 0);
        let full = server.request(transport, append.sized(&content)).await;
        assert_eq!(full.status, 507, "{full:?}");

        let small = server.request(transport, TestRequest::new("POST", "small").sized(&content[..MIB])).await;
        assert!(small.is_complete(), "others go on: {small:?}");
        assert!(home.log().contains("ulimit -f"), "operators are told at the start: {}", home.log());
        server.stop().await;
    }
}

/// The signal disposition is not inherited: a hook gets the default.
#[tokio::test]
async fn a_hook_is_killed_by_the_file_size_limit() {
    let home = ServerDir::new();
    let hook = home.path("hook");
    fs::write(&hook, "#!/bin/sh\nexec dd if=/dev/zero of=\"$0.out\" bs=65536 count=999 2>/dev/null\n")
        .expect("written");
    fs::set_permissions(&hook, fs::Permissions::from_mode(0o755)).expect("executable");
    let flags = ["--hook-command", hook.to_str().expect("UTF-8")];
    let server = Server::under(&home, &shell("ulimit -f 4096"), &flags);
    let refused = server.request(Transport::H1, TestRequest::new("POST", "a").sized(b"hello")).await;
    assert!(refused.status >= 400, "{refused:?}");
    assert!(home.log().contains("signal: 25"), "{}", home.log());
    server.stop().await;
}

#[tokio::test]
async fn files_are_delivered_where_modes_cannot_be_set() {
    for errno in ["EPERM", "EOPNOTSUPP", "EACCES", "ENOSYS", "EROFS"] {
        let inject = format!("inject=fchmod:error={errno}");
        let Some(strace) = strace(&["-o", "/dev/null", "-e", "trace=fchmod", "-e", &inject]) else { return };
        let home = ServerDir::new();
        let server = delivering(&home, &strace);
        for token in ["a", "b", "c"] {
            let done = server.request(Transport::H1, TestRequest::new("POST", token).sized(token)).await;
            assert!(done.is_complete(), "{errno}: {done:?}");
        }
        let mut contents: Vec<_> = fs::read_dir(home.path("files"))
            .expect("the directory")
            .map(|entry| fs::read_to_string(entry.expect("an entry").path()).expect("text"))
            .collect();
        contents.sort();
        assert_eq!(contents, ["a", "b", "c"], "{errno}");
        let log = home.log();
        assert_eq!(log.matches("do not get the mode of the umask").count(), 1, "one warning: {log}");
        server.stop().await;
    }
}

#[tokio::test]
async fn delivered_files_follow_the_umask() {
    for (umask, expected) in [("022", 0o644), ("002", 0o664), ("077", 0o600), ("000", 0o666)] {
        let home = ServerDir::new();
        let server = delivering(&home, &shell(&format!("umask {umask}")));
        let request = TestRequest::new("POST", "a")
            .field("content-disposition", "attachment; filename=f")
            .sized(b"hello");
        assert!(server.request(Transport::H1, request).await.is_complete());
        assert_eq!(mode(&home.path("files/f")), expected, "umask {umask}");
        server.stop().await;
        // Another file system, to which the content is copied.
        let Ok(elsewhere) = tempfile::tempdir_in("/dev/shm") else {
            print_note(format_args!("not tested: no second file system at /dev/shm"));
            continue;
        };
        let files = elsewhere.path().to_str().expect("UTF-8");
        let flags = ["--target", "files", "--files-dir", files];
        let server = Server::under(&home, &shell(&format!("umask {umask}")), &flags);
        let request = TestRequest::new("POST", "b")
            .field("content-disposition", "attachment; filename=f")
            .sized(b"hello");
        assert!(server.request(Transport::H1, request).await.is_complete());
        assert_eq!(mode(&elsewhere.path().join("f")), expected, "umask {umask}");
        server.stop().await;
    }
}

/// A file system without links, exclusive renames and in-kernel copies, such as FUSE over SSH.
#[tokio::test]
async fn files_are_delivered_without_links_renames_and_kernel_copies() {
    let refused = "inject=linkat,copy_file_range,fchmod,fallocate:error=EPERM";
    let unknown = "inject=renameat2:error=EINVAL";
    let Some(strace) = strace(&["-o", "/dev/null", "-e", refused, "-e", unknown]) else { return };
    let home = ServerDir::new();
    let server = delivering(&home, &strace);
    let content = bytes(4, 3 * MIB);
    for token in ["a", "b"] {
        let request =
            TestRequest::new("POST", token).field("content-disposition", "attachment; filename=film.mkv");
        let done = server.request(Transport::H1, request.sized(&content)).await;
        assert!(done.is_complete(), "{done:?}");
    }
    let files: Vec<_> = fs::read_dir(home.path("files"))
        .expect("the directory")
        .map(|entry| fs::read(entry.expect("an entry").path()).expect("readable"))
        .collect();
    assert!(files.len() == 2 && files.iter().all(|file| *file == content), "{} files", files.len());
    server.stop().await;
}

#[tokio::test]
async fn the_data_directory_is_locked_on_file_systems_that_lock_only_writable_files() {
    let arguments = ["-o", "/dev/null", "-e", "trace=flock", "-e", "inject=flock:error=EBADF:when=1"];
    let Some(strace) = strace(&arguments) else { return };
    let home = ServerDir::new();
    let server = Server::under(&home, &strace, &[]);
    assert!(server.request(Transport::H1, TestRequest::new("POST", "a").sized(b"hello")).await.is_complete());
    let second = Server::fail(&home, &home.data(), &[]).await;
    assert!(second.stderr.contains(&format!("in use by process {}", server.pid())), "{second:?}");
    server.stop().await;
}

/// After a power failure between two syncs, an upload is in `open` or `done` or both, never in neither, and a new
/// directory is not lost.
#[tokio::test]
async fn directories_are_synced_in_an_order_that_loses_no_upload() {
    let home = ServerDir::new();
    let trace = home.text("trace");
    let Some(strace) = strace(&["-o", &trace, "-y", "-e", "trace=fsync"]) else { return };
    let files = home.text("new/files");
    let flags = ["--target", "files", "--files-dir", &files];
    let server = Server::under(&home, &strace, &flags);
    assert!(server.request(Transport::H1, TestRequest::new("POST", "a").sized(b"hello")).await.is_complete());
    server.stop().await;
    let ended = || {
        let trace = fs::read_to_string(&trace).ok()?;
        trace.contains("exited with 0").then_some(trace)
    };
    let trace = poll_until("the end of the trace", ended).await;
    let synced: Vec<&str> = trace
        .lines()
        .filter_map(|line| line.split_once('<')?.1.rsplit_once(">)")?.0.into())
        .map(|path| path.split_once('>').map_or(path, |(path, _)| path))
        .collect();
    let data = home.data();
    let place = |path: &Path| {
        let path = fs::canonicalize(path).expect("it is there");
        synced.iter().rposition(|synced| Path::new(synced) == path)
    };
    for above in [home.path(""), home.path("new")] {
        assert!(place(&above).is_some(), "the parent {} of a new directory: {synced:?}", above.display());
    }
    let (open, done) = (place(&data.join("open")), place(&data.join("done")));
    assert!(done.is_some() && done < open, "the destination of a move first: {synced:?}");
}

/// A process, killed on drop.
struct ChildProcess(Child);

impl Drop for ChildProcess {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test]
async fn a_server_with_unwritable_output_serves() {
    let full = || File::options().write(true).open("/dev/full").expect("Linux has it");
    let home = ServerDir::new();
    // A free port. If another process takes it, the server ends and the test tries again.
    let mut server = None;
    for _ in 0..5 {
        let addr = TcpListener::bind("127.0.0.1:0").and_then(|bound| bound.local_addr()).expect("a port");
        let listen = addr.to_string();
        let mut command = command(&home.data(), &["--listen", &listen, "--log-level", "trace"]);
        let child = command.stdout(full()).stderr(full()).stdin(Stdio::null()).spawn().expect("a process");
        let mut child = ChildProcess(child);
        let connects = || {
            let has_ended = child.0.try_wait().expect("a child").is_some();
            (has_ended || std::net::TcpStream::connect(addr).is_ok()).then_some(has_ended)
        };
        if !poll_until("the server to listen", connects).await {
            server = Some((child, addr));
            break;
        }
    }
    let (mut child, addr) = server.expect("a server that listens");
    let mut raw = Raw::to(addr).await;
    let put = "PUT /uploads/f HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello";
    raw.send(put).await;
    assert_eq!(raw.answer(false).await.expect("an answer").status, 201);
    assert_eq!(home.only_complete(), b"hello");
    kill_process(Pid::from_child(&child.0), Signal::TERM).expect("it runs");
    let status = poll_until("the server to stop", || child.0.try_wait().expect("a child")).await;
    assert_eq!(status.code(), Some(0));
}

#[tokio::test]
async fn a_missing_key_with_existing_uploads_prevents_the_start() {
    let home = ServerDir::new();
    let server = Server::start(&home, &[]);
    let request = TestRequest::new("POST", "film").field("upload-length", 10).sized(b"hello");
    assert_eq!(server.request(Transport::H1, request).await.offset(), Some(5));
    server.stop().await;
    let key = home.data().join("key");
    let kept = fs::read(&key).expect("the key");
    fs::remove_file(&key).expect("it is there");
    let refused = Server::fail(&home, &home.data(), &["--log-level", "error"]).await;
    assert_eq!(refused.code, Some(4), "{refused:?}");
    assert!(refused.stderr.contains("key is missing") && refused.stderr.contains("--new-key"), "{refused:?}");
    assert!(!key.exists(), "nothing is made that would hide the loss");
    fs::write(&key, kept).expect("restored");
    let server = Server::start(&home, &[]);
    assert_eq!(server.offset(Transport::H1, "film").await, Ok(5));
    server.stop().await;
    fs::remove_file(&key).expect("it is there");
    let server = Server::start(&home, &["--new-key"]);
    assert_eq!(server.offset(Transport::H1, "film").await, Err(404));
    server.stop().await;
    Server::start(&home, &[]).stop().await;
}
