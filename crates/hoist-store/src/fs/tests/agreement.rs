//! The local store, with caches of all sizes, against the store in memory: the same operations in random order give the
//! same answers, and memory and files agree after each one.

use std::collections::{HashMap, HashSet};
use std::fmt::Write as _;

use bytes::Bytes;
use hoist_proto::testing::SeededRng;
use hoist_proto::types::{Durable, Fence, Length, Offset, UploadId};
use hoist_proto::upload::{Composition, Phase, TargetResponse, Upload};
use http::StatusCode;

use super::upload;
use crate::fs::{Durability, LocalStore, Options};
use crate::memory::MemoryStore;
use crate::store::{Error, Store, Writer};

const UPLOADS: u64 = 4;
const STEPS: usize = 150;

/// Both stores, the same operations, and the writers that are open.
struct Pair {
    local: LocalStore,
    memory: MemoryStore,
    writers: HashMap<UploadId, [Box<dyn Writer>; 2]>,
    complete: HashSet<UploadId>,
    random: SeededRng,
    fence: u64,
    context: String,
}

/// The outcome of opening a writer in one of the stores.
type Opened = Result<Box<dyn Writer>, &'static str>;

/// A value that both stores must return: what was found, or the kind of the error.
fn outcome<T>(result: Result<T, Error>) -> Result<T, &'static str> {
    result.map_err(|error| match error {
        Error::Missing => "missing",
        Error::Exists => "exists",
        Error::Fenced => "fenced",
        Error::Full => "full",
        // A store may report the same contradiction as either.
        _ => "other",
    })
}

/// The members of an upload that do not depend on the clock of the store.
fn timeless(upload: Upload) -> Upload {
    Upload { touched: upload.created, ..upload }
}

/// Performs an operation on both stores and compares the outcomes.
macro_rules! both {
    ($pair:expr, |$store:ident| $operation:expr) => {{
        let [local, memory]: [&dyn Store; 2] = [&$pair.local, &$pair.memory];
        let ($store, expected) = (local, {
            let $store = memory;
            outcome($operation)
        });
        (outcome($operation), expected)
    }};
}

impl Pair {
    fn upload(&mut self) -> Upload {
        let number = self.random.up_to(UPLOADS - 1);
        let part = |number| upload(number, None).id;
        let composition = match number {
            0 => Composition::Concatenated(vec![part(1), part(2), part(1)]),
            1 | 2 => Composition::Part,
            _ => Composition::Direct,
        };
        Upload { composition, ..upload(number, None) }
    }

    /// Returns a new fence, or now and then one that was superseded.
    fn fence(&mut self) -> Fence {
        if self.random.one_in(12) {
            return Fence::new(self.random.up_to(self.fence));
        }
        self.fence += u64::from(self.random.one_in(2));
        Fence::new(self.fence)
    }

    async fn step(&mut self) {
        let (upload, fence) = (self.upload(), self.fence());
        let id = upload.id;
        let phase = match self.random.below(4) {
            0 | 1 if !self.complete.contains(&id) => Phase::Open,
            2 => Phase::Received,
            _ => Phase::Delivered(TargetResponse::of(StatusCode::CREATED)),
        };
        let resumes = u32::try_from(self.random.up_to(9)).expect("small");
        let completes = phase != Phase::Open;
        let changed = Upload { phase, resumes, length: Some(Length::new(1 << 20)), ..upload.clone() };
        let _ = write!(self.context, "\n{:?} {fence:?} ", upload.composition);
        match self.random.below(12) {
            0 | 1 => self.create(&upload, fence).await,
            2 => self.append(&upload, fence).await,
            3..=5 => self.write(id).await,
            6 | 7 => {
                let committed = if self.random.one_in(2) {
                    both!(self, |store| store.commit(&changed, fence).await)
                } else {
                    both!(self, |store| store.commit_and_discard(&changed, fence).await)
                };
                // No server opens a complete upload again.
                if completes && committed.0.is_ok() {
                    self.complete.insert(id);
                }
                self.finish("commit", committed);
            }
            8 => self.finish("discard", both!(self, |store| store.discard(id, fence).await)),
            9 => {
                let removed = both!(self, |store| store.remove(id, fence).await);
                if removed.0.is_ok() {
                    self.complete.remove(&id);
                }
                self.finish("remove", removed);
            }
            10 => {
                let Composition::Concatenated(parts) = &upload.composition else { return };
                let (local, expected) = both!(self, |store| store.join(id, parts, fence).await);
                // Which of several reasons a store reports is its own business.
                self.finish("join", (local.map_err(|_| ""), expected.map_err(|_| "")));
            }
            _ => {
                let load = both!(self, |store| store.load(id, fence).await.map(|found| found.map(timeless)));
                self.finish("load", load);
            }
        }
    }

    fn finish<T: std::fmt::Debug + PartialEq>(
        &mut self,
        what: &str,
        (local, expected): (Result<T, &'static str>, Result<T, &'static str>),
    ) {
        assert_eq!(local, expected, "{what} after{}", self.context);
        let _ = write!(self.context, "{what}: {expected:?}");
    }

    async fn create(&mut self, upload: &Upload, fence: Fence) {
        let created = both!(self, |store| store.create(upload, fence).await);
        self.open("create", upload.id, created).await;
    }

    async fn append(&mut self, upload: &Upload, fence: Fence) {
        let id = upload.id;
        let Ok(Some(known)) = self.memory.load(id, fence).await else { return };
        let loaded = self.local.load(id, fence).await.expect("loads").map(timeless);
        assert_eq!(loaded, Some(timeless(known.clone())), "load to append after{}", self.context);
        let at = known.offset.offset();
        let opened = both!(self, |store| store.append(id, at, fence).await);
        self.open("append", id, opened).await;
    }

    async fn open(&mut self, what: &str, id: UploadId, opened: (Opened, Opened)) {
        match opened {
            (Ok(local), Ok(memory)) => {
                self.context += what;
                self.writers.insert(id, [local, memory]);
                self.write(id).await;
            }
            (local, memory) => self.finish(what, (local.map(drop), memory.map(drop))),
        }
    }

    /// Uses the open writer of an upload, and drops it now and then.
    async fn write(&mut self, id: UploadId) {
        let Some(mut writers) = self.writers.remove(&id) else { return };
        let (count, how) = (self.random.below(3000), self.random.below(6));
        let bytes = Bytes::from(self.random.bytes(count));
        let _ = write!(self.context, " {count} bytes {how}");
        let mut results = Vec::new();
        for writer in &mut writers {
            let begin = writer.sync().await.map(Durable::offset);
            let written = async {
                let begin = begin?;
                if how <= 1 {
                    writer.mark_unverified().await?;
                }
                writer.write(bytes.clone()).await?;
                match how {
                    0 | 2 => writer.truncate(begin).await.map(|()| begin),
                    1 | 3 => writer.sync().await.map(Durable::offset),
                    _ => Ok(Offset::ZERO),
                }
            };
            results.push(outcome(written.await));
        }
        assert_eq!(results[0], results[1], "write after{}", self.context);
        if self.random.one_in(2) && how != 1 {
            self.context += " kept";
            self.writers.insert(id, writers);
        }
    }

    /// Checks that memory and files agree on every upload without a writer.
    async fn check(&mut self) {
        for number in 0..UPLOADS {
            let id = upload(number, None).id;
            if self.writers.contains_key(&id) {
                continue;
            }
            let fence = Fence::new(self.fence);
            let first = outcome(self.local.load(id, fence).await);
            assert_eq!(outcome(self.local.load(id, fence).await), first, "{number} after{}", self.context);
            assert_eq!(outcome(self.local.peek(id).await), first, "{number} after{}", self.context);
            let expected = outcome(self.memory.load(id, fence).await);
            let (loaded, expected) =
                (first.clone().map(|u| u.map(timeless)), expected.map(|u| u.map(timeless)));
            assert_eq!(loaded, expected, "{number} after{}", self.context);
            if self.random.one_in(4) {
                self.local.entries.forget_records();
                let read = outcome(self.local.load(id, fence).await);
                assert_eq!(read, first, "{number} in the files after{}", self.context);
            }
        }
    }
}

// proves: TOK-OFF-03
#[tokio::test]
async fn any_cache_gives_the_answers_of_the_store_in_memory() {
    for seed in 0..24 {
        let directory = tempfile::tempdir().expect("a directory");
        let mut options = Options { disk_threads: 2, other_threads: 1, ..Options::default() };
        options.cache_uploads_max = [0, 1, 2, 1000][usize::try_from(seed % 4).expect("small")];
        if seed % 3 != 0 {
            options.durability = Durability::Os;
        }
        let mut pair = Pair {
            local: LocalStore::open(directory.path(), &options).expect("opens"),
            memory: MemoryStore::new(),
            writers: HashMap::new(),
            complete: HashSet::new(),
            random: SeededRng(seed),
            fence: 1,
            context: format!(" seed {seed}:"),
        };
        for _ in 0..STEPS {
            pair.step().await;
            pair.check().await;
        }
    }
}
