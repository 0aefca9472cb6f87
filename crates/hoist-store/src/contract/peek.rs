//! `peek`: reads an upload without ending its transfer or waiting for it.

use hoist_proto::types::{Fence, Length, Offset};
use hoist_proto::upload::{Composition, Phase, Upload};

use super::{ONE, Site, create, delivered, end_of, load, pattern, sample, stored};
use crate::store::Error;

pub(super) async fn run<S: Site>(fresh: &impl Fn() -> S) {
    peek_returns_what_load_returns(&fresh()).await;
    peek_takes_no_fence(&fresh()).await;
    a_transfer_continues_during_peeks(&fresh()).await;
    peeks_during_other_operations(&fresh()).await;
}

async fn peek_returns_what_load_returns(site: &impl Site) {
    let bytes = pattern(0, 0, 20_000);
    let uploads = [
        sample(1),
        Upload { length: Some(Length::new(90_000)), composition: Composition::Part, ..sample(2) },
        Upload { phase: Phase::Received, owner: None, ..sample(3) },
        delivered(&sample(4)),
    ];
    {
        let store = site.open().await;
        assert!(store.peek(sample(9).id).await.expect("can be loaded").is_none());
        for upload in &uploads {
            stored(&*store, &Upload { phase: Phase::Open, ..upload.clone() }, &bytes).await;
            if upload.is_complete() {
                store.commit(upload, ONE).await.expect("can be committed");
            }
        }
        store.discard(uploads[3].id, ONE).await.expect("can be discarded");
        let mut writer = store.append(uploads[0].id, end_of(&bytes), ONE).await.expect("can continue");
        writer.write(pattern(0, 20_000, 10)).await.expect("bytes are accepted");
    }
    for is_asked_twice in [false, true] {
        let store = site.open().await;
        for upload in &uploads {
            let peeked = store.peek(upload.id).await.expect("can be peeked at").expect("is there");
            if is_asked_twice {
                assert_eq!(store.peek(upload.id).await.expect("can be peeked at").as_ref(), Some(&peeked));
            }
            assert_eq!(peeked, load(&*store, upload.id, ONE).await);
            assert_eq!(store.recall(upload.id).unwrap_or_else(|| peeked.clone()), peeked);
            assert!(peeked.offset.offset() >= end_of(&bytes));
        }
        if is_asked_twice {
            store.remove(uploads[1].id, ONE).await.expect("can be removed");
            assert!(store.peek(uploads[1].id).await.expect("can be loaded").is_none());
            assert!(store.recall(uploads[1].id).is_none());
        }
    }
}

async fn peek_takes_no_fence(site: &impl Site) {
    let store = site.open().await;
    let upload = sample(1);
    let mut writer = create(&*store, &upload, ONE).await;
    for round in 1..20_usize {
        writer.write(pattern(0, (round - 1) * 1000, 1000)).await.expect("peeking has not ended the writer");
        let peeked = store.peek(upload.id).await.expect("can be peeked at").expect("is there");
        assert!(peeked.offset.offset() <= Offset::new(round as u64 * 1000));
        if round % 3 == 0 {
            let synced = writer.sync().await.expect("peeking has not ended the writer");
            let peeked = store.peek(upload.id).await.expect("can be peeked at").expect("is there");
            assert_eq!(peeked.offset, synced, "everything accepted is written");
        }
    }
    store.commit(&upload, ONE).await.expect("the claim is still the newest");
    load(&*store, upload.id, Fence::new(2)).await;
    store.peek(upload.id).await.expect("can be peeked at");
    assert!(matches!(writer.sync().await, Err(Error::Fenced)), "and an ended one is not given back");
}

/// An offset that `peek` returns is durable: it survives a crash.
async fn a_transfer_continues_during_peeks(site: &impl Site) {
    let upload = sample(1);
    let mut acknowledged = Offset::ZERO;
    for round in 0..4_u64 {
        let store = site.open().await;
        let mut at = 0;
        let mut writer = if round == 0 {
            create(&*store, &upload, ONE).await
        } else {
            let found = load(&*store, upload.id, ONE).await.offset.offset();
            assert!(found >= acknowledged, "{acknowledged} became {found}");
            at = usize::try_from(found.get()).expect("small");
            store.append(upload.id, found, ONE).await.expect("can continue")
        };
        for size in [1, 30_000, 100_000, 3] {
            writer.write(pattern(0, at, size)).await.expect("bytes are accepted");
            at += size;
            let peeked = store.peek(upload.id).await.expect("can be peeked at").expect("is there");
            let now = peeked.offset.offset();
            assert!(
                now >= acknowledged && now <= Offset::new(at as u64),
                "{acknowledged}, then {now} of {at}"
            );
            acknowledged = now;
        }
        // A stalled writer, which has not synced. Nothing waits for it.
        store.peek(upload.id).await.expect("can be peeked at");
    }
}

async fn peeks_during_other_operations(site: &impl Site) {
    let store = site.open().await;
    let part = Upload { composition: Composition::Part, ..sample(99) };
    stored(&*store, &part, &pattern(0, 0, 20_000)).await;
    store.commit(&delivered(&part), ONE).await.expect("can be committed");
    let ids = [part.id; 5];
    let upload = Upload { composition: Composition::Concatenated(ids.to_vec()), ..sample(1) };
    create(&*store, &upload, ONE).await.sync().await.expect("can be synced");
    let work = async {
        for round in 2..40 {
            let fence = Fence::new(round);
            load(&*store, upload.id, fence).await;
            store.commit(&upload, fence).await.expect("can be committed");
        }
        let joined = store.join(upload.id, &ids, Fence::new(40)).await.expect("can be joined");
        load(&*store, upload.id, Fence::new(41)).await;
        store.commit(&delivered(&upload), Fence::new(41)).await.expect("can be committed");
        store.export(upload.id, site.directory(), "whole", Fence::new(41)).await.expect("can be exported");
        store.discard(upload.id, Fence::new(41)).await.expect("can be discarded");
        joined.offset()
    };
    let whole = Offset::new(100_000);
    let peeks = async {
        let (mut last, mut peeks) = (Offset::ZERO, 0_u32);
        while last < whole {
            let peeked = store.peek(upload.id).await.expect("can be peeked at").expect("is there");
            let now = peeked.offset.offset();
            assert!(now == whole || now == last, "{now} after {last}: nothing or the whole");
            assert!(!peeked.is_complete() || now == whole, "complete with {now}");
            last = now;
            peeks += 1;
            super::yield_now().await;
        }
        peeks
    };
    let (joined, peeks) = tokio::join!(work, peeks);
    assert_eq!(joined, whole);
    assert!(peeks > 0);
}
