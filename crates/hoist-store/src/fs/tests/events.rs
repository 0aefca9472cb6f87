//! Events on disk: the directories of their records, and the notes of deliveries.

use std::fs;
use std::path::Path;

use bytes::Bytes;
use hoist_proto::types::Fence;
use hoist_proto::upload::{EventKind, PendingEvent, Phase, SinkKey, TargetResponse, Upload};
use http::StatusCode;
use rustix::io::Errno;

use super::operations::event;
use super::{open, upload};
use crate::fs::sys::Call;
use crate::fs::sys::faults::Faults;
use crate::fs::{EventsFound, LocalStore, read_events};
use crate::store::{Error, EventSource, Outbox, Store};

const ONE: Fence = Fence::new(1);

fn outbox(store: &LocalStore) -> &dyn Outbox {
    store.outbox().expect("has one")
}

fn created() -> Upload {
    Upload { events: vec![event(EventKind::Created)], ..upload(1, None) }
}

async fn stored(store: &LocalStore, upload: &Upload) {
    store.create(upload, ONE).await.expect("creates").sync().await.expect("syncs");
}

async fn pending(store: &LocalStore, source: EventSource) -> Vec<SinkKey> {
    let found = outbox(store).pending(source).await.expect("reads");
    found.into_iter().flat_map(|upload| upload.events).flat_map(|event| event.sinks).collect()
}

async fn removed(store: &LocalStore) -> Vec<EventSource> {
    let mut listing = outbox(store).list_removed().await.expect("lists");
    let mut all = Vec::new();
    while let Some(sources) = listing.next().await.expect("lists") {
        all.extend(sources.into_iter().map(|pending| pending.source));
    }
    all
}

fn names(directory: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(directory) else { return Vec::new() };
    let name = |entry: std::io::Result<fs::DirEntry>| entry.expect("lists").file_name().into_string();
    let mut names = entries.map(|entry| name(entry).expect("text")).collect::<Vec<_>>();
    names.sort_unstable();
    names
}

#[tokio::test]
async fn without_events_there_is_no_directory_and_no_call_for_them() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut made = Vec::new();
    for upload in [upload(1, None), created()] {
        let (faults, data) = (Faults::install(), directory.path().join(upload.events.len().to_string()));
        let store = open(&data);
        let before = (faults.made().len(), faults.reads());
        let phase = Phase::Delivered(TargetResponse::of(StatusCode::CREATED));
        let whole = Upload { phase, ..upload };
        store.create_whole(&whole, vec![Bytes::from_static(b"hello")], ONE).await.expect("creates");
        made.push((faults.made()[before.0..].to_vec(), faults.reads() - before.1));
        store.remove(whole.id, Fence::new(2)).await.expect("removes");
        assert_eq!(names(&data), ["done", "lock", "open"]);
    }
    assert_eq!(made[0], made[1], "an event is written in the same step");
}

#[tokio::test]
async fn notes_are_kept_in_a_file_where_there_are_no_attributes() {
    for errno in [Errno::OPNOTSUPP, Errno::NOSPC] {
        let (faults, directory) = (Faults::install(), tempfile::tempdir().expect("a directory"));
        let store = open(directory.path());
        let upload = created();
        stored(&store, &upload).await;
        let sinks = upload.events[0].sinks.clone();
        let (source, created) = (EventSource::Stored(upload.id), EventKind::Created);
        // The first one in the attribute, if there are any.
        outbox(&store).mark_delivered(source, &upload, &[(created, sinks[0])]).await.expect("notes");
        faults.fail(Call::SetAttribute, 0, usize::MAX, errno);
        outbox(&store).mark_delivered(source, &upload, &[(created, sinks[1])]).await.expect("notes");
        assert_eq!(pending(&store, source).await, [sinks[2]]);
        assert_eq!(store.list_all().await.expect("lists")[0].pending_sinks, [sinks[2]]);
        let mut last = upload.clone();
        last.events.push(event(EventKind::Terminated));
        let removing = outbox(&store).remove_with_events(&last, Fence::new(2));
        let source = removing.await.expect("removes").expect("events are left");
        outbox(&store).mark_delivered(source, &last, &[(created, sinks[2])]).await.expect("notes");
        assert_eq!(pending(&store, source).await, sinks);
        let rest = sinks.map_deliveries(EventKind::Terminated);
        outbox(&store).mark_delivered(source, &last, &rest[..2]).await.expect("notes");
        assert_eq!(names(&directory.path().join("gone")).len(), 2, "the record and its notes");
        outbox(&store).mark_delivered(source, &last, &rest[2..]).await.expect("notes");
        assert_eq!(names(&directory.path().join("gone")), Vec::<String>::new());
    }
}

trait MapDeliveries {
    fn map_deliveries(&self, kind: EventKind) -> Vec<(EventKind, SinkKey)>;
}

impl MapDeliveries for Vec<SinkKey> {
    fn map_deliveries(&self, kind: EventKind) -> Vec<(EventKind, SinkKey)> {
        self.iter().map(|sink| (kind, *sink)).collect()
    }
}

/// The view of an operator beside a running server.
#[tokio::test]
async fn all_events_are_read_beside_the_store() {
    let directory = tempfile::tempdir().expect("a directory");
    assert!(read_events(&directory.path().join("none"), &mut |_| {}).is_err());
    let store = open(directory.path());
    let (open, gone) = (created(), Upload { events: vec![event(EventKind::Created)], ..upload(2, None) });
    stored(&store, &open).await;
    stored(&store, &upload(3, None)).await;
    stored(&store, &gone).await;
    let sinks = open.events[0].sinks.clone();
    let source = EventSource::Stored(open.id);
    outbox(&store).mark_delivered(source, &open, &[(EventKind::Created, sinks[0])]).await.expect("notes");
    outbox(&store).bury(source, &open, &open.events[0], sinks[1]).await.expect("buries");
    let removed =
        outbox(&store).remove_with_events(&gone, ONE).await.expect("removes").expect("events are left");
    fs::create_dir_all(directory.path().join("open").join(upload(4, None).id.to_string())).expect("is made");
    fs::write(directory.path().join("dead").join("other"), "{").expect("is written");
    let mut found = Vec::new();
    read_events(directory.path(), &mut |events| found.push(events)).expect("reads");
    let brief = |found: &EventsFound| match found {
        EventsFound::Pending(source, upload) => format!("{source:?} {}", upload.events[0].sinks.len()),
        EventsFound::Dead(name, upload) => format!("{name} {}", upload.events[0].sinks.len()),
        EventsFound::Unreadable(place, _) => place.clone(),
    };
    let mut found = found.iter().map(brief).collect::<Vec<_>>();
    found.sort_unstable();
    let mut expected = vec![
        format!("{source:?} 1"),
        format!("{removed:?} 3"),
        format!("{}.created.{} 1", open.id, sinks[1]),
        "dead/other".to_owned(),
    ];
    expected.sort_unstable();
    assert_eq!(found, expected);
}

/// A receiver may move the content of a finished upload away.
#[tokio::test]
async fn events_of_a_complete_upload_need_no_content() {
    let directory = tempfile::tempdir().expect("a directory");
    let store = open(directory.path());
    let phase = Phase::Delivered(TargetResponse::of(StatusCode::CREATED));
    let whole = Upload { phase, ..created() };
    store.create_whole(&whole, vec![Bytes::from_static(b"hello")], ONE).await.expect("creates");
    store.entries.forget_records();
    let content = directory.path().join("done").join(whole.id.to_string()).join("content");
    fs::remove_file(content).expect("was there");
    assert_eq!(pending(&store, EventSource::Stored(whole.id)).await, whole.events[0].sinks);
}

/// A record that is cut, doubled or from a newer version stays as it is, and hides no other.
#[tokio::test]
async fn a_record_that_cannot_be_read_is_reported_and_stays() {
    let directory = tempfile::tempdir().expect("a directory");
    let store = open(directory.path());
    let upload = created();
    stored(&store, &upload).await;
    outbox(&store).remove_with_events(&upload, ONE).await.expect("removes").expect("events are left");
    drop(store);
    let gone = directory.path().join("gone");
    let good = fs::read_to_string(gone.join(&names(&gone)[0])).expect("is there");
    let id = upload.id;
    let bad = [
        (2, good[..good.len() / 2].to_owned()),
        (3, format!("{good}{good}")),
        (4, good.replace("\"version\": 1", "\"version\": 2")),
        (5, String::new()),
    ];
    for (number, text) in &bad {
        fs::write(gone.join(format!("{id}.{number}")), text).expect("is written");
        fs::write(gone.join(format!("{id}.1{number}.due")), text).expect("is written");
    }
    fs::write(gone.join("note.txt"), "an operator's").expect("is written");
    fs::write(gone.join(format!("{id}.9.new")), &good).expect("is written");
    let store = open(directory.path());
    assert_eq!(removed(&store).await.len(), 1);
    for (number, text) in &bad {
        let source = EventSource::Removed(id, *number);
        let refused = outbox(&store).pending(source).await;
        assert!(matches!(refused, Err(Error::Damaged(_))), "{number}: {refused:?}");
        let marked = outbox(&store).mark_delivered(source, &upload, &[]).await;
        assert!(matches!(marked, Err(Error::Damaged(_))), "{number}: {marked:?}");
        assert_eq!(fs::read_to_string(gone.join(format!("{id}.{number}"))).expect("stays"), *text);
        assert_eq!(fs::read_to_string(gone.join(format!("{id}.1{number}.due"))).expect("stays"), *text);
    }
    assert!(gone.join("note.txt").exists() && !gone.join(format!("{id}.9.new")).exists());
}

/// A crash between the record and the removal: the removal did not happen, unless the upload is gone.
#[tokio::test]
async fn a_removal_that_a_crash_interrupted_is_decided_at_the_next_start() {
    for is_gone in [false, true] {
        let directory = tempfile::tempdir().expect("a directory");
        let store = open(directory.path());
        let upload = created();
        stored(&store, &upload).await;
        let removing = outbox(&store).remove_with_events(&upload, Fence::new(2));
        let source = removing.await.expect("removes").expect("events are left");
        let again = Upload { created: upload.created, ..created() };
        if !is_gone {
            store.create(&again, Fence::new(3)).await.expect("creates").sync().await.expect("syncs");
        }
        drop(store);
        let gone = directory.path().join("gone");
        let name = names(&gone).remove(0);
        fs::rename(gone.join(&name), gone.join(format!("{name}.due"))).expect("renames");
        let store = open(directory.path());
        assert_eq!(removed(&store).await, if is_gone { vec![source] } else { vec![] });
        assert_eq!(store.load(upload.id, ONE).await.expect("loads").is_some(), !is_gone);
    }
}

#[tokio::test]
async fn a_dead_event_that_cannot_be_read_is_listed_with_the_reason() {
    let directory = tempfile::tempdir().expect("a directory");
    let store = open(directory.path());
    let upload = created();
    stored(&store, &upload).await;
    let dead = PendingEvent { sinks: Vec::new(), ..upload.events[0].clone() };
    let sink = upload.events[0].sinks[1];
    outbox(&store).bury(EventSource::Stored(upload.id), &upload, &dead, sink).await.expect("buries");
    let name = format!("{}.created.{sink}", upload.id);
    let path = directory.path().join("dead").join(&name);
    let text = fs::read_to_string(&path).expect("is there");
    fs::write(&path, text.replace("\"created\"", "\"moved\"")).expect("is written");
    let found = outbox(&store).dead(None, 9).await.expect("lists");
    assert_eq!(found[0].name, name);
    assert!(found[0].upload.as_ref().is_err_and(|why| why.contains("checksum")), "{:?}", found[0]);
    let revived = outbox(&store).revive(&name, upload.created).await;
    assert!(matches!(revived, Err(Error::Damaged(_))), "{revived:?}");
    assert!(path.exists(), "and it stays");
    assert!(outbox(&store).drop_dead(&name).await.expect("drops"));
}
