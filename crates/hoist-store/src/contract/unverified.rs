//! Unverified bytes: never reported, and gone after a crash, until the writer syncs them.

use bytes::Bytes;
use hoist_proto::types::{Fence, Offset, UploadId};

use super::{ONE, Site, content, create, delivered, end_of, load, pattern, sample, stored};
use crate::store::{Error, Store};

pub(super) async fn run<S: Site>(fresh: &impl Fn() -> S) {
    unverified_bytes_are_not_reported(&fresh()).await;
    a_sync_verifies(&fresh()).await;
    truncating_drops_unverified_bytes(&fresh()).await;
    a_crash_drops_unverified_bytes(&fresh()).await;
    a_dropped_writer_verifies_nothing(&fresh()).await;
    a_newer_claim_drops_unverified_bytes(&fresh()).await;
    completion_drops_unverified_bytes(&fresh()).await;
    a_second_mark_has_no_effect(&fresh()).await;
}

/// Checks that every method reports exactly these bytes, `load` under this fence.
async fn assert_verified(store: &dyn Store, id: UploadId, fence: Option<Fence>, bytes: &[u8]) {
    let end = end_of(bytes);
    if let Some(fence) = fence {
        // First, because it waits for the accepted bytes of a dropped writer.
        assert_eq!(load(store, id, fence).await.offset.offset(), end, "load");
    }
    let peeked = store.peek(id).await.expect("can be peeked at").expect("is there");
    assert_eq!(peeked.offset.offset(), end, "peek");
    assert!(content(store, id, Offset::ZERO).await == bytes, "read");
    let summaries = store.list_all().await.expect("can be listed");
    let summary = summaries.iter().find(|summary| summary.id == id).expect("is there");
    assert_eq!(summary.stored, end, "list_all");
}

// proves: TUS1-CHK-03
async fn unverified_bytes_are_not_reported(site: &impl Site) {
    let store = site.open().await;
    for (number, before) in (1..).zip([0, 1, 7_000]) {
        let upload = sample(number);
        let verified = pattern(0, 0, before);
        let mut writer = create(&*store, &upload, ONE).await;
        writer.write(verified.clone()).await.expect("bytes are accepted");
        writer.mark_unverified().await.expect("can be marked");
        for size in [1, 30_000, 0, 16_384] {
            writer.write(pattern(9, before, size)).await.expect("bytes are accepted");
            assert!(writer.start_sync().offset() <= end_of(&verified), "start_sync");
            assert_verified(&*store, upload.id, Some(ONE), &verified).await;
        }
        // Peeking has not ended the writer.
        writer.write(pattern(9, before, 1)).await.expect("bytes are accepted");
        writer.truncate(end_of(&verified)).await.expect("can be truncated");
    }
}

async fn a_sync_verifies(site: &impl Site) {
    let bytes = pattern(0, 0, 50_000);
    let uploads = [sample(1), sample(2)];
    {
        let store = site.open().await;
        // A new upload, and one that is continued.
        stored(&*store, &uploads[1], &Bytes::new()).await;
        for upload in &uploads {
            let mut writer = if upload.id == uploads[0].id {
                create(&*store, upload, ONE).await
            } else {
                store.append(upload.id, Offset::ZERO, ONE).await.expect("can continue")
            };
            for piece in [0..10, 10..10, 10..40_000] {
                writer.mark_unverified().await.expect("can be marked");
                writer.write(bytes.slice(piece.clone())).await.expect("bytes are accepted");
                let acknowledged = writer.sync().await.expect("can be synced").offset();
                assert_eq!(acknowledged, Offset::new(piece.end as u64), "synced bytes are verified");
                assert_verified(&*store, upload.id, Some(ONE), &bytes[..piece.end]).await;
            }
            // Verified again, so these bytes count without a sync.
            writer.write(bytes.slice(40_000..)).await.expect("bytes are accepted");
            assert_eq!(load(&*store, upload.id, Fence::new(2)).await.offset.offset(), end_of(&bytes));
        }
    }
    let store = site.open().await;
    for upload in &uploads {
        assert_verified(&*store, upload.id, Some(ONE), &bytes).await;
    }
}

async fn truncating_drops_unverified_bytes(site: &impl Site) {
    let verified = pattern(0, 0, 1000);
    let upload = sample(1);
    {
        let store = site.open().await;
        stored(&*store, &upload, &verified).await;
        let mut writer = store.append(upload.id, end_of(&verified), ONE).await.expect("can continue");
        for size in [0, 1, 40_000] {
            writer.mark_unverified().await.expect("can be marked");
            writer.write(pattern(9, 0, size)).await.expect("bytes are accepted");
            writer.truncate(end_of(&verified)).await.expect("can be truncated");
            assert_verified(&*store, upload.id, Some(ONE), &verified).await;
        }
        writer.write(pattern(0, 1000, 500)).await.expect("bytes are accepted");
        assert_eq!(writer.sync().await.expect("can be synced").offset(), Offset::new(1500));
        // After truncation within the unverified bytes, the rest stays unverified.
        writer.mark_unverified().await.expect("can be marked");
        writer.write(pattern(0, 1500, 500)).await.expect("bytes are accepted");
        writer.truncate(Offset::new(1700)).await.expect("can be truncated");
        assert_verified(&*store, upload.id, Some(ONE), &pattern(0, 0, 1500)).await;
        assert_eq!(writer.sync().await.expect("can be synced").offset(), Offset::new(1700));
    }
    let store = site.open().await;
    assert_verified(&*store, upload.id, Some(ONE), &pattern(0, 0, 1700)).await;
}

// proves: TUS1-CHK-03
async fn a_crash_drops_unverified_bytes(site: &impl Site) {
    let upload = sample(1);
    let mut verified = Bytes::new();
    for round in 0..6_usize {
        let store = site.open().await;
        let fence = Fence::new(1);
        let mut writer = if round == 0 {
            let mut writer = create(&*store, &upload, fence).await;
            writer.sync().await.expect("can be synced");
            writer
        } else {
            if round % 2 == 0 {
                assert_verified(&*store, upload.id, None, &verified).await;
            }
            assert_verified(&*store, upload.id, Some(fence), &verified).await;
            store.append(upload.id, end_of(&verified), fence).await.expect("can continue")
        };
        writer.write(pattern(0, verified.len(), 100)).await.expect("bytes are accepted");
        verified = pattern(0, 0, verified.len() + 100);
        writer.sync().await.expect("can be synced");
        writer.mark_unverified().await.expect("can be marked");
        writer.write(pattern(9, 0, round * 20_000)).await.expect("bytes are accepted");
        // Let the store progress as far as it will, verified or not.
        writer.start_sync();
        load(&*store, upload.id, fence).await;
    }
    let store = site.open().await;
    assert_verified(&*store, upload.id, None, &verified).await;
    assert_verified(&*store, upload.id, Some(Fence::new(1)), &verified).await;
}

async fn a_dropped_writer_verifies_nothing(site: &impl Site) {
    let store = site.open().await;
    for number in 0..20 {
        let upload = sample(number);
        let verified = pattern(0, 0, 100);
        let mut writer = create(&*store, &upload, ONE).await;
        writer.write(verified.clone()).await.expect("bytes are accepted");
        if number % 2 == 0 {
            writer.sync().await.expect("can be synced");
        }
        writer.mark_unverified().await.expect("can be marked");
        for _ in 0..number % 4 {
            writer.write(pattern(9, 0, 20_000)).await.expect("bytes are accepted");
        }
        drop(writer);
        assert_verified(&*store, upload.id, (number % 3 == 0).then_some(ONE), &verified).await;
        let mut writer = store.append(upload.id, end_of(&verified), ONE).await.expect("can continue");
        writer.write(pattern(0, 100, 50)).await.expect("bytes are accepted");
        assert_eq!(writer.sync().await.expect("can be synced").offset(), Offset::new(150));
        assert_verified(&*store, upload.id, Some(ONE), &pattern(0, 0, 150)).await;
    }
    drop(store);
    let store = site.open().await;
    for number in 0..20 {
        assert_verified(&*store, sample(number).id, Some(ONE), &pattern(0, 0, 150)).await;
    }
}

async fn a_newer_claim_drops_unverified_bytes(site: &impl Site) {
    let upload = sample(1);
    let mut verified = pattern(0, 0, 10);
    {
        let store = site.open().await;
        stored(&*store, &upload, &verified).await;
        for round in 1..12_u64 {
            let (mine, newer) = (Fence::new(round * 2), Fence::new(round * 2 + 1));
            load(&*store, upload.id, mine).await;
            let mut writer = store.append(upload.id, end_of(&verified), mine).await.expect("can continue");
            writer.mark_unverified().await.expect("can be marked");
            writer.write(pattern(9, 0, 60_000)).await.expect("bytes are accepted");
            assert_eq!(load(&*store, upload.id, newer).await.offset.offset(), end_of(&verified));
            assert!(matches!(writer.sync().await, Err(Error::Fenced)), "an ended claim verifies nothing");
            assert!(matches!(writer.write(pattern(9, 0, 1)).await, Err(Error::Fenced)));
            assert!(matches!(writer.mark_unverified().await, Err(Error::Fenced)));
            let mut next = store.append(upload.id, end_of(&verified), newer).await.expect("can continue");
            next.write(pattern(0, verified.len(), 10)).await.expect("bytes are accepted");
            verified = pattern(0, 0, verified.len() + 10);
            if round % 2 == 0 {
                assert_eq!(next.sync().await.expect("can be synced").offset(), end_of(&verified));
            } else {
                drop(next);
            }
            assert_verified(&*store, upload.id, Some(newer), &verified).await;
        }
    }
    let store = site.open().await;
    assert_verified(&*store, upload.id, Some(ONE), &verified).await;
}

async fn completion_drops_unverified_bytes(site: &impl Site) {
    let upload = sample(1);
    let verified = pattern(0, 0, 10);
    {
        let store = site.open().await;
        stored(&*store, &upload, &verified).await;
        let mut writer = store.append(upload.id, end_of(&verified), ONE).await.expect("can continue");
        writer.mark_unverified().await.expect("can be marked");
        writer.write(pattern(9, 0, 20_000)).await.expect("bytes are accepted");
        store.commit(&delivered(&upload), ONE).await.expect("can be committed");
        assert_verified(&*store, upload.id, Some(ONE), &verified).await;
    }
    let store = site.open().await;
    assert_verified(&*store, upload.id, None, &verified).await;
}

async fn a_second_mark_has_no_effect(site: &impl Site) {
    let store = site.open().await;
    let upload = sample(1);
    let mut writer = create(&*store, &upload, ONE).await;
    writer.write(pattern(0, 0, 10)).await.expect("bytes are accepted");
    for _ in 0..3 {
        writer.mark_unverified().await.expect("can be marked");
        writer.write(pattern(0, 10, 10)).await.expect("bytes are accepted");
    }
    assert_verified(&*store, upload.id, Some(ONE), &pattern(0, 0, 10)).await;
    assert_eq!(writer.sync().await.expect("can be synced").offset(), Offset::new(40));
    store.remove(upload.id, ONE).await.expect("can be removed");
    assert!(matches!(writer.mark_unverified().await, Err(Error::Fenced)));
    assert!(store.list_all().await.expect("can be listed").is_empty());
}
