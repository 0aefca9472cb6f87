//! Tests of the store in memory: the contract with and without faults, and crashes.

#[cfg(feature = "contract")]
mod fulfils_the_contract {
    use std::path::Path;
    use std::sync::Arc;

    use super::super::{Faults, MemoryStore};
    use crate::contract::{self, Site};
    use crate::store::{BoxFuture, Store};

    struct Memory(MemoryStore);

    impl Site for Memory {
        fn open(&self) -> BoxFuture<'_, Arc<dyn Store>> {
            self.0.crash();
            Box::pin(async { Arc::new(self.0.clone()) as Arc<dyn Store> })
        }

        fn directory(&self) -> &Path {
            Path::new("exports")
        }

        fn exported(&self, name: &str) -> Option<Vec<u8>> {
            self.0.exported(self.directory(), name)
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn at_once() {
        contract::run(|| Memory(MemoryStore::new())).await;
    }

    #[tokio::test]
    async fn with_delays() {
        for seed in 0..5 {
            let faults = Faults { yields_max: 4, ..Faults::NONE };
            contract::run(|| Memory(MemoryStore::with_faults(seed, faults))).await;
        }
    }
}

mod simulated {
    use std::time::Duration;

    use bytes::Bytes;
    use hoist_proto::testing;
    use hoist_proto::types::{Durable, Fence, Offset, Timestamp, UploadId};
    use hoist_proto::upload::{
        Completion, Composition, Excess, Family, Interruption, Phase, Semantics, TargetResponse, Upload,
    };
    use http::StatusCode;

    use super::super::faults::Random;
    use super::super::{Faults, MemoryStore};
    use crate::store::{Error, Store};

    fn upload(number: u8) -> Upload {
        Upload {
            family: Family::Ietf,
            semantics: Semantics {
                completion: Completion::Explicit,
                excess: Excess::Keeps,
                interruption: Interruption::Resumes,
            },
            created: Timestamp::from_millis(1000),
            touched: Timestamp::from_millis(1000),
            lifetime: Some(Duration::from_secs(9)),
            ..testing::upload(UploadId::from_bits([number; 16]))
        }
    }

    /// Runs a future without a runtime. The store wakes it itself.
    fn run<T>(future: impl Future<Output = T>) -> T {
        let mut future = std::pin::pin!(future);
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        loop {
            if let std::task::Poll::Ready(done) = future.as_mut().poll(&mut context) {
                return done;
            }
        }
    }

    /// Uploads interrupted by seeded faults and crashes. Each is completed, and no acknowledged offset ever decreases.
    // proves: TOK-OFF-03
    #[test]
    fn every_acknowledged_byte_survives() {
        for seed in 0..300 {
            let faults = Faults { error: 0.05, yields_max: 2, ..Faults::NONE };
            let store = MemoryStore::with_faults(seed, faults);
            let mut random = Random::new(!seed);
            let upload = upload(1);
            let (mut acknowledged, mut fence) = (Offset::ZERO, 0);
            while acknowledged < Offset::new(100) {
                fence += 1;
                if let Some(offset) =
                    run(attempt(&store, &upload, Fence::new(fence), acknowledged, &mut random))
                {
                    assert!(offset >= acknowledged, "seed {seed}: {acknowledged} became {offset}");
                    assert!(store.synced(upload.id).is_some_and(|synced| synced >= offset), "seed {seed}");
                    acknowledged = offset;
                }
                if random.below(3) == 0 {
                    store.crash();
                    fence = 0;
                }
            }
        }
    }

    /// One request of a client to which `told` was acknowledged. Returns the offset that is acknowledged afterwards.
    async fn attempt(
        store: &MemoryStore,
        upload: &Upload,
        fence: Fence,
        acknowledged: Offset,
        random: &mut Random,
    ) -> Option<Offset> {
        let mut writer = if let Some(found) = store.load(upload.id, fence).await.ok()? {
            let at = found.offset.offset();
            assert!(at >= acknowledged, "{acknowledged} became {at}");
            store.append(upload.id, at, fence).await.ok()?
        } else {
            assert_eq!(acknowledged, Offset::ZERO, "an acknowledged upload is gone");
            store.create(upload, fence).await.ok()?
        };
        for _ in 0..random.below(4) {
            writer.write(Bytes::from_static(b"0123456789")).await.ok()?;
        }
        if random.below(5) == 0 {
            store.crash();
            assert!(writer.write(Bytes::from_static(b"late")).await.is_err(), "a dead writer writes");
        }
        writer.sync().await.ok().map(Durable::offset)
    }

    /// Requests whose content turns out right or wrong at the end, with seeded crashes and faults. Other bytes may be
    /// lost, but no unverified byte is ever read.
    // proves: TUS1-CHK-03
    #[test]
    fn no_unverified_byte_survives() {
        let (mut confirmed, mut cut) = (0, 0);
        for seed in 0..300 {
            let store = MemoryStore::with_faults(seed, Faults { error: 0.05, yields_max: 2, ..Faults::NONE });
            let mut random = Random::new(!seed);
            let (upload, mut fence) = (upload(1), 0);
            for _ in 0..20 {
                fence += 1;
                let is_right = random.below(2) == 0;
                let acknowledged =
                    run(unverified_request(&store, &upload, Fence::new(fence), is_right, &mut random));
                confirmed += usize::from(is_right && acknowledged.is_some());
                if random.below(3) == 0 {
                    store.crash();
                    fence = 0;
                }
                let Some(bytes) = run(read(&store, &upload)) else { continue };
                assert!(bytes.iter().all(|byte| *byte == b'y'), "seed {seed}: {bytes:?}");
                assert!(
                    acknowledged.is_none_or(|acknowledged| bytes.len() as u64 >= acknowledged.get()),
                    "seed {seed}"
                );
                cut += usize::from(!is_right);
            }
        }
        assert!(confirmed > 500 && cut > 500, "{confirmed} {cut}");
    }

    /// One request of ten unverified bytes. Returns the acknowledged offset if they were right, complete and
    /// acknowledged.
    async fn unverified_request(
        store: &MemoryStore,
        upload: &Upload,
        fence: Fence,
        is_right: bool,
        random: &mut Random,
    ) -> Option<Offset> {
        let mut writer = match store.load(upload.id, fence).await.ok()? {
            Some(found) => store.append(upload.id, found.offset.offset(), fence).await.ok()?,
            None => store.create(upload, fence).await.ok()?,
        };
        writer.mark_unverified().await.ok()?;
        let before = store.peek(upload.id).await.ok()??.offset;
        for piece in [if is_right { "yyyyy" } else { "ynnnn" }, if is_right { "yyyyy" } else { "nnnny" }] {
            writer.write(Bytes::from_static(piece.as_bytes())).await.ok()?;
            let acknowledged = writer.start_sync().max(store.peek(upload.id).await.ok()??.offset);
            assert_eq!(acknowledged, before, "no unverified byte is acknowledged");
        }
        match (is_right, random.below(3)) {
            (_, 0) => None,
            (true, _) => writer.sync().await.ok().map(Durable::offset),
            (false, 1) => writer.truncate(before.offset()).await.ok().and(None),
            (false, _) => None,
        }
    }

    async fn read(store: &MemoryStore, upload: &Upload) -> Option<Vec<u8>> {
        let mut reader = store.read(upload.id, Offset::ZERO).await.ok()?;
        let mut content = Vec::new();
        while let Some(bytes) = reader.next().await.ok()? {
            content.extend_from_slice(&bytes);
        }
        Some(content)
    }

    // proves: TUS1-CAT-04
    #[test]
    fn a_join_survives_a_crash_completely_or_not_at_all() {
        let mut joined = 0;
        for seed in 0..100 {
            let store = MemoryStore::new();
            for (number, content) in [(1, "one "), (2, "two ")] {
                let part = Upload { composition: Composition::Part, ..upload(number) };
                let mut writer = run(store.create(&part, Fence::new(1))).expect("creates");
                run(writer.write(Bytes::from_static(content.as_bytes()))).expect("writes");
                let done = Upload { phase: Phase::Delivered(TargetResponse::of(StatusCode::OK)), ..part };
                run(store.commit(&done, Fence::new(1))).expect("commits");
            }
            let parts = [upload(1).id, upload(2).id, upload(1).id];
            let whole = Upload { composition: Composition::Concatenated(parts.to_vec()), ..upload(3) };
            drop(run(store.create(&whole, Fence::new(1))).expect("creates"));
            let mut random = Random::new(seed);
            store.set_faults(Faults { error: 0.5, full_after: Some(8 + random.below(20)), yields_max: 3 });
            let acknowledged = run(store.join(whole.id, &parts, Fence::new(1))).ok();
            store.set_faults(Faults::NONE);
            store.crash();
            let found = run(store.load(whole.id, Fence::new(1))).expect("loads");
            let Some(acknowledged) = acknowledged else {
                assert!(found.is_none_or(|found| found.offset == Durable::ZERO), "seed {seed}");
                continue;
            };
            joined += 1;
            assert_eq!(found.expect("is there").offset, acknowledged);
            assert_eq!(run(read(&store, &whole)).as_deref(), Some(&b"one two one "[..]), "seed {seed}");
        }
        assert!(joined > 10 && joined < 90, "{joined}");
    }

    #[test]
    fn a_crash_loses_unsynced_bytes_and_nothing_else() {
        let (mut gone, mut cut, mut whole) = (0, 0, 0);
        for seed in 0..200 {
            let store = MemoryStore::with_faults(seed, Faults::NONE);
            let mut unsynced = run(store.create(&upload(1), Fence::new(1))).expect("creates");
            run(unsynced.write(Bytes::from_static(b"gone"))).expect("writes");
            let mut synced = run(store.create(&upload(2), Fence::new(1))).expect("creates");
            run(synced.write(Bytes::from_static(b"kept"))).expect("writes");
            run(synced.sync()).expect("syncs");
            run(synced.write(Bytes::from_static(b" or not"))).expect("writes");
            store.crash();
            assert!(run(synced.sync()).is_err(), "writers die with the machine");
            gone += usize::from(run(store.load(upload(1).id, Fence::new(1))).expect("loads").is_none());
            let found = run(store.load(upload(2).id, Fence::new(1))).expect("loads").expect("is there");
            let offset = found.offset.offset().get();
            assert!((4..=11).contains(&offset), "{offset}");
            cut += usize::from(offset == 4);
            whole += usize::from(offset == 11);
        }
        assert!(gone > 100 && gone < 200 && cut > 0 && whole > 0, "{gone} {cut} {whole}");
    }

    #[test]
    fn the_same_seed_takes_the_same_course() {
        let story = |seed| {
            let store = MemoryStore::with_faults(seed, Faults { error: 0.3, ..Faults::NONE });
            let tries = (0..50_u8).map(|number| run(store.create(&upload(number), Fence::new(1))).is_ok());
            (tries.collect::<Vec<_>>(), store.counts())
        };
        assert_eq!(story(7), story(7));
        assert_ne!(story(7), story(8));
    }

    #[test]
    fn a_full_store_keeps_what_fitted() {
        let mut acknowledged_late = 0;
        for seed in 0..20 {
            let store = MemoryStore::with_faults(seed, Faults { full_after: Some(7), ..Faults::NONE });
            let mut writer = run(store.create(&upload(1), Fence::new(1))).expect("creates");
            run(writer.write(Bytes::from_static(b"12345"))).expect("fits");
            match run(writer.write(Bytes::from_static(b"67890"))) {
                Ok(()) => acknowledged_late += 1,
                Err(error) => assert!(matches!(error, Error::Full), "{error}"),
            }
            assert!(matches!(run(writer.write(Bytes::from_static(b"1"))), Err(Error::Full)));
            assert_eq!(run(writer.sync()).expect("syncs").offset(), Offset::new(7));
            assert!(matches!(run(store.check_health()), Err(Error::Full)));
        }
        assert!((1..20).contains(&acknowledged_late), "{acknowledged_late} of 20");
    }

    #[test]
    fn the_time_is_set_and_not_read_from_a_clock() {
        let store = MemoryStore::new();
        let mut writer = run(store.create(&upload(1), Fence::new(1))).expect("creates");
        store.set_time(Timestamp::from_millis(5000));
        let touched = |fence| {
            let found = run(store.load(upload(1).id, Fence::new(fence))).expect("loads").expect("is there");
            found.touched.millis()
        };
        assert_eq!(touched(1), 1000);
        run(writer.write(Bytes::from_static(b"now"))).expect("writes");
        assert_eq!(touched(1), 5000);
        let done = Upload { phase: Phase::Failed(TargetResponse::of(StatusCode::BAD_REQUEST)), ..upload(1) };
        run(store.commit(&done, Fence::new(1))).expect("commits");
        assert_eq!(touched(1), 5000);
    }
}
