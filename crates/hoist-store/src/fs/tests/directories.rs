//! The directories of exported files: links, races, and the sync of every level.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use hoist_proto::types::Fence;
use hoist_proto::upload::{Phase, TargetResponse, Upload};
use http::StatusCode;
use rustix::io::Errno;
use tokio::task::JoinSet;

use super::{open, upload};
use crate::fs::LocalStore;
use crate::fs::sys::Call;
use crate::fs::sys::faults::Faults;
use crate::store::{Error, Store};

const ONE: Fence = Fence::new(1);

/// Stores a complete upload whose content is its number.
async fn stored(store: &LocalStore, number: u64) -> Upload {
    let upload = upload(number, None);
    let mut writer = store.create(&upload, ONE).await.expect("creates");
    writer.write(Bytes::from(number.to_string())).await.expect("writes");
    writer.sync().await.expect("syncs");
    let phase = Phase::Delivered(TargetResponse::of(StatusCode::CREATED));
    let upload = Upload { phase, ..upload };
    store.commit(&upload, ONE).await.expect("commits");
    upload
}

async fn export(store: &LocalStore, number: u64, directory: &Path, name: &str) -> Result<String, Error> {
    let upload = stored(store, number).await;
    store.export(upload.id, directory, name, ONE).await
}

#[tokio::test]
async fn an_export_leaves_its_directory_by_no_link_and_does_not_enter_the_data_directory() {
    let place = tempfile::tempdir().expect("a directory");
    let (exports, outside) = (place.path().join("exports"), place.path().join("outside"));
    fs::create_dir_all(exports.join("films")).expect("made");
    fs::create_dir(&outside).expect("made");
    for link in ["link", "films/link", "films/link-dir"] {
        symlink(&outside, exports.join(link)).expect("linked");
    }
    symlink("nowhere", exports.join("dangling")).expect("linked");
    rustix::fs::mknodat(
        rustix::fs::CWD,
        exports.join("fifo"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RUSR,
        0,
    )
    .expect("made");
    let data = exports.join("data");
    let store = open(&data);
    let id = |number| upload(number, None).id;
    let cases = [
        ("link/x", "link-dir/x".to_owned()),
        ("films/link/x", format!("films/link-{}/x", id(1))),
        ("dangling/x", "dangling-dir/x".to_owned()),
        ("fifo/x", "fifo-dir/x".to_owned()),
        ("data/open/x", "data-dir/open/x".to_owned()),
        ("films/dangling", "films/dangling".to_owned()),
        ("dangling", format!("dangling-{}", id(6).short())),
    ];
    for (number, (name, expected)) in (0..).zip(cases) {
        let exported = export(&store, number, &exports, name).await.expect("exports");
        assert_eq!(exported, expected);
        assert_eq!(fs::read_to_string(exports.join(exported)).expect("there"), number.to_string());
    }
    assert_eq!(fs::read_dir(&outside).expect("there").count(), 0);
    assert_eq!(fs::read_dir(data.join("open")).expect("there").count(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn concurrent_exports_share_the_directories_that_they_create() {
    let place = tempfile::tempdir().expect("a directory");
    let exports = place.path().join("exports");
    fs::create_dir(&exports).expect("made");
    let store = Arc::new(open(&place.path().join("data")));
    let mut running = JoinSet::new();
    for number in 0..40 {
        let (store, exports) = (Arc::clone(&store), exports.clone());
        running.spawn(async move {
            // Some of them want a file where the others want a directory.
            let name = if number % 10 == 9 { "tree/old" } else { "tree/old/deep/name" };
            let exported = export(&store, number, &exports, name).await.expect("exports");
            (number, exported)
        });
    }
    let exported = running.join_all().await;
    for (number, name) in &exported {
        assert_eq!(fs::read_to_string(exports.join(name)).expect("there"), number.to_string(), "{name}");
    }
    let directories = exported
        .iter()
        .filter(|(number, _)| number % 10 != 9)
        .map(|(_, name)| name.rsplit_once('/').expect("a path").0.to_owned());
    let directories: std::collections::HashSet<_> = directories.collect();
    for directory in &directories {
        assert!(["tree/old/deep", "tree/old-dir/deep"].contains(&directory.as_str()), "{directory}");
    }
}

#[tokio::test]
async fn an_export_syncs_every_directory_above_it_even_one_that_exists() {
    let place = tempfile::tempdir().expect("a directory");
    let exports = place.path().join("exports");
    fs::create_dir(&exports).expect("made");
    let faults = Faults::install();
    let store = open(&place.path().join("data"));
    export(&store, 0, &exports, "films/old/a").await.expect("exports");
    let second = stored(&store, 1).await;
    // The exports directory, `films` and `old`: each sync must succeed before the file counts as exported.
    for skip in 0..3 {
        faults.fail(Call::SyncDir, skip, 1, Errno::IO);
        let exported = store.export(second.id, &exports, "films/old/b", ONE).await;
        assert!(matches!(exported, Err(Error::Io { .. })), "{skip}: {exported:?}");
        faults.heal();
    }
    let exported = store.export(second.id, &exports, "films/old/b", ONE).await.expect("exports");
    assert_eq!(exported, "films/old/b");
    let full = stored(&store, 2).await;
    faults.fail(Call::MakeDir, 0, 1, Errno::NOSPC);
    let exported = store.export(full.id, &exports, "new/b", ONE).await;
    assert!(matches!(exported, Err(Error::Full)), "{exported:?}");
    assert_eq!(store.export(full.id, &exports, "new/b", ONE).await.expect("exports"), "new/b");
}
