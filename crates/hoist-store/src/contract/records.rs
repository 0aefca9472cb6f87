//! Records, listings and removal.

use std::time::Duration;

use hoist_proto::types::{Fence, Length, Offset, Timestamp};
use hoist_proto::upload::{Phase, Upload};

use super::{ONE, Site, content, create, delivered, load, pattern, sample, stored};
use crate::store::{ClockStep, Error, LastUsed, UploadGroup};

pub(super) async fn run<S: Site>(fresh: &impl Fn() -> S) {
    calls_for_an_unknown_id_fail(&fresh()).await;
    a_record_is_read_back_as_committed(&fresh()).await;
    a_commit_is_durable(&fresh()).await;
    an_id_is_taken_once(&fresh()).await;
    a_removed_upload_is_missing(&fresh()).await;
    list_all_returns_every_upload(&fresh()).await;
    the_time_of_the_last_change_never_decreases(&fresh()).await;
    the_time_of_the_last_use_is_kept(&fresh()).await;
    each_group_is_listed_in_small_batches(&fresh()).await;
}

async fn calls_for_an_unknown_id_fail(site: &impl Site) {
    let store = site.open().await;
    store.check_health().await.expect("an empty store can take an upload");
    assert!(store.list_all().await.expect("can be listed").is_empty());
    let id = sample(1).id;
    assert!(store.load(id, ONE).await.expect("can be loaded").is_none());
    let answers = [
        ("append", store.append(id, Offset::ZERO, ONE).await.err()),
        ("commit", store.commit(&sample(1), ONE).await.err()),
        ("read", store.read(id, Offset::ZERO).await.err()),
        ("export", store.export(id, site.directory(), "name", ONE).await.err()),
        ("commit_and_discard", store.commit_and_discard(&delivered(&sample(1)), ONE).await.err()),
        ("discard", store.discard(id, ONE).await.err()),
        ("remove", store.remove(id, ONE).await.err()),
    ];
    for (what, answer) in answers {
        assert!(matches!(answer, Some(Error::Missing)), "{what} of an unknown id: {answer:?}");
    }
}

async fn a_record_is_read_back_as_committed(site: &impl Site) {
    let open = sample(1);
    let lengthy = Upload { length: Some(Length::new(77)), lifetime: None, owner: None, ..sample(2) };
    let received = Upload { phase: Phase::Received, ..sample(3) };
    let uploads = [open, lengthy, received, delivered(&sample(4))];
    {
        let store = site.open().await;
        for upload in &uploads {
            let created = Upload { phase: Phase::Open, ..upload.clone() };
            create(&*store, &created, ONE).await.sync().await.expect("can be synced");
            if upload.is_complete() {
                store.commit(upload, ONE).await.expect("can be committed");
            }
            assert_eq!(load(&*store, upload.id, ONE).await, *upload);
        }
    }
    let store = site.open().await;
    for upload in &uploads {
        assert_eq!(load(&*store, upload.id, ONE).await, *upload);
    }
}

async fn a_commit_is_durable(site: &impl Site) {
    let upload = sample(1);
    let bytes = pattern(0, 0, 30_000);
    let steps = [
        Upload { length: Some(Length::new(30_000)), ..upload.clone() },
        Upload { length: Some(Length::new(30_000)), phase: Phase::Received, ..upload.clone() },
        Upload { length: Some(Length::new(30_000)), ..delivered(&upload) },
    ];
    {
        // Before any sync: the commit itself makes the upload durable, and the bytes of a complete one with it.
        let store = site.open().await;
        let mut writer = create(&*store, &upload, ONE).await;
        writer.write(bytes.clone()).await.expect("bytes are accepted");
        store.commit(&steps[0], ONE).await.expect("can be committed");
        writer.write(pattern(0, 30_000, 1)).await.expect("the writer continues");
    }
    for (round, step) in (2..).zip(&steps[1..]) {
        let store = site.open().await;
        let found = load(&*store, upload.id, Fence::new(round)).await;
        assert_eq!(found.length, Some(Length::new(30_000)));
        store.commit(step, Fence::new(round)).await.expect("can be committed");
        let found = load(&*store, upload.id, Fence::new(round)).await;
        assert_eq!(found.phase, step.phase);
        assert_eq!(store.list_all().await.expect("can be listed").len(), 1);
    }
    let another = sample(2);
    {
        let store = site.open().await;
        assert_eq!(load(&*store, upload.id, ONE).await.phase, delivered(&upload).phase);
        let mut writer = create(&*store, &another, ONE).await;
        writer.write(bytes.clone()).await.expect("bytes are accepted");
        store.commit(&delivered(&another), ONE).await.expect("can be committed");
        let late = writer.write(bytes.clone()).await;
        assert!(matches!(late, Err(Error::Fenced)), "a complete upload takes no more: {late:?}");
    }
    let store = site.open().await;
    assert!(content(&*store, another.id, Offset::ZERO).await == bytes, "completion made the bytes durable");
}

// proves: TOK-CRE-05
async fn an_id_is_taken_once(site: &impl Site) {
    let store = site.open().await;
    let upload = sample(1);
    let mut writer = create(&*store, &upload, ONE).await;
    for fence in [ONE, Fence::new(7)] {
        let refused =
            store.create(&Upload { length: Some(Length::new(5)), ..upload.clone() }, fence).await.err();
        assert!(matches!(refused, Some(Error::Exists)), "{refused:?}");
        writer.write(pattern(0, 0, 10)).await.expect("the running transfer continues");
    }
    writer.sync().await.expect("can be synced");
    assert_eq!(load(&*store, upload.id, ONE).await.length, None, "the upload is untouched");
    store.commit(&delivered(&upload), ONE).await.expect("can be committed");
    assert!(
        matches!(store.create(&upload, ONE).await.err(), Some(Error::Exists)),
        "complete, it still is one"
    );
}

// proves: TOK-CAN-01
async fn a_removed_upload_is_missing(site: &impl Site) {
    let upload = sample(1);
    for is_complete in [false, true] {
        let store = site.open().await;
        let mut writer = create(&*store, &upload, ONE).await;
        writer.write(pattern(1, 0, 3000)).await.expect("bytes are accepted");
        writer.sync().await.expect("can be synced");
        if is_complete {
            store.commit(&delivered(&upload), ONE).await.expect("can be committed");
        } else {
            writer.write(pattern(1, 3000, 500_000)).await.expect("bytes are accepted");
        }
        store.remove(upload.id, Fence::new(2)).await.expect("can be removed");
        assert!(matches!(writer.write(pattern(1, 0, 1)).await, Err(Error::Fenced)));
        assert!(matches!(writer.sync().await, Err(Error::Fenced)));
        assert!(store.load(upload.id, Fence::new(2)).await.expect("can be loaded").is_none());
        assert!(store.list_all().await.expect("can be listed").is_empty());
        let again = Upload { length: Some(Length::new(4)), ..upload.clone() };
        assert!(matches!(store.create(&again, ONE).await.err(), Some(Error::Fenced)));
        let mut second = create(&*store, &again, Fence::new(3)).await;
        assert!(writer.write(pattern(1, 0, 1)).await.is_err(), "the old writer is not the new upload's");
        second.write(pattern(2, 0, 4)).await.expect("bytes are accepted");
        second.sync().await.expect("can be synced");
        assert_eq!(load(&*store, upload.id, Fence::new(3)).await.length, Some(Length::new(4)));
        assert!(content(&*store, upload.id, Offset::ZERO).await == pattern(2, 0, 4));
        store.remove(upload.id, Fence::new(3)).await.expect("can be removed");
        drop((writer, second, store));
        let store = site.open().await;
        assert!(store.load(upload.id, ONE).await.expect("can be loaded").is_none(), "removed for good");
    }
}

// proves: TOK-APP-05a
async fn list_all_returns_every_upload(site: &impl Site) {
    let store = site.open().await;
    let open = sample(1);
    let whole = Upload { length: Some(Length::new(10)), ..sample(2) };
    let received = Upload { phase: Phase::Received, lifetime: None, ..sample(3) };
    for upload in [&open, &whole, &received] {
        let created = Upload { phase: Phase::Open, ..upload.clone() };
        stored(&*store, &created, &pattern(0, 0, 10)).await;
    }
    store.commit(&received, ONE).await.expect("can be committed");
    let mut summaries = store.list_all().await.expect("can be listed");
    summaries.sort_unstable_by_key(|summary| summary.id);
    let seen = summaries
        .iter()
        .map(|summary| (summary.id, summary.stored, summary.is_open, summary.awaits_delivery));
    let ten = Offset::new(10);
    let expected =
        [(open.id, ten, true, false), (whole.id, ten, true, true), (received.id, ten, false, true)];
    assert_eq!(seen.collect::<Vec<_>>(), expected);
    assert_eq!((summaries[0].owner.as_ref(), summaries[1].length), (open.owner.as_ref(), whole.length));
    let lifetime = open.lifetime.expect("it has one");
    assert_eq!(summaries[0].expires, Some(summaries[0].touched.plus(lifetime)));
    assert_eq!(summaries[2].expires, None);
}

async fn the_time_of_the_last_change_never_decreases(site: &impl Site) {
    let store = site.open().await;
    let future = Timestamp::from_millis(32_000_000_000_000);
    let upload = Upload { touched: future, ..sample(1) };
    stored(&*store, &upload, &pattern(0, 0, 10)).await;
    assert_eq!(load(&*store, upload.id, ONE).await.touched, future);
    let upload = sample(2);
    stored(&*store, &upload, &pattern(0, 0, 10)).await;
    let touched = load(&*store, upload.id, ONE).await.touched;
    assert!(touched >= upload.touched);
    assert!(load(&*store, upload.id, Fence::new(2)).await.touched >= touched);
}

async fn the_time_of_the_last_use_is_kept(site: &impl Site) {
    let at = Timestamp::from_millis;
    let step =
        |since, by| ClockStep { since: at(since), until: at(7), by: Duration::from_millis(by), to: at(9) };
    for (millis, steps) in [(1_700_000_000_123, vec![step(0, 3), step(5, 1 << 40)]), (5, Vec::new())] {
        let noted = LastUsed { at: at(millis), steps };
        let store = site.open().await;
        store.set_last_used(&noted).await.expect("can be written");
        drop(store);
        assert_eq!(site.open().await.last_used().await.expect("can be loaded"), Some(noted));
    }
}

async fn each_group_is_listed_in_small_batches(site: &impl Site) {
    const COUNT: u64 = 400;
    let store = site.open().await;
    let mut expected = [Vec::new(), Vec::new()];
    for number in 0..COUNT {
        let upload = sample(number);
        stored(&*store, &upload, &pattern(0, 0, 10)).await;
        let is_complete = number % 3 == 0;
        if is_complete {
            store.commit(&delivered(&upload), ONE).await.expect("can be committed");
        }
        expected[usize::from(is_complete)].push(upload.id);
    }
    let listed = async |among| {
        let mut listing = store.list(among).await.expect("can be listed");
        let mut ids = Vec::new();
        while let Some(summaries) = listing.next().await.expect("can be read") {
            assert!(summaries.len() < 300, "a few at a time");
            ids.extend(summaries.into_iter().map(|summary| summary.id));
        }
        ids.sort_unstable();
        ids
    };
    for (among, expected) in [UploadGroup::Open, UploadGroup::Complete].into_iter().zip(expected) {
        assert_eq!(listed(among).await, expected, "{among:?}");
    }
}
