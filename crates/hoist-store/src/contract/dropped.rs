//! Cancellation: a future dropped at any moment leaves the store as documented, and the upload usable.

use hoist_proto::types::{Fence, Offset};
use hoist_proto::upload::Upload;

use super::{ONE, Site, content, create, delivered, dropped_after, load, pattern, sample, stored};
use crate::store::Error;

pub(super) async fn run<S: Site>(fresh: &impl Fn() -> S) {
    creating(&fresh()).await;
    writing(&fresh()).await;
    loading_and_appending(&fresh()).await;
    committing(&fresh()).await;
    committing_and_discarding(&fresh()).await;
    removing(&fresh()).await;
    exporting(&fresh()).await;
}

/// More polls than an undisturbed operation takes.
const POLLS: usize = 12;

async fn creating(site: &impl Site) {
    let store = site.open().await;
    for polls in 0..POLLS {
        let upload = sample(polls as u64);
        drop(dropped_after(polls, store.create(&upload, ONE)).await);
        // The upload exists without content, or does not exist. Loading under a newer fence waits for work in progress.
        match store.load(upload.id, Fence::new(2)).await.expect("can be loaded") {
            Some(found) => assert_eq!(found, upload),
            None => drop(create(&*store, &upload, Fence::new(2)).await),
        }
        let mut writer = store.append(upload.id, Offset::ZERO, Fence::new(2)).await.expect("can be used");
        writer.write(pattern(0, 0, 10)).await.expect("bytes are accepted");
        writer.sync().await.expect("can be synced");
    }
}

async fn writing(site: &impl Site) {
    let store = site.open().await;
    let upload = sample(1);
    let mut writer = create(&*store, &upload, ONE).await;
    let mut sent = 0;
    let mut at = 0;
    for round in 0..200 {
        let bytes = [1, 700_000, 30, 65_536][round % 4];
        let taken = dropped_after(round % 3, writer.write(pattern(0, sent, bytes))).await;
        if let Some(taken) = taken {
            taken.expect("bytes are accepted");
            sent += bytes;
        } else {
            // All bytes or none; the offset tells which.
            at = writer.sync().await.expect("can be synced").offset().get();
            let stored = usize::try_from(at).expect("small");
            assert!(stored == sent || stored == sent + bytes, "{sent} or {bytes} more, not {stored}");
            sent = stored;
        }
        if round % 7 == 0 {
            drop(dropped_after(round % 5, writer.sync()).await);
        }
    }
    assert!(at <= writer.sync().await.expect("can be synced").offset().get());
    assert!(content(&*store, upload.id, Offset::ZERO).await == pattern(0, 0, sent));
}

async fn loading_and_appending(site: &impl Site) {
    let store = site.open().await;
    let upload = sample(1);
    stored(&*store, &upload, &pattern(0, 0, 100)).await;
    for (round, polls) in (2..).zip((0..POLLS).chain(0..POLLS)) {
        let fence = Fence::new(round * 2);
        let at = load(&*store, upload.id, fence).await.offset.offset();
        let mut writer = store.append(upload.id, at, fence).await.expect("can continue");
        let from = usize::try_from(at.get()).expect("small");
        writer.write(pattern(0, from, 1000)).await.expect("bytes are accepted");
        drop(dropped_after(polls, store.load(upload.id, Fence::new(round * 2 + 1))).await);
        let now = Fence::new(round * 2 + 1);
        drop(dropped_after(polls, store.append(upload.id, Offset::new(at.get() + 1000), now)).await);
        drop(writer);
        let found = load(&*store, upload.id, now).await.offset.offset();
        assert_eq!(found, Offset::new(at.get() + 1000), "accepted bytes count");
    }
}

async fn committing(site: &impl Site) {
    for polls in 0..POLLS {
        let upload = sample(1);
        let done = delivered(&upload);
        {
            let store = site.open().await;
            stored(&*store, &upload, &pattern(0, 0, 500)).await;
            drop(dropped_after(polls, store.commit(&done, ONE)).await);
        }
        // The old record or the new one, with all bytes, and the next commit succeeds.
        let store = site.open().await;
        let found = load(&*store, upload.id, ONE).await;
        assert!(found.phase == upload.phase || found.phase == done.phase, "{:?}", found.phase);
        assert_eq!(found.offset.offset(), Offset::new(500));
        store.commit(&done, ONE).await.expect("can be committed");
        assert_eq!(load(&*store, upload.id, ONE).await.phase, done.phase);
        drop(dropped_after(polls, store.discard(upload.id, ONE)).await);
        assert_eq!(load(&*store, upload.id, ONE).await.offset.offset(), Offset::new(500));
        store.remove(upload.id, ONE).await.expect("can be removed");
    }
}

async fn committing_and_discarding(site: &impl Site) {
    for polls in 0..POLLS {
        let upload = sample(1);
        let done = delivered(&upload);
        {
            let store = site.open().await;
            stored(&*store, &upload, &pattern(0, 0, 500)).await;
            drop(dropped_after(polls, store.commit_and_discard(&done, ONE)).await);
        }
        let store = site.open().await;
        let found = load(&*store, upload.id, ONE).await;
        assert_eq!(found.offset.offset(), Offset::new(500));
        if found.phase == upload.phase {
            assert!(content(&*store, upload.id, Offset::ZERO).await == pattern(0, 0, 500));
        } else {
            assert_eq!(found.phase, done.phase);
        }
        store.remove(upload.id, ONE).await.expect("can be removed");
    }
}

async fn removing(site: &impl Site) {
    for polls in 0..POLLS {
        let upload = sample(1);
        let store = site.open().await;
        stored(&*store, &upload, &pattern(0, 0, 500)).await;
        drop(dropped_after(polls, store.remove(upload.id, ONE)).await);
        if let Some(found) = store.load(upload.id, ONE).await.expect("can be loaded") {
            assert_eq!(found.offset.offset(), Offset::new(500), "whole or not at all");
            store.remove(upload.id, ONE).await.expect("can be removed");
        } else {
            let again = store.remove(upload.id, ONE).await;
            assert!(matches!(again, Err(Error::Missing)), "{again:?}");
        }
        assert!(store.list_all().await.expect("can be listed").is_empty());
    }
}

async fn exporting(site: &impl Site) {
    let store = site.open().await;
    for polls in 0..POLLS {
        let upload = sample(polls as u64);
        stored(&*store, &upload, &pattern(0, 0, 500)).await;
        let upload: Upload = delivered(&upload);
        store.commit(&upload, ONE).await.expect("can be committed");
        let name = format!("file-{polls}");
        drop(dropped_after(polls, store.export(upload.id, site.directory(), &name, ONE)).await);
        let exported = store.export(upload.id, site.directory(), &name, ONE).await;
        assert_eq!(exported.expect("can be exported"), name, "repeated, it takes no second name");
        assert!(site.exported(&name).as_deref() == Some(&pattern(0, 0, 500)[..]));
    }
}
