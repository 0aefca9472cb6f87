//! Joining: all bytes of the parts in order, or none. Parts and joined uploads are independent afterwards.

use std::sync::Arc;

use bytes::Bytes;
use hoist_proto::types::{Fence, Length, Offset, UploadId};
use hoist_proto::upload::{Composition, Upload};

use super::{ONE, Site, content, create, delivered, dropped_after, end_of, load, pattern, sample, stored};
use crate::store::{Error, Store};

pub(super) async fn run<S: Site>(fresh: &impl Fn() -> S) {
    parts_are_joined_in_order(&fresh()).await;
    a_join_is_durable(&fresh()).await;
    a_failed_join_leaves_nothing(&fresh()).await;
    content_is_joined_once(&fresh()).await;
    an_older_claim_joins_nothing(&fresh()).await;
    parts_and_joined_uploads_are_independent(&fresh()).await;
    joined_uploads_of_one_part_are_exported_separately(&fresh()).await;
    a_dropped_join_has_all_content_or_none(&fresh()).await;
    concurrent_joins(&fresh()).await;
}

/// Returns a composed upload that has not been created yet.
fn composed(number: u64, parts: &[UploadId]) -> Upload {
    Upload { composition: Composition::Concatenated(parts.to_vec()), owner: None, ..sample(1000 + number) }
}

/// Creates complete parts of these sizes. Returns each with its content.
async fn parts(store: &dyn Store, sizes: &[usize]) -> Vec<(UploadId, Bytes)> {
    let mut parts = Vec::new();
    for (number, &size) in (0..).zip(sizes) {
        let bytes = pattern(number, 0, size);
        let length = Some(Length::new(size as u64));
        let part = Upload { composition: Composition::Part, length, ..sample(number.into()) };
        stored(store, &part, &bytes).await;
        store.commit(&delivered(&part), ONE).await.expect("can be committed");
        parts.push((part.id, bytes));
    }
    parts
}

/// Returns the ids of the parts in this order, and their joined bytes.
fn select(parts: &[(UploadId, Bytes)], order: &[usize]) -> (Vec<UploadId>, Vec<u8>) {
    let ids = order.iter().map(|&at| parts[at].0).collect();
    (ids, order.iter().flat_map(|&at| parts[at].1.clone()).collect())
}

async fn begun(store: &dyn Store, upload: &Upload) {
    create(store, upload, ONE).await.sync().await.expect("can be synced");
}

async fn assert_is(store: &dyn Store, id: UploadId, bytes: &[u8]) {
    assert_eq!(load(store, id, ONE).await.offset.offset(), end_of(bytes));
    assert_holds(store, id, bytes).await;
}

async fn assert_holds(store: &dyn Store, id: UploadId, bytes: &[u8]) {
    assert!(content(store, id, Offset::ZERO).await == bytes, "the bytes of the parts, in their order");
}

// proves: TUS1-CAT-04
async fn parts_are_joined_in_order(site: &impl Site) {
    let store = site.open().await;
    let parts = parts(&*store, &[10, 0, 7_001, 4096, 1, 8192, 0]).await;
    let orders: [&[usize]; 10] = [
        &[0, 2, 3],
        &[3, 2, 0],
        &[2, 2, 2],
        &[1, 0, 6, 6, 0, 1],
        &[3, 5, 3, 0, 5],
        &[2],
        &[1, 3, 1],
        &[1],
        &[],
        &[4, 3, 2, 1, 0, 0, 1, 2, 3, 4, 5, 6],
    ];
    for (number, order) in (0..).zip(orders) {
        let (ids, bytes) = select(&parts, order);
        let upload = composed(number, &ids);
        // The record may be durable before or not, and the writer may still exist or not.
        let writer = create(&*store, &upload, ONE).await;
        if number % 2 == 0 {
            drop(writer);
        }
        let joined = store.join(upload.id, &ids, ONE).await.expect("can be joined");
        assert_eq!(joined.offset(), end_of(&bytes), "{order:?}");
        assert_is(&*store, upload.id, &bytes).await;
        let peeked = store.peek(upload.id).await.expect("can be peeked at").expect("is there");
        assert_eq!(peeked.offset, joined);
        assert_eq!(peeked.composition, upload.composition);
    }
    for (id, bytes) in &parts {
        assert_is(&*store, *id, bytes).await;
    }
}

async fn a_join_is_durable(site: &impl Site) {
    let orders: [&[usize]; 3] = [&[0, 1], &[0], &[1, 0, 1]];
    let mut expected = Vec::new();
    {
        let store = site.open().await;
        let parts = parts(&*store, &[30_000, 3]).await;
        for (number, order) in (0..).zip(orders) {
            let (ids, bytes) = select(&parts, order);
            let upload = composed(number, &ids);
            drop(create(&*store, &upload, ONE).await);
            store.join(upload.id, &ids, ONE).await.expect("can be joined");
            expected.push((upload, bytes));
        }
    }
    let store = site.open().await;
    for (upload, bytes) in expected {
        let summaries = store.list_all().await.expect("can be listed");
        let summary = summaries.iter().find(|summary| summary.id == upload.id).expect("is there");
        assert_eq!((summary.stored, summary.is_open), (end_of(&bytes), true));
        assert_eq!(summary.composition, upload.composition);
        assert_is(&*store, upload.id, &bytes).await;
        let length = Some(Length::new(bytes.len() as u64));
        store.commit(&Upload { length, ..delivered(&upload) }, ONE).await.expect("can be committed");
        assert_is(&*store, upload.id, &bytes).await;
    }
}

// proves: TUS1-CAT-05
async fn a_failed_join_leaves_nothing(site: &impl Site) {
    let store = site.open().await;
    let parts = parts(&*store, &[5_000, 5_000]).await;
    let (good, gone) = (parts[0].0, parts[1].0);
    let open = Upload { composition: Composition::Part, ..sample(77) };
    stored(&*store, &open, &pattern(0, 0, 10)).await;
    store.discard(gone, ONE).await.expect("can be discarded");
    let unknown = sample(78).id;
    let upload = composed(1, &[good]);
    begun(&*store, &upload).await;
    for (what, ids) in [
        ("missing", vec![good, unknown]),
        ("missing", vec![unknown]),
        ("missing", vec![good, gone]),
        ("missing", vec![gone]),
        ("open", vec![good, open.id, good]),
        ("open", vec![open.id]),
        // Not complete.
        ("open", vec![upload.id]),
    ] {
        let refused = store.join(upload.id, &ids, ONE).await;
        let is_right = match refused {
            Err(Error::Missing) => what == "missing",
            Err(Error::Io { .. }) => what == "open",
            _ => false,
        };
        assert!(is_right, "{what}: {refused:?}");
        assert_is(&*store, upload.id, &[]).await;
    }
    let refused = store.join(unknown, &[good], ONE).await;
    assert!(matches!(refused, Err(Error::Missing)), "{refused:?}");
    // The failed joins do not prevent a later one.
    store.join(upload.id, &[good, good], ONE).await.expect("can be joined");
    assert_is(&*store, upload.id, &[&parts[0].1[..], &parts[0].1[..]].concat()).await;
}

async fn content_is_joined_once(site: &impl Site) {
    let store = site.open().await;
    let parts = parts(&*store, &[5000, 300]).await;
    for (number, ids) in (0..).zip([vec![parts[0].0], vec![parts[0].0, parts[1].0]]) {
        let upload = composed(number, &ids);
        begun(&*store, &upload).await;
        let end = store.join(upload.id, &ids, ONE).await.expect("can be joined").offset();
        let bytes = content(&*store, upload.id, Offset::ZERO).await;
        for again in [&ids, &vec![parts[1].0]] {
            let refused = store.join(upload.id, again, ONE).await;
            assert!(matches!(refused, Err(Error::Io { .. })), "{refused:?}");
        }
        // The content may share its file with the part, so it must not be appended to.
        let refused = store.append(upload.id, end, ONE).await.err();
        assert!(matches!(refused, Some(Error::Missing)), "{refused:?}");
        assert_is(&*store, upload.id, &bytes).await;
        store.commit(&delivered(&upload), ONE).await.expect("can be committed");
        let refused = store.join(upload.id, &ids, ONE).await;
        assert!(matches!(refused, Err(Error::Missing)), "a complete upload: {refused:?}");
    }
    // Neither uploads with content of their own nor uploads that could get some.
    let own = sample(500);
    stored(&*store, &own, &pattern(0, 0, 10)).await;
    stored(&*store, &sample(501), &Bytes::new()).await;
    for id in [own.id, sample(501).id] {
        let refused = store.join(id, &[parts[0].0], ONE).await;
        assert!(matches!(refused, Err(Error::Io { .. })), "{refused:?}");
    }
    assert_is(&*store, own.id, &pattern(0, 0, 10)).await;
}

async fn an_older_claim_joins_nothing(site: &impl Site) {
    let store = site.open().await;
    let parts = parts(&*store, &[5000]).await;
    let upload = composed(1, &[parts[0].0]);
    let mut writer = create(&*store, &upload, ONE).await;
    load(&*store, upload.id, Fence::new(2)).await;
    let refused = store.join(upload.id, &[parts[0].0], ONE).await;
    assert!(matches!(refused, Err(Error::Fenced)), "{refused:?}");
    assert_eq!(load(&*store, upload.id, Fence::new(2)).await.offset.offset(), Offset::ZERO);
    store.join(upload.id, &[parts[0].0], Fence::new(2)).await.expect("can be joined");
    // The fences of the parts are neither checked nor taken.
    store.commit(&delivered(&sample(0)), ONE).await.expect("the part's claim is still the newest");
    for late in [writer.write(pattern(9, 0, 1)).await, writer.sync().await.map(drop)] {
        assert!(matches!(late, Err(Error::Fenced)), "{late:?}");
    }
    assert_holds(&*store, upload.id, &parts[0].1).await;
}

async fn parts_and_joined_uploads_are_independent(site: &impl Site) {
    let orders: [&[usize]; 2] = [&[0], &[0, 1]];
    for is_part_first in [true, false] {
        let store = site.open().await;
        let parts = parts(&*store, &[5000, 100]).await;
        let mut wholes = Vec::new();
        for (number, order) in (0..).zip(orders) {
            let (ids, bytes) = select(&parts, order);
            let upload = composed(number, &ids);
            begun(&*store, &upload).await;
            store.join(upload.id, &ids, ONE).await.expect("can be joined");
            if number == 0 {
                store.commit(&delivered(&upload), ONE).await.expect("can be committed");
            }
            wholes.push((upload, bytes));
        }
        if is_part_first {
            store.discard(parts[0].0, ONE).await.expect("can be discarded");
            for (part, _) in &parts {
                store.remove(*part, ONE).await.expect("can be removed");
            }
            drop(store);
            let store = site.open().await;
            for (upload, bytes) in &wholes {
                assert_is(&*store, upload.id, bytes).await;
                store.commit(&delivered(upload), ONE).await.expect("can be committed");
                let exported = store.export(upload.id, site.directory(), "whole", ONE).await;
                assert!(site.exported(&exported.expect("can be exported")).as_deref() == Some(&bytes[..]));
            }
            for (upload, _) in &wholes {
                store.discard(upload.id, ONE).await.expect("can be discarded");
                store.remove(upload.id, ONE).await.expect("can be removed");
            }
        } else {
            store.discard(wholes[0].0.id, ONE).await.expect("can be discarded");
            for (upload, _) in &wholes {
                store.remove(upload.id, ONE).await.expect("can be removed");
            }
            drop(store);
            let store = site.open().await;
            for (part, bytes) in &parts {
                assert_is(&*store, *part, bytes).await;
                store.remove(*part, ONE).await.expect("can be removed");
            }
        }
    }
}

async fn joined_uploads_of_one_part_are_exported_separately(site: &impl Site) {
    let store = site.open().await;
    let parts = parts(&*store, &[5000]).await;
    let mut names = Vec::new();
    for number in 0..3 {
        let upload = composed(number, &[parts[0].0]);
        begun(&*store, &upload).await;
        store.join(upload.id, &[parts[0].0], ONE).await.expect("can be joined");
        store.commit(&delivered(&upload), ONE).await.expect("can be committed");
    }
    for number in [0, 1, 2, 0, 1, 2] {
        let exported = store.export(composed(number, &[]).id, site.directory(), "one.bin", ONE).await;
        names.push(exported.expect("can be exported"));
        assert!(site.exported(&names[names.len() - 1]).as_deref() == Some(&parts[0].1[..]));
    }
    assert_eq!(names[..3], names[3..], "repeated, it finds its earlier result");
    assert!(names[0] != names[1] && names[1] != names[2] && names[0] != names[2], "{names:?}");
}

async fn a_dropped_join_has_all_content_or_none(site: &impl Site) {
    let store = site.open().await;
    let parts = parts(&*store, &[30_000, 7]).await;
    let ids = [parts[0].0, parts[1].0];
    let bytes = [&parts[0].1[..], &parts[1].1[..]].concat();
    for polls in 0..12_usize {
        let upload = composed(polls as u64, &ids);
        begun(&*store, &upload).await;
        drop(dropped_after(polls, store.join(upload.id, &ids, ONE)).await);
        let peeked = store.peek(upload.id).await.expect("can be peeked at").expect("is there");
        assert!([Offset::ZERO, end_of(&bytes)].contains(&peeked.offset.offset()), "{}", peeked.offset);
        // Loading under a newer fence waits for work in progress.
        if load(&*store, upload.id, Fence::new(2)).await.offset.offset() == Offset::ZERO {
            store.join(upload.id, &ids, Fence::new(2)).await.expect("can be joined");
        }
        assert_holds(&*store, upload.id, &bytes).await;
    }
}

async fn concurrent_joins(site: &impl Site) {
    let store = site.open().await;
    let parts = parts(&*store, &[20_000, 20, 10_000]).await;
    let mut joins = tokio::task::JoinSet::new();
    for number in 0..16 {
        let store: Arc<dyn Store> = Arc::clone(&store);
        let order = [[0, 1, 2], [2, 0, 0], [1, 1, 1], [0, 2, 0]][usize::try_from(number % 4).expect("small")];
        let ids = order.map(|at| parts[at].0);
        let bytes = order.map(|at| parts[at].1.clone()).concat();
        joins.spawn(async move {
            let upload = composed(number, &ids);
            begun(&*store, &upload).await;
            store.join(upload.id, &ids, ONE).await.expect("can be joined");
            assert_is(&*store, upload.id, &bytes).await;
        });
    }
    // A part is removed meanwhile. Joins that have not begun find it missing; no join is incomplete.
    while let Some(done) = joins.join_next().await {
        done.expect("concurrent joins succeed");
    }
    for round in 0..16 {
        let upload = composed(100 + round, &[parts[0].0]);
        begun(&*store, &upload).await;
        let (part, other) = (parts[0].0, parts[2].0);
        if round == 0 {
            let ids = [other, part, other];
            let (joined, removed) = tokio::join!(store.join(upload.id, &ids, ONE), store.remove(part, ONE));
            removed.expect("can be removed");
            match joined {
                Ok(joined) => assert_eq!(joined.offset(), Offset::new(40_000)),
                Err(Error::Missing) => assert_is(&*store, upload.id, &[]).await,
                Err(error) => panic!("a part that is removed meanwhile is there or missing, not: {error}"),
            }
        } else {
            let refused = store.join(upload.id, &[part], ONE).await;
            assert!(matches!(refused, Err(Error::Missing)), "{refused:?}");
        }
    }
}
