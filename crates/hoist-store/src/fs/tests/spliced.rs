//! Bytes that go from a pipe to the content without entering the process.

use std::future::poll_fn;
use std::num::NonZeroUsize;
use std::os::fd::BorrowedFd;
use std::path::Path;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use hoist_proto::types::{Fence, Offset};
use rustix::io::Errno;
use tokio::sync::oneshot;

use super::operations::pattern;
use super::upload;
use crate::fs::sys::Call;
use crate::fs::sys::faults::Faults;
use crate::fs::{Durability, LocalStore, Options};
use crate::store::{Error, Store, Writer};

const ONE: Fence = Fence::new(1);

/// Runs a future as a task of the store.
async fn in_task<T: Send + 'static>(
    store: &LocalStore,
    future: impl Future<Output = T> + Send + 'static,
) -> T {
    let (answer, answered) = oneshot::channel();
    let taken = store.spawn(Box::pin(async move { drop(answer.send(future.await)) }));
    assert!(taken.is_none());
    answered.await.expect("the task ends")
}

/// Puts `bytes` into the pipe.
fn fill(pipe: BorrowedFd<'_>, bytes: &[u8]) -> Poll<Option<NonZeroUsize>> {
    Poll::Ready(NonZeroUsize::new(rustix::io::write(pipe, bytes).expect("the pipe is empty")))
}

/// Offers `bytes` once.
async fn splice(writer: &mut dyn Writer, bytes: &[u8]) -> Result<Option<NonZeroUsize>, Error> {
    let mut source = |_: &mut Context<'_>, pipe: BorrowedFd<'_>, room: usize| {
        assert!(room >= bytes.len());
        fill(pipe, bytes)
    };
    poll_fn(|cx| writer.poll_splice(cx, 1 << 20, &mut source)).await
}

fn open(directory: &Path, durability: Durability) -> Arc<LocalStore> {
    let options = Options { durability, sync_bytes: 64 * 1024, ..Options::default() };
    Arc::new(LocalStore::open(directory, &options).expect("opens"))
}

fn content(directory: &Path) -> Vec<u8> {
    let name = upload(1, None).id.to_string();
    std::fs::read(directory.join("open").join(name).join("content")).expect("is there")
}

#[tokio::test]
async fn spliced_and_written_bytes_follow_each_other() {
    for durability in [Durability::Disk, Durability::Os] {
        let directory = tempfile::tempdir().expect("a directory");
        let store = open(directory.path(), durability);
        let mut writer = store.create(&upload(1, None), ONE).await.expect("creates");
        let (end, spliced) = in_task(&store, async move {
            let (mut end, mut spliced) = (0, 0);
            for step in 0..200_u64 {
                let next = end + 1 + step * 37 % 9000;
                let bytes = pattern(end, next);
                // An upload far ahead of its sync waits: then nothing is moved.
                let moved =
                    if step % 3 == 0 { None } else { splice(&mut *writer, &bytes).await.expect("works") };
                match moved {
                    Some(moved) => assert_eq!(moved.get(), bytes.len()),
                    None => writer.write(bytes).await.expect("accepted"),
                }
                spliced += u64::from(moved.is_some());
                end = next;
                if step % 50 == 0 {
                    assert_eq!(writer.sync().await.expect("durable").offset(), Offset::new(end));
                }
            }
            assert_eq!(writer.sync().await.expect("durable").offset(), Offset::new(end));
            (end, spliced)
        })
        .await;
        assert!(spliced > 10, "{durability:?}: {spliced}");
        assert_eq!(content(directory.path()), pattern(0, end), "{durability:?}");
    }
}

#[tokio::test]
async fn nothing_is_moved_without_a_thread_that_may_wait_or_without_bytes() {
    let directory = tempfile::tempdir().expect("a directory");
    let store = open(directory.path(), Durability::Os);
    let mut writer = store.create(&upload(1, None), ONE).await.expect("creates");
    let never = &mut |_: &mut Context<'_>, _: BorrowedFd<'_>, _| unreachable!("a thread of the runtime");
    assert!(matches!(poll_fn(|cx| writer.poll_splice(cx, 100, never)).await, Ok(None)));
    let mut writer = in_task(&store, async move {
        let none = &mut |_: &mut Context<'_>, _: BorrowedFd<'_>, _| Poll::Ready(None);
        assert!(matches!(poll_fn(|cx| writer.poll_splice(cx, 100, none)).await, Ok(None)));
        let mut waits = true;
        // Dropped while it waits, and polled again.
        let mut source = |cx: &mut Context<'_>, pipe: BorrowedFd<'_>, room: usize| {
            if std::mem::replace(&mut waits, false) {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            assert_eq!(room, 100);
            fill(pipe, &pattern(0, 70))
        };
        let moved = poll_fn(|cx| writer.poll_splice(cx, 100, &mut source)).await.expect("works");
        assert_eq!(moved, NonZeroUsize::new(70));
        writer
    })
    .await;
    assert_eq!(writer.sync().await.expect("durable").offset(), Offset::new(70));
    store.load(upload(1, None).id, Fence::new(2)).await.expect("loads").expect("is there");
    let late = in_task(&store, async move { splice(&mut *writer, b"late").await.map(drop) });
    assert!(matches!(late.await, Err(Error::Fenced)));
    assert_eq!(content(directory.path()), pattern(0, 70));
}

/// The rest of a pipe that did not fit must not get into the next upload.
#[tokio::test]
async fn bytes_that_do_not_fit_are_in_no_content() {
    for (errno, is_full) in [(Errno::NOSPC, true), (Errno::IO, false)] {
        let (faults, directory) = (Faults::install(), tempfile::tempdir().expect("a directory"));
        let options = Options { disk_threads: 1, ..Options::default() };
        let store = Arc::new(LocalStore::open(directory.path(), &options).expect("opens"));
        let mut writer = store.create(&upload(1, None), ONE).await.expect("creates");
        writer.write(pattern(0, 1000)).await.expect("accepted");
        writer.sync().await.expect("durable");
        faults.fail(Call::Write, 0, 1, errno);
        let (failed, refused) = in_task(&store, async move {
            (splice(&mut *writer, b"lost").await, writer.write(Bytes::from_static(b"behind")).await)
        })
        .await;
        for failure in [failed.map(drop), refused] {
            assert_eq!(matches!(failure, Err(Error::Full)), is_full, "{errno}: {failure:?}");
            assert!(failure.is_err());
        }
        assert_eq!(content(directory.path()), pattern(0, 1000));
        let mut next = store.create(&upload(2, None), ONE).await.expect("creates");
        let offset = in_task(&store, async move {
            assert_eq!(splice(&mut *next, b"another").await.expect("works"), NonZeroUsize::new(7));
            next.sync().await.expect("durable").offset()
        });
        assert_eq!(offset.await, Offset::new(7));
        let mut reader = store.read(upload(2, None).id, Offset::ZERO).await.expect("opens");
        assert_eq!(reader.next().await.expect("reads").as_deref(), Some(&b"another"[..]));
    }
}

#[tokio::test]
async fn a_file_system_that_takes_no_bytes_from_a_pipe_gets_copies() {
    let (faults, directory) = (Faults::install(), tempfile::tempdir().expect("a directory"));
    let store = open(directory.path(), Durability::Os);
    let mut writer = store.create(&upload(1, None), ONE).await.expect("creates");
    faults.fail(Call::Write, 0, 1, Errno::INVAL);
    let bytes = pattern(0, 60_000);
    let moved = in_task(&store, async move { splice(&mut *writer, &bytes).await.expect("works") });
    assert_eq!(moved.await, NonZeroUsize::new(60_000));
    assert_eq!(content(directory.path()), pattern(0, 60_000));
}
