//! `hoist put` with files that change, or that are not what the file system says of them.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt as _;
use std::time::Duration;

use rustix::process::Signal;

use crate::harness::{Home, Server, bytes};
use crate::process::{Ended, Running, hoist};
use crate::proxy::{Fault, Proxy, Way};

/// Files small enough to be uploaded within a moment, and large enough to be interrupted.
const LENGTH: usize = 8 << 20;

fn put(home: &Home, words: &[&str]) -> Running {
    let mut command = hoist(["put"].iter().chain(words).chain(&["--json", "--retry-for", "30s"]));
    command.env("XDG_STATE_HOME", home.path("state"));
    Running::start(command)
}

async fn ended(put: Running) -> Ended {
    tokio::task::spawn_blocking(move || put.ended()).await.expect("it ends")
}

/// A link so slow that an upload can be interrupted on it.
async fn slow(server: &Server) -> Proxy {
    let slow = Fault::Slow { way: Way::Up, piece: 16 << 10, late: Duration::from_millis(2) };
    Proxy::start(server, [Some(slow), Some(slow)]).await
}

/// Uploads `film` over a proxy until the server holds a part of it, and interrupts that.
async fn interrupted(home: &Home, proxy: &Proxy) {
    let running = put(home, &[&home.text("film"), &proxy.url("/uploads")]);
    home.holds(2 << 20).await;
    running.signal(Signal::INT);
    let ended = ended(running).await;
    assert_eq!(ended.code, Some(130), "{ended:?}");
}

/// Changes a byte in the middle and sets the time of change back, as `cp -p` of another version does.
fn edit(home: &Home) -> Vec<u8> {
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
async fn a_file_that_was_edited_in_the_middle_is_begun_afresh_whatever_its_times_say() {
    let home = Home::new();
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
