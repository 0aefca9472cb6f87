//! Content: every stored byte is the byte that was written, in order, for good.

use std::sync::Arc;

use bytes::Bytes;
use hoist_proto::types::{Fence, LARGEST_INTEGER, Length, Offset};
use hoist_proto::upload::Upload;
use tokio::task::JoinSet;

use super::{ONE, Site, content, create, delivered, end_of, load, pattern, sample, stored};
use crate::store::{Error, Store};

pub(super) async fn run<S: Site>(fresh: &impl Fn() -> S) {
    stored_bytes_are_read_back(&fresh()).await;
    accepted_bytes_count_without_a_sync(&fresh()).await;
    acknowledged_offsets_outlive_the_store(&fresh()).await;
    an_append_continues_at_the_offset(&fresh()).await;
    an_append_at_another_offset_fails(&fresh()).await;
    an_upload_may_be_empty(&fresh()).await;
    an_upload_is_created_with_all_its_content(&fresh()).await;
    a_length_without_space_leaves_nothing(&fresh()).await;
    discarding_content_keeps_the_offset(&fresh()).await;
    commit_and_discard_keeps_only_the_record(&fresh()).await;
    exports_overwrite_nothing(&fresh()).await;
    exports_make_directories(&fresh()).await;
    concurrent_uploads_do_not_mix(&fresh()).await;
}

/// Buffers of unusual sizes, among them one larger than an upload's queue.
const SIZES: [usize; 9] = [1, 0, 16 * 1024, 3, 256 * 1024, 5 * 1024 * 1024, 511, 1, 70_000];

// proves: TOK-CRE-01
async fn stored_bytes_are_read_back(site: &impl Site) {
    let store = site.open().await;
    let upload = sample(1);
    let mut writer = create(&*store, &upload, ONE).await;
    let mut written = 0;
    for size in SIZES {
        writer.write(pattern(0, written, size)).await.expect("bytes are accepted");
        written += size;
    }
    let synced = writer.sync().await.expect("bytes can be synced");
    assert_eq!(synced.offset(), Offset::new(written as u64), "sync covers everything accepted");
    assert_eq!(writer.sync().await.expect("a second sync has nothing to do"), synced);
    for from in [0, 1, 256 * 1024, written - 1, written, written + 7] {
        let expected = pattern(0, from.min(written), written.saturating_sub(from));
        assert!(content(&*store, upload.id, Offset::new(from as u64)).await == expected, "read from {from}");
    }
}

// proves: TOK-APP-05
async fn accepted_bytes_count_without_a_sync(site: &impl Site) {
    let store = site.open().await;
    let upload = sample(1);
    let mut writer = create(&*store, &upload, ONE).await;
    writer.write(pattern(0, 0, 100_000)).await.expect("bytes are accepted");
    // Accepted bytes are stored, for the same claim and for a newer one, whether the writer was dropped or not.
    drop(writer);
    assert_eq!(load(&*store, upload.id, ONE).await.offset.offset(), Offset::new(100_000));
    let mut writer = store.append(upload.id, Offset::new(100_000), ONE).await.expect("can continue");
    writer.write(pattern(0, 100_000, 100_000)).await.expect("bytes are accepted");
    assert_eq!(load(&*store, upload.id, Fence::new(2)).await.offset.offset(), Offset::new(200_000));
    assert!(content(&*store, upload.id, Offset::ZERO).await == pattern(0, 0, 200_000));
}

// proves: TOK-OFF-03
async fn acknowledged_offsets_outlive_the_store(site: &impl Site) {
    let upload = sample(1);
    let mut acknowledged = Offset::ZERO;
    for round in 0..4_u64 {
        let store = site.open().await;
        let mut writer = if round == 0 {
            create(&*store, &upload, ONE).await
        } else {
            let found = load(&*store, upload.id, Fence::new(round)).await;
            assert!(found.offset.offset() >= acknowledged, "an offset decreased");
            acknowledged = found.offset.offset();
            store.append(upload.id, acknowledged, Fence::new(round)).await.expect("the offset is accepted")
        };
        let at = usize::try_from(acknowledged.get()).expect("small");
        writer.write(pattern(0, at, 40_000)).await.expect("bytes are accepted");
        acknowledged = writer.sync().await.expect("bytes can be synced").offset();
        assert_eq!(acknowledged, Offset::new(at as u64 + 40_000));
        // Not acknowledged, so all, some or none of these bytes may be there next time.
        writer.write(pattern(0, at + 40_000, 1000)).await.expect("bytes are accepted");
    }
    let store = site.open().await;
    let found = load(&*store, upload.id, Fence::new(9)).await.offset.offset();
    assert!(found >= acknowledged, "an offset decreased");
    let bytes = usize::try_from(found.get()).expect("small");
    assert!(content(&*store, upload.id, Offset::ZERO).await == pattern(0, 0, bytes));
}

async fn an_append_continues_at_the_offset(site: &impl Site) {
    let store = site.open().await;
    let upload = sample(1);
    stored(&*store, &upload, &pattern(0, 0, 10)).await;
    for round in 1..20_u64 {
        let at = load(&*store, upload.id, Fence::new(round)).await.offset.offset();
        assert_eq!(at, Offset::new(round * 10));
        let mut writer = store.append(upload.id, at, Fence::new(round)).await.expect("can continue");
        let from = usize::try_from(at.get()).expect("small");
        writer.write(pattern(0, from, 10)).await.expect("bytes are accepted");
        if round % 2 == 0 {
            writer.sync().await.expect("bytes can be synced");
        }
    }
    load(&*store, upload.id, Fence::new(99)).await;
    assert!(content(&*store, upload.id, Offset::ZERO).await == pattern(0, 0, 200));
}

async fn an_append_at_another_offset_fails(site: &impl Site) {
    let store = site.open().await;
    let upload = sample(1);
    stored(&*store, &upload, &pattern(0, 0, 10)).await;
    for wrong in [0, 9, 11, u64::MAX] {
        let refused = store.append(upload.id, Offset::new(wrong), ONE).await.err();
        assert!(matches!(refused, Some(Error::Damaged(_))), "append at {wrong}: {refused:?}");
    }
    store.commit(&delivered(&upload), ONE).await.expect("can be committed");
    let refused = store.append(upload.id, Offset::new(10), ONE).await.err();
    assert!(matches!(refused, Some(Error::Missing)), "append to a complete upload: {refused:?}");
    assert!(content(&*store, upload.id, Offset::ZERO).await == pattern(0, 0, 10));
}

async fn an_upload_may_be_empty(site: &impl Site) {
    let upload = super::Upload { length: Some(Length::new(0)), ..sample(1) };
    {
        let store = site.open().await;
        let mut writer = create(&*store, &upload, ONE).await;
        assert_eq!(writer.sync().await.expect("nothing can be synced").offset(), Offset::ZERO);
        store.commit(&delivered(&upload), ONE).await.expect("can be committed");
    }
    let store = site.open().await;
    let found = load(&*store, upload.id, ONE).await;
    assert_eq!((found.offset.offset(), found.is_complete()), (Offset::ZERO, true));
    assert!(content(&*store, upload.id, Offset::ZERO).await.is_empty());
}

async fn an_upload_is_created_with_all_its_content(site: &impl Site) {
    let store = site.open().await;
    for (number, sizes) in [(1, &[3, 0, 20_000][..]), (2, &[]), (3, &[1])] {
        let length = sizes.iter().sum::<usize>();
        let upload = Upload { length: Some(Length::new(length as u64)), ..delivered(&sample(number)) };
        let mut at = 0;
        let pieces = sizes.iter().map(|&size| {
            at += size;
            pattern(0, at - size, size)
        });
        let end = store.create_whole(&upload, pieces.collect(), ONE).await.expect("a free id can be created");
        assert_eq!(end.offset(), Offset::new(length as u64));
        let again = store.create_whole(&upload, Vec::new(), Fence::new(2)).await;
        assert!(matches!(again, Err(Error::Exists)), "{again:?}");
        assert!(matches!(store.create(&sample(number), Fence::new(2)).await.map(drop), Err(Error::Exists)));
        let loaded = load(&*store, upload.id, ONE).await;
        assert_eq!(loaded, Upload { offset: end, touched: loaded.touched, ..upload.clone() });
    }
    drop(store);
    let store = site.open().await;
    for (number, length) in [(1, 20_003), (2, 0), (3, 1)] {
        let loaded = load(&*store, sample(number).id, ONE).await;
        assert_eq!(
            (loaded.offset.offset(), loaded.phase),
            (Offset::new(length as u64), delivered(&sample(number)).phase)
        );
        assert!(content(&*store, loaded.id, Offset::ZERO).await == pattern(0, 0, length));
    }
    let open = store.create_whole(&sample(4), vec![pattern(0, 0, 5)], ONE).await;
    assert!(open.is_err(), "it accepts more bytes");
    store.remove(sample(1).id, Fence::new(2)).await.expect("removed");
    let again = store.create_whole(&delivered(&sample(1)), Vec::new(), Fence::new(3)).await;
    assert_eq!(again.expect("the id is free").offset(), Offset::ZERO);
    let fenced = store.commit(&delivered(&sample(1)), Fence::new(2)).await;
    assert!(matches!(fenced, Err(Error::Fenced)), "it has taken the fence");
}

async fn a_length_without_space_leaves_nothing(site: &impl Site) {
    let store = site.open().await;
    let upload = super::Upload { length: Some(Length::new(LARGEST_INTEGER)), ..sample(1) };
    match store.create(&upload, ONE).await {
        Ok(_) => {}
        Err(Error::Full) => {
            assert!(store.load(upload.id, ONE).await.expect("can be loaded").is_none());
            assert!(store.list_all().await.expect("can be listed").is_empty());
            let small = super::Upload { length: Some(Length::new(10)), ..upload };
            create(&*store, &small, ONE).await;
        }
        Err(error) => panic!("a length without room is refused as full, not: {error}"),
    }
}

async fn discarding_content_keeps_the_offset(site: &impl Site) {
    let upload = sample(1);
    {
        let store = site.open().await;
        stored(&*store, &upload, &pattern(0, 0, 1000)).await;
        assert!(store.discard(upload.id, ONE).await.is_err(), "an incomplete upload needs its content");
        store.commit(&delivered(&upload), ONE).await.expect("can be committed");
        store.discard(upload.id, ONE).await.expect("can be discarded");
        store.discard(upload.id, ONE).await.expect("can be discarded again");
    }
    let store = site.open().await;
    let found = load(&*store, upload.id, ONE).await;
    assert_eq!(found.offset.offset(), Offset::new(1000));
    assert_eq!(found.phase, delivered(&upload).phase);
    assert!(matches!(store.read(upload.id, Offset::ZERO).await.err(), Some(Error::Missing)));
    let exported = store.export(upload.id, site.directory(), "late", ONE).await;
    assert!(matches!(exported, Err(Error::Missing)));
    assert_eq!(store.list_all().await.expect("can be listed")[0].stored, Offset::new(1000));
    store.commit(&found, ONE).await.expect("can be committed");
    assert_eq!(load(&*store, upload.id, ONE).await.offset.offset(), Offset::new(1000));
    store.remove(upload.id, ONE).await.expect("can be removed");
}

async fn commit_and_discard_keeps_only_the_record(site: &impl Site) {
    let upload = sample(1);
    {
        let store = site.open().await;
        stored(&*store, &upload, &pattern(0, 0, 1000)).await;
        assert!(
            store.commit_and_discard(&upload, ONE).await.is_err(),
            "an incomplete upload needs its content"
        );
        assert_eq!(load(&*store, upload.id, ONE).await.offset.offset(), Offset::new(1000));
        let mut writer = store.append(upload.id, Offset::new(1000), ONE).await.expect("continues");
        writer.write(pattern(0, 1000, 1000)).await.expect("bytes are accepted");
        store.commit_and_discard(&delivered(&upload), ONE).await.expect("can be committed");
        assert!(matches!(writer.write(pattern(0, 2000, 1)).await, Err(Error::Fenced)));
        store.commit_and_discard(&delivered(&upload), ONE).await.expect("can be committed again");
    }
    let store = site.open().await;
    let found = load(&*store, upload.id, ONE).await;
    assert_eq!((found.offset.offset(), found.phase), (Offset::new(2000), delivered(&upload).phase));
    assert!(matches!(store.read(upload.id, Offset::ZERO).await.err(), Some(Error::Missing)));
    assert_eq!(store.list_all().await.expect("can be listed")[0].stored, Offset::new(2000));
    store.remove(upload.id, ONE).await.expect("can be removed");
}

async fn exports_overwrite_nothing(site: &impl Site) {
    let store = site.open().await;
    let mut names = Vec::new();
    for number in 0..3 {
        let upload = sample(number);
        let bytes = pattern(u8::try_from(number).expect("small"), 0, 5000);
        stored(&*store, &upload, &bytes).await;
        store.commit(&delivered(&upload), ONE).await.expect("can be committed");
        let name = store.export(upload.id, site.directory(), "report.final.pdf", ONE).await.expect("exports");
        let again =
            store.export(upload.id, site.directory(), "report.final.pdf", ONE).await.expect("exports");
        assert_eq!(name, again, "repeated, it finds the same name");
        let (stem, extension) = name.rsplit_once('.').expect("the extension stays");
        assert!(stem.starts_with("report.final") && extension == "pdf", "{name}");
        assert!(!names.contains(&name), "{name} is taken");
        assert!(site.exported(&name).as_deref() == Some(&bytes[..]), "{name} holds the upload");
        names.push(name);
        // An exported file stays, whatever happens to the upload.
        store.discard(upload.id, ONE).await.expect("can be discarded");
    }
    assert_eq!(names[0], "report.final.pdf");
    store.remove(sample(0).id, ONE).await.expect("can be removed");
    assert!(site.exported(&names[0]).as_deref() == Some(&pattern(0, 0, 5000)[..]));
    let upload = sample(9);
    stored(&*store, &upload, &pattern(0, 0, 1)).await;
    for wrong in
        ["", ".", "..", "a/", "/a", "../a", "a//b", "a/./b", "a/../b", "a\0", "a\0/b", &"a/".repeat(64)]
    {
        assert!(store.export(upload.id, site.directory(), wrong, ONE).await.is_err(), "{wrong:?}");
    }
}

async fn exports_make_directories(site: &impl Site) {
    let store = site.open().await;
    let export = async |number: u64, name: &str| {
        let upload = sample(number);
        let bytes = pattern(u8::try_from(number).expect("small"), 0, 500);
        stored(&*store, &upload, &bytes).await;
        store.commit(&delivered(&upload), ONE).await.expect("can be committed");
        let exported = store.export(upload.id, site.directory(), name, ONE).await.expect("exports");
        let again = store.export(upload.id, site.directory(), name, ONE).await.expect("exports");
        assert_eq!(exported, again, "repeated, it finds the same name");
        assert!(site.exported(&exported).as_deref() == Some(&bytes[..]), "{exported} holds the upload");
        exported
    };
    assert_eq!(export(0, "films/old/a.mkv").await, "films/old/a.mkv");
    assert_eq!(export(1, "films/new/a.mkv").await, "films/new/a.mkv");
    // The name of a file is taken by a file, or by a directory.
    for (number, name, directory) in [(2, "films/old/a.mkv", "films/old/"), (3, "films/old", "films/")] {
        let exported = export(number, name).await;
        assert!(exported != name && exported.starts_with(directory), "{exported}");
    }
    // The name of a directory is taken by a file.
    assert_eq!(export(4, "song").await, "song");
    assert_eq!(export(5, "song/old/a.ogg").await, "song-dir/old/a.ogg");
    assert_eq!(export(6, "song/b.ogg").await, "song-dir/b.ogg", "files that belong together stay together");
    assert_eq!(export(7, "films/old/a.mkv/b").await, "films/old/a.mkv-dir/b");
}

async fn concurrent_uploads_do_not_mix(site: &impl Site) {
    let store = site.open().await;
    let mut uploads = JoinSet::new();
    for number in 0..48_u8 {
        let store: Arc<dyn Store> = Arc::clone(&store);
        uploads.spawn(async move {
            let upload = sample(number.into());
            let mut writer = create(&*store, &upload, ONE).await;
            let mut written = 0;
            for size in [1, 1000, 65_536, 17, 262_144, usize::from(number) * 100] {
                writer.write(pattern(number, written, size)).await.expect("bytes are accepted");
                written += size;
                if size == 17 {
                    writer.sync().await.expect("bytes can be synced");
                }
            }
            let bytes = pattern(number, 0, written);
            assert_eq!(writer.sync().await.expect("bytes can be synced").offset(), end_of(&bytes));
            store.commit(&delivered(&upload), ONE).await.expect("can be committed");
            check(&*store, &upload, &bytes).await;
        });
    }
    while let Some(done) = uploads.join_next().await {
        done.expect("concurrent uploads succeed");
    }
    assert_eq!(store.list_all().await.expect("can be listed").len(), 48);
}

async fn check(store: &dyn Store, upload: &super::Upload, bytes: &Bytes) {
    assert!(content(store, upload.id, Offset::ZERO).await == *bytes);
    assert_eq!(load(store, upload.id, ONE).await.offset.offset(), end_of(bytes));
}
