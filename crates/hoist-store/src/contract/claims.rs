//! Fencing: only the newest claim changes an upload, however close the race.

use std::sync::Arc;

use hoist_proto::types::{Fence, Offset};
use hoist_proto::upload::Upload;
use tokio::task::JoinSet;

use super::{ONE, Site, byte, content, create, delivered, load, pattern, sample, stored, yield_now};
use crate::store::{Error, Store};

pub(super) async fn run<S: Site>(fresh: &impl Fn() -> S) {
    an_older_claim_changes_nothing(&fresh()).await;
    an_upload_has_one_writer(&fresh()).await;
    an_acknowledged_offset_stays(&fresh()).await;
    only_one_of_two_appends_succeeds(&fresh()).await;
}

async fn an_older_claim_changes_nothing(site: &impl Site) {
    let store = site.open().await;
    let (old, new) = (Fence::new(4), Fence::new(5));
    let upload = sample(1);
    let mut writer = create(&*store, &upload, old).await;
    writer.write(pattern(0, 0, 1000)).await.expect("bytes are accepted");
    let found = load(&*store, upload.id, new).await;
    assert_eq!(found.offset.offset(), Offset::new(1000));
    let answers = [
        ("write", writer.write(pattern(9, 0, 1)).await.err()),
        ("sync", writer.sync().await.err()),
        ("load", store.load(upload.id, old).await.err()),
        ("append", store.append(upload.id, Offset::new(1000), old).await.err()),
        ("commit", store.commit(&delivered(&upload), old).await.err()),
        ("export", store.export(upload.id, site.directory(), "name", old).await.err()),
        ("commit_and_discard", store.commit_and_discard(&delivered(&upload), old).await.err()),
        ("discard", store.discard(upload.id, old).await.err()),
        ("remove", store.remove(upload.id, old).await.err()),
    ];
    for (what, answer) in answers {
        assert!(matches!(answer, Some(Error::Fenced)), "{what} by an older claim: {answer:?}");
    }
    assert_eq!(load(&*store, upload.id, new).await, found);
    assert!(content(&*store, upload.id, Offset::ZERO).await == pattern(0, 0, 1000));
    assert!(site.exported("name").is_none());
}

async fn an_upload_has_one_writer(site: &impl Site) {
    let store = site.open().await;
    let upload = sample(1);
    stored(&*store, &upload, &pattern(0, 0, 100)).await;
    let mut first = store.append(upload.id, Offset::new(100), ONE).await.expect("can continue");
    let mut second = store.append(upload.id, Offset::new(100), ONE).await.expect("can continue");
    assert!(matches!(first.write(pattern(9, 0, 5)).await, Err(Error::Fenced)));
    second.write(pattern(0, 100, 5)).await.expect("bytes are accepted");
    assert_eq!(second.sync().await.expect("can be synced").offset(), Offset::new(105));
    // Loading under the same fence does not end the transfer.
    assert_eq!(load(&*store, upload.id, ONE).await.offset.offset(), Offset::new(105));
    second.write(pattern(0, 105, 5)).await.expect("bytes are accepted");
    assert_eq!(second.sync().await.expect("can be synced").offset(), Offset::new(110));
}

/// Interrupts a writer by a newer claim, a thousand times. The offset that the claim loads is what is stored, and
/// stays.
// proves: TOK-OFF-03, TOK-APP-04
async fn an_acknowledged_offset_stays(site: &impl Site) {
    let store = site.open().await;
    let upload = sample(1);
    drop(create(&*store, &upload, ONE).await);
    let mut expected = Vec::new();
    for round in 1..=1000_u64 {
        let fence = Fence::new(round);
        let at = load(&*store, upload.id, fence).await.offset.offset();
        // The bytes that the last round's writer got in are known now, and no others may follow.
        #[expect(clippy::cast_possible_truncation, reason = "a pattern repeats")]
        let last = (round - 1) as u8;
        let stored = usize::try_from(at.get()).expect("small");
        assert!(stored >= expected.len(), "an offset decreased");
        expected.extend((expected.len()..stored).map(|at| byte(last, at)));
        let mut writer = store.append(upload.id, at, fence).await.expect("the loaded offset is accepted");
        let mut running = JoinSet::new();
        running.spawn(async move {
            #[expect(clippy::cast_possible_truncation, reason = "a pattern repeats")]
            let mark = round as u8;
            let mut from = stored;
            for size in [1, 300, 2000, 40, 1, 1000] {
                if writer.write(pattern(mark, from, size)).await.is_err() {
                    break;
                }
                from += size;
                if size == 40 && writer.sync().await.is_err() {
                    break;
                }
            }
        });
        for _ in 0..round % 23 {
            yield_now().await;
        }
        // Not awaited in the other rounds: a stalled writer must not matter.
        if round % 100 == 0 {
            running.join_next().await;
        } else {
            running.detach_all();
        }
    }
    load(&*store, upload.id, Fence::new(2000)).await;
    let stored = content(&*store, upload.id, Offset::ZERO).await;
    assert!(stored.starts_with(&expected), "bytes of an ended claim landed later");
}

// proves: TOK-APP-04
async fn only_one_of_two_appends_succeeds(site: &impl Site) {
    let store = site.open().await;
    for round in 0..100_u64 {
        let upload = sample(round);
        stored(&*store, &upload, &pattern(0, 0, 100)).await;
        let mut racers = JoinSet::new();
        for mark in [1_u8, 2] {
            let (store, upload) = (Arc::clone(&store), upload.clone());
            racers.spawn(async move { append_as(&*store, &upload, mark).await });
        }
        let mut winners = Vec::new();
        while let Some(done) = racers.join_next().await {
            winners.extend(done.expect("a racer does not panic"));
        }
        let stored = content(&*store, upload.id, Offset::ZERO).await;
        let tail = &stored[100..];
        match winners[..] {
            [mark] => assert!(tail == pattern(mark, 100, 50), "the other one's bytes landed"),
            // The later claim came between the other's bytes and their sync, and found another offset.
            [] => assert!(tail == pattern(1, 100, 50), "the bytes of one of them are there"),
            _ => panic!("both won the same offset"),
        }
    }
}

/// Appends at offset 100 under fence `mark`, and returns `mark` once the bytes are durable.
async fn append_as(store: &dyn Store, upload: &Upload, mark: u8) -> Option<u8> {
    let fence = Fence::new(u64::from(mark) + 1);
    store.load(upload.id, fence).await.ok()?;
    let mut writer = store.append(upload.id, Offset::new(100), fence).await.ok()?;
    writer.write(pattern(mark, 100, 50)).await.ok()?;
    writer.sync().await.ok()?;
    Some(mark)
}
