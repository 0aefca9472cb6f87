//! The work that a scenario gives to a server, one module for each kind.

mod append;
mod download;
mod held;
mod join;
mod offset;
mod put;
mod retained;
mod small;
mod stream;
mod take_over;

pub(crate) use self::append::Appends;
pub(crate) use self::download::Downloads;
pub(crate) use self::held::{Held, Holding};
pub(crate) use self::join::Join;
pub(crate) use self::offset::Offsets;
pub(crate) use self::put::{Client, Put};
pub(crate) use self::retained::Retained;
pub(crate) use self::small::Small;
pub(crate) use self::stream::Stream;
pub(crate) use self::take_over::TakeOver;

use anyhow::Result;
use tokio::task::JoinSet;

use crate::launch::Launch;
use crate::sample::Sample;

/// A kind of work with its sizes.
#[derive(Clone)]
pub(crate) enum Load {
    Stream(Stream),
    Small(Small),
    Appends(Appends),
    Offsets(Offsets),
    Held(Held),
    TakeOver(TakeOver),
    Retained(Retained),
    Downloads(Downloads),
    Join(Join),
    Put(Put),
}

impl Load {
    /// Starts a server and gives it the work. Checks every answer, and what is stored in the end.
    pub(crate) async fn run(&self, launch: &Launch) -> Result<Sample> {
        let start = || launch.start(&[]);
        match self {
            Self::Stream(load) => load.run(&start()?).await,
            Self::Small(load) => load.run(&start()?).await,
            Self::Appends(load) => load.run(&start()?).await,
            Self::Offsets(load) => load.run(&start()?).await,
            Self::Held(load) => load.run(&start()?).await,
            Self::TakeOver(load) => load.run(&start()?).await,
            Self::Downloads(load) => load.run(&start()?).await,
            Self::Join(load) => load.run(&start()?).await,
            Self::Retained(load) => load.run(launch).await,
            Self::Put(load) => load.run(launch),
        }
    }

    /// Returns whether the data of one run is that of the next one.
    pub(crate) fn keeps_data(&self) -> bool {
        matches!(self, Self::Retained(_))
    }

    /// Returns whether a run leaves thousands of files.
    pub(crate) fn has_many_files(&self) -> bool {
        matches!(self, Self::Small(_))
    }

    /// Returns the bytes that the work leaves on disk.
    pub(crate) fn bytes(&self) -> u64 {
        match self {
            Self::Stream(load) => load.uploads * load.bytes,
            Self::Small(load) => load.uploads * load.bytes,
            Self::Appends(load) => load.appends * load.bytes,
            Self::Held(load) => load.bytes(),
            Self::TakeOver(load) => load.bytes(),
            Self::Downloads(load) => load.bytes,
            Self::Join(load) => 2 * load.parts * load.bytes,
            // The file, and what the server stores.
            Self::Put(load) => 2 * load.bytes,
            Self::Offsets(_) | Self::Retained(_) => 0,
        }
    }
}

/// Returns the results of all tasks, or the first error.
async fn all<T: 'static>(mut tasks: JoinSet<Result<T>>) -> Result<Vec<T>> {
    let mut results = Vec::with_capacity(tasks.len());
    while let Some(ended) = tasks.join_next().await {
        results.push(ended??);
    }
    Ok(results)
}
