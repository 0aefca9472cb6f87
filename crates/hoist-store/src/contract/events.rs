//! Events: pending, delivered, of removed uploads, and dead.

use std::sync::Arc;

use hoist_proto::types::{Fence, Length, Offset, Timestamp};
use hoist_proto::upload::{EventKind, EventRequest, GivenUp, PendingEvent, SinkKey, Upload};
use http::{HeaderMap, HeaderValue, Method};

use super::{ONE, Site, create, delivered, end_of, load, pattern, sample};
use crate::store::{Delivery, Error, EventSource, Outbox, PendingSource, Store, UploadGroup};

pub(super) async fn run<S: Site>(fresh: &impl Fn() -> S) {
    if fresh().open().await.outbox().is_none() {
        return;
    }
    events_are_durable_with_the_change_they_tell_of(&fresh()).await;
    an_event_is_pending_until_it_is_delivered(&fresh()).await;
    a_removed_upload_keeps_the_events_that_were_not_delivered(&fresh()).await;
    uploads_of_one_id_keep_their_events_apart(&fresh()).await;
    a_removal_that_is_refused_keeps_no_events(&fresh()).await;
    a_note_follows_an_upload_that_was_removed(&fresh()).await;
    a_dead_event_is_kept_revived_and_dropped(&fresh()).await;
}

const A: SinkKey = SinkKey::from_bits([10; 8]);
const B: SinkKey = SinkKey::from_bits([11; 8]);

fn event(kind: EventKind, sinks: &[SinkKey]) -> PendingEvent {
    let fields = HeaderMap::from_iter([(http::header::CONTENT_TYPE, HeaderValue::from_static("text/plain"))]);
    let (uri, remote) = ("/uploads".to_owned(), "192.0.2.7:4711".to_owned());
    PendingEvent {
        kind,
        at: Timestamp::from_millis(1_700_000_000_123),
        offset: Offset::ZERO,
        length: None,
        sinks: sinks.to_vec(),
        request: Some(Arc::new(EventRequest { method: Method::POST, uri, remote, fields })),
        given_up: None,
        retried: None,
    }
}

fn created(number: u64) -> Upload {
    Upload { events: vec![event(EventKind::Created, &[A, B])], ..sample(number) }
}

fn finished(upload: &Upload) -> Upload {
    let mut upload = delivered(upload);
    upload.events.push(event(EventKind::Finished, &[A]));
    upload
}

fn outbox(store: &dyn Store) -> &dyn Outbox {
    store.outbox().expect("it had one before")
}

/// Returns the events that are pending at a source, and their sinks.
async fn pending(store: &dyn Store, source: EventSource) -> Vec<Delivery> {
    let found = outbox(store).pending(source).await.expect("can be read");
    let events = found.map(|upload| upload.events).unwrap_or_default();
    let deliveries = |event: PendingEvent| event.sinks.into_iter().map(move |sink| (event.kind, sink));
    events.into_iter().flat_map(deliveries).collect()
}

async fn removed(store: &dyn Store) -> Vec<PendingSource> {
    let mut listing = outbox(store).list_removed().await.expect("can be listed");
    let mut all = Vec::new();
    while let Some(sources) = listing.next().await.expect("can be read") {
        all.extend(sources);
    }
    all.sort_by_key(|pending| pending.source);
    all
}

async fn events_are_durable_with_the_change_they_tell_of(site: &impl Site) {
    let (open, whole, changing) = (created(1), finished(&created(2)), created(3));
    {
        let store = site.open().await;
        // Not synced by its writer: reading the event makes durable what it tells of.
        let writer = create(&*store, &open, ONE).await;
        let stored = EventSource::Stored(open.id);
        assert_eq!(pending(&*store, stored).await, [(EventKind::Created, A), (EventKind::Created, B)]);
        drop(writer);
        let content = vec![pattern(0, 0, 700)];
        store.create_whole(&whole, content, ONE).await.expect("can be created");
        create(&*store, &changing, ONE).await.sync().await.expect("can be synced");
        store.commit(&finished(&changing), ONE).await.expect("can be committed");
    }
    let store = site.open().await;
    assert_eq!(load(&*store, open.id, ONE).await.events, open.events);
    assert_eq!(load(&*store, whole.id, ONE).await.events, whole.events);
    assert_eq!(load(&*store, changing.id, ONE).await.events, finished(&changing).events);
    let all = [(EventKind::Created, A), (EventKind::Created, B), (EventKind::Finished, A)];
    assert_eq!(pending(&*store, EventSource::Stored(whole.id)).await, all);
    let found = outbox(&*store).pending(EventSource::Stored(whole.id)).await.expect("can be read");
    assert_eq!(found.map(|upload| upload.offset.offset()), Some(Offset::new(700)));
    let summaries = store.list_all().await.expect("can be listed");
    let sinks = summaries.into_iter().map(|summary| summary.pending_sinks).collect::<Vec<_>>();
    assert_eq!(sinks, [vec![A, B], vec![A, B, A], vec![A, B, A]]);
    assert_eq!(pending(&*store, EventSource::Stored(sample(9).id)).await, [], "of an unknown upload");
    assert_eq!(pending(&*store, EventSource::Removed(open.id, 7)).await, [], "of an unknown removal");
}

async fn an_event_is_pending_until_it_is_delivered(site: &impl Site) {
    let store = site.open().await;
    let upload = created(1);
    let stored = EventSource::Stored(upload.id);
    let mut writer = create(&*store, &upload, ONE).await;
    writer.sync().await.expect("can be synced");
    let mark = async |deliveries: &[Delivery]| {
        outbox(&*store).mark_delivered(stored, &upload, deliveries).await.expect("can be noted");
    };
    mark(&[(EventKind::Created, B)]).await;
    assert_eq!(pending(&*store, stored).await, [(EventKind::Created, A)]);
    assert_eq!(load(&*store, upload.id, ONE).await.events, upload.events, "the record is as before");
    store.commit(&finished(&upload), ONE).await.expect("can be committed");
    assert_eq!(pending(&*store, stored).await, [(EventKind::Created, A), (EventKind::Finished, A)]);
    mark(&[(EventKind::Created, A)]).await;
    mark(&[(EventKind::Created, A), (EventKind::Failed, B)]).await;
    assert_eq!(pending(&*store, stored).await, [(EventKind::Finished, A)]);
    let summaries = store.list_all().await.expect("can be listed");
    assert_eq!(summaries[0].pending_sinks, [A]);
    mark(&[(EventKind::Finished, A)]).await;
    assert_eq!(pending(&*store, stored).await, []);
    assert!(outbox(&*store).pending(stored).await.expect("can be read").is_none());
    // After a crash an event may be pending again, but none is lost.
    drop((writer, store));
    let store = site.open().await;
    let again = pending(&*store, stored).await;
    assert!(
        again.is_empty()
            || again == [(EventKind::Created, A), (EventKind::Created, B), (EventKind::Finished, A)]
    );
    store.remove(upload.id, Fence::new(2)).await.expect("can be removed");
}

async fn a_removed_upload_keeps_the_events_that_were_not_delivered(site: &impl Site) {
    let bytes = pattern(1, 0, 3000);
    for (number, is_complete) in [(1, false), (2, true)] {
        let upload = created(number);
        let store = site.open().await;
        let mut writer = create(&*store, &upload, ONE).await;
        writer.write(bytes.clone()).await.expect("bytes are accepted");
        writer.sync().await.expect("can be synced");
        if is_complete {
            store.commit(&finished(&upload), ONE).await.expect("can be committed");
        }
        let stored = EventSource::Stored(upload.id);
        outbox(&*store)
            .mark_delivered(stored, &upload, &[(EventKind::Created, A)])
            .await
            .expect("can be noted");
        let mut last = load(&*store, upload.id, Fence::new(2)).await;
        last.events.push(event(EventKind::Terminated, &[B]));
        let source = outbox(&*store).remove_with_events(&last, Fence::new(2)).await.expect("can be removed");
        let source = source.expect("not all was delivered");
        assert!(matches!(source, EventSource::Removed(id, _) if id == upload.id), "{source:?}");
        assert!(matches!(writer.write(pattern(1, 0, 1)).await, Err(Error::Fenced)));
        drop((writer, store));
        let store = site.open().await;
        assert!(store.load(upload.id, ONE).await.expect("can be loaded").is_none(), "removed for good");
        let mut expected = vec![(EventKind::Created, B), (EventKind::Terminated, B)];
        if is_complete {
            expected.insert(1, (EventKind::Finished, A));
        }
        assert_eq!(pending(&*store, source).await, expected);
        let found = outbox(&*store).pending(source).await.expect("can be read").expect("is pending");
        assert_eq!(found.offset.offset(), end_of(&bytes));
        assert_eq!((&found.origin, found.created), (&last.origin, last.created));
        let sinks = expected.iter().map(|(_, sink)| *sink).collect();
        assert_eq!(removed(&*store).await, [PendingSource { source, sinks }]);
        while let Some(&delivery) = expected.first() {
            outbox(&*store).mark_delivered(source, &found, &[delivery]).await.expect("can be noted");
            expected.remove(0);
            assert_eq!(pending(&*store, source).await, expected);
        }
        assert_eq!(removed(&*store).await, [], "it is no longer needed");
        drop(store);
        assert_eq!(removed(&*site.open().await).await, []);
    }
    // If all was delivered before, nothing is kept.
    let store = site.open().await;
    let upload = created(3);
    create(&*store, &upload, ONE).await.sync().await.expect("can be synced");
    let all = [(EventKind::Created, A), (EventKind::Created, B)];
    let stored = EventSource::Stored(upload.id);
    outbox(&*store).mark_delivered(stored, &upload, &all).await.expect("can be noted");
    let source = outbox(&*store).remove_with_events(&upload, Fence::new(2)).await.expect("can be removed");
    assert_eq!(source, None);
    assert!(store.load(upload.id, Fence::new(2)).await.expect("can be loaded").is_none());
    assert_eq!(removed(&*store).await, []);
}

async fn uploads_of_one_id_keep_their_events_apart(site: &impl Site) {
    let store = site.open().await;
    let mut sources = Vec::new();
    // The third one was created at the time of the second one.
    for (fence, millis) in [(1, 1_700_000_000_000), (2, 1_700_000_000_001), (3, 1_700_000_000_001)] {
        let upload = Upload { created: Timestamp::from_millis(millis), ..created(1) };
        create(&*store, &upload, Fence::new(fence)).await.sync().await.expect("can be synced");
        let removing = outbox(&*store).remove_with_events(&upload, Fence::new(fence));
        sources.extend(removing.await.expect("can be removed"));
    }
    assert_eq!(sources.len(), 3);
    assert!(sources.is_sorted(), "in the order of the uploads");
    let now = Upload { created: Timestamp::from_millis(1_700_000_000_005), ..created(1) };
    create(&*store, &now, Fence::new(4)).await.sync().await.expect("can be synced");
    let all = [(EventKind::Created, A), (EventKind::Created, B)];
    let (first, stored) = (
        Upload { created: Timestamp::from_millis(1_700_000_000_000), ..created(1) },
        EventSource::Stored(now.id),
    );
    // A late note of the first upload, as if it were still there.
    outbox(&*store).mark_delivered(stored, &first, &all).await.expect("can be noted");
    assert_eq!(pending(&*store, stored).await, all);
    assert_eq!(pending(&*store, sources[0]).await, []);
    assert_eq!(pending(&*store, sources[1]).await, all);
    assert_eq!(removed(&*store).await.len(), 2);
    drop(store);
    let store = site.open().await;
    assert_eq!(load(&*store, now.id, ONE).await.created, now.created, "the new upload is untouched");
    assert_eq!(removed(&*store).await.len(), 2);
}

async fn a_removal_that_is_refused_keeps_no_events(site: &impl Site) {
    let store = site.open().await;
    let upload = created(1);
    let missing = outbox(&*store).remove_with_events(&upload, ONE).await;
    assert!(matches!(missing, Err(Error::Missing)), "{missing:?}");
    create(&*store, &upload, Fence::new(5)).await.sync().await.expect("can be synced");
    let late = outbox(&*store).remove_with_events(&upload, Fence::new(4)).await;
    assert!(matches!(late, Err(Error::Fenced)), "{late:?}");
    assert_eq!(removed(&*store).await, []);
    assert_eq!(load(&*store, upload.id, Fence::new(5)).await.events, upload.events);
}

async fn a_note_follows_an_upload_that_was_removed(site: &impl Site) {
    let store = site.open().await;
    let upload = created(1);
    create(&*store, &upload, ONE).await.sync().await.expect("can be synced");
    let removing = outbox(&*store).remove_with_events(&upload, Fence::new(2));
    let source = removing.await.expect("can be removed").expect("not all was delivered");
    let stored = EventSource::Stored(upload.id);
    outbox(&*store).mark_delivered(stored, &upload, &[(EventKind::Created, B)]).await.expect("can be noted");
    assert_eq!(pending(&*store, source).await, [(EventKind::Created, A)]);
}

async fn a_dead_event_is_kept_revived_and_dropped(site: &impl Site) {
    let upload = finished(&Upload { length: Some(Length::new(7)), ..created(1) });
    let stored = EventSource::Stored(upload.id);
    let given_up = GivenUp { at: Timestamp::from_millis(7), attempts: 3, why: "answered 500".to_owned() };
    let dead = PendingEvent { given_up: Some(given_up), ..upload.events[0].clone() };
    let name = format!("{}.created.{B}", upload.id);
    {
        let store = site.open().await;
        store.create_whole(&upload, vec![pattern(0, 0, 7)], ONE).await.expect("can be created");
        assert_eq!(outbox(&*store).dead(None, 9).await.expect("can be listed"), []);
        for _ in 0..2 {
            outbox(&*store).bury(stored, &upload, &dead, B).await.expect("can be buried");
            let left = [(EventKind::Created, A), (EventKind::Finished, A)];
            assert_eq!(pending(&*store, stored).await, left);
        }
        // A later upload with the same id.
        let later = Upload { created: Timestamp::from_millis(1_800_000_000_000), ..upload.clone() };
        outbox(&*store)
            .bury(EventSource::Removed(upload.id, 9), &later, &dead, B)
            .await
            .expect("can be buried");
    }
    let store = site.open().await;
    let found = outbox(&*store).dead(None, 9).await.expect("can be listed");
    let names = found.iter().map(|dead| dead.name.clone()).collect::<Vec<_>>();
    assert_eq!(names, [name.clone(), format!("{name}.1")]);
    let first = found[0].upload.as_ref().expect("can be read");
    assert_eq!(first.events, [PendingEvent { sinks: vec![B], ..dead.clone() }]);
    assert_eq!((first.id, first.length, &first.phase), (upload.id, upload.length, &upload.phase));
    let listed = async |after, most| {
        let found = outbox(&*store).dead(after, most).await.expect("can be listed");
        found.into_iter().map(|dead| dead.name).collect::<Vec<_>>()
    };
    assert_eq!(listed(None, 1).await, names[..1]);
    assert_eq!(listed(Some(name.as_str()), 9).await, names[1..]);
    let now = Timestamp::from_millis(1_900_000_000_000);
    for unknown in ["", "x", "../../etc/passwd", "../open", &name[..name.len() - 1], &format!("{name}.2")] {
        assert_eq!(outbox(&*store).revive(unknown, now).await.expect("is no failure"), None, "{unknown}");
        assert!(!outbox(&*store).drop_dead(unknown).await.expect("is no failure"), "{unknown}");
    }
    let source = outbox(&*store).revive(&name, now).await.expect("can be revived").expect("it is dead");
    let found = outbox(&*store).pending(source).await.expect("can be read").expect("is pending");
    let revived = PendingEvent { sinks: vec![B], given_up: None, retried: Some(now), ..dead };
    assert_eq!(found.events, [revived]);
    assert_eq!(listed(None, 9).await, names[1..]);
    assert!(outbox(&*store).drop_dead(&names[1]).await.expect("can be dropped"));
    assert_eq!(listed(None, 9).await, Vec::<String>::new());
    assert_eq!(store.list(UploadGroup::Complete).await.map(drop).ok(), Some(()));
    drop(store);
    let store = site.open().await;
    assert_eq!(pending(&*store, source).await, [(EventKind::Created, B)]);
    outbox(&*store).mark_delivered(source, &found, &[(EventKind::Created, B)]).await.expect("can be noted");
    assert_eq!(removed(&*store).await, []);
}
