//! Pages of a group of uploads, and the positions between them.

use std::collections::HashSet;

use hoist_proto::types::UploadId;

use super::{ONE, Site, create, delivered, pattern, sample, stored};
use crate::store::{Error, Page, Position, Store, UploadGroup};

pub(super) async fn run<S: Site>(fresh: &impl Fn() -> S) {
    a_page_has_at_most_as_many_uploads_as_asked_for(&fresh()).await;
    each_upload_is_on_one_page_while_others_come_and_go(&fresh()).await;
    a_page_tells_the_properties_of_an_upload(&fresh()).await;
    a_text_that_is_no_position_is_refused(&fresh()).await;
}

async fn a_page_has_at_most_as_many_uploads_as_asked_for(site: &impl Site) {
    let store = site.open().await;
    assert_eq!(page(&*store, UploadGroup::Open, None, 10).await, Page::default(), "empty");
    for number in 0..7 {
        create(&*store, &sample(number), ONE).await.sync().await.expect("can be synced");
    }
    for (reads_max, sizes) in
        [(3, vec![3, 3, 1]), (7, vec![7]), (100, vec![7]), (1, vec![1; 7]), (0, vec![1; 7])]
    {
        let (mut from, mut seen) = (None, Vec::new());
        loop {
            let page = page(&*store, UploadGroup::Open, from.as_ref(), reads_max).await;
            seen.push(page.uploads.len());
            match page.next {
                Some(next) if seen.len() < 20 => from = Some(next),
                _ => break,
            }
        }
        assert_eq!(seen, sizes, "pages of {reads_max}");
    }
    assert_eq!(page(&*store, UploadGroup::Complete, None, 10).await, Page::default(), "another group");
}

async fn each_upload_is_on_one_page_while_others_come_and_go(site: &impl Site) {
    const STAY: u64 = 60;
    let store = site.open().await;
    let (stay, leave) = (0..STAY, STAY..2 * STAY);
    for number in stay.clone().chain(leave.clone()) {
        create(&*store, &sample(number), ONE).await.sync().await.expect("can be synced");
    }
    let (mut leaving, mut coming) = (leave, 1000..);
    let (mut from, mut seen) = (None, Vec::new());
    loop {
        let page = page(&*store, UploadGroup::Open, from.as_ref(), 7).await;
        seen.extend(page.uploads.iter().map(|summary| summary.id));
        let Some(next) = page.next else { break };
        assert!(seen.len() < 1000, "the pages never end");
        from = Some(next);
        for number in leaving.by_ref().take(3) {
            store.remove(sample(number).id, ONE).await.expect("can be removed");
        }
        for number in coming.by_ref().take(2) {
            create(&*store, &sample(number), ONE).await.sync().await.expect("can be synced");
        }
    }
    let distinct: HashSet<UploadId> = seen.iter().copied().collect();
    assert_eq!(distinct.len(), seen.len(), "an upload is on two pages");
    for number in stay {
        assert!(distinct.contains(&sample(number).id), "upload {number} is on no page");
    }
}

async fn a_page_tells_the_properties_of_an_upload(site: &impl Site) {
    let store = site.open().await;
    let upload = sample(1);
    stored(&*store, &upload, &pattern(0, 0, 10)).await;
    store.commit(&delivered(&upload), ONE).await.expect("can be committed");
    let page = page(&*store, UploadGroup::Complete, None, 10).await;
    let [summary] = &page.uploads[..] else { panic!("{page:?}") };
    assert_eq!((summary.id, summary.stored.get(), summary.is_open), (upload.id, 10, false));
    assert_eq!(
        (&summary.owner, summary.family, &summary.origin),
        (&upload.owner, upload.family, &upload.origin)
    );
    assert_eq!(
        (summary.created, summary.has_failed, summary.awaits_delivery),
        (upload.created, false, false)
    );
}

async fn a_text_that_is_no_position_is_refused(site: &impl Site) {
    let store = site.open().await;
    create(&*store, &sample(1), ONE).await.sync().await.expect("can be synced");
    for text in ["-1", "x", "99999999999999999999", "1_000"] {
        let position = Position::new(text).expect("plain");
        let refused = store.page(UploadGroup::Open, Some(&position), 10).await;
        assert!(matches!(refused, Err(Error::BadPosition)), "{text}: {refused:?}");
    }
}

async fn page(store: &dyn Store, group: UploadGroup, from: Option<&Position>, reads_max: usize) -> Page {
    store.page(group, from, reads_max).await.expect("can be read")
}
