//! Conformance of any server: the corpus of `conformance/`, run against a URL.
//!
//! Owns the public face. A case is data (`case.rs`), is spelled for each version it holds in (`version.rs`, `spelling.rs`), spoken over
//! HTTP/1.1 and HTTP/2 by a client of our own (`wire.rs`), and judged (`judge.rs`, `rules.rs`). Nothing here uses the
//! codecs of `hoist-proto` or the transports of `hoist-http`, so that they never judge themselves.

mod case;
mod corpus;
mod extension;
mod judge;
mod probe;
mod report;
mod request_builder;
mod requirement;
mod rules;
mod runner;
mod selection;
mod transcript;
mod uploads;
mod version;
mod wire;

use std::collections::{BTreeMap, BTreeSet};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::Instant;

pub use corpus::{Corpus, CorpusError};
pub use report::{CaseOutcome, CaseResult, Report};
pub use requirement::Level;
pub use selection::Selection;
pub use wire::Endpoint;

pub(crate) use probe::{Capabilities, ProbeError, probe};
pub(crate) use selection::InteropSelection;
pub(crate) use version::CorpusDialect;
pub(crate) use wire::Transport;

use runner::CaseRun;

/// Limits of a server, by their keys in `Upload-Limit`, in bytes and seconds.
pub type ServerLimits = BTreeMap<String, u64>;

/// What a server is set to, as far as cases depend on it.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct ServerSettings {
    /// Its limits.
    pub limits: ServerLimits,
    /// The extensions of tus 1 it lacks, by their names there.
    pub lacks: BTreeSet<String>,
    /// What it does and not every server does: `downloads` of complete uploads, `proxies` on this machine being trusted.
    pub offers: BTreeSet<String>,
}

/// The number of cases that run at once, and the time that a server may take.
#[derive(Clone, Copy, Debug)]
pub struct RunOptions {
    /// The number of cases that run at once.
    pub parallel: usize,
    /// The longest time that one exchange may take.
    pub timeout: Duration,
}

impl Default for RunOptions {
    fn default() -> Self {
        Self { parallel: 8, timeout: Duration::from_secs(20) }
    }
}

/// Runs the selected cases against a server.
///
/// # Cancellation
/// Safe to drop. Uploads of cases that were running stay on the server until they expire.
pub async fn run(endpoint: &Endpoint, corpus: &Corpus, selection: &Selection, pace: RunOptions) -> Report {
    run_until(endpoint, corpus, selection, pace, std::future::pending()).await
}

/// Runs the selected cases until `stop` is ready. From then on no further case starts; those that are running come to
/// their end and delete their uploads.
///
/// # Cancellation
/// As for [`run`].
pub(crate) async fn run_until(
    endpoint: &Endpoint,
    corpus: &Corpus,
    selection: &Selection,
    pace: RunOptions,
    stop: impl Future<Output = ()>,
) -> Report {
    let endpoint = Arc::new(endpoint.clone());
    let turns = Arc::new(Semaphore::new(pace.parallel.max(1)));
    let mut running = JoinSet::new();
    let mut report = Report::default();
    let is_wanted = |case: &case::Case| {
        selection.only.as_ref().is_none_or(|only| case.name.contains(only))
            && corpus.level(case) >= selection.level
    };
    for (dialect, case) in corpus.cases().filter(|(_, case)| is_wanted(case)) {
        for version in selection.versions(case, dialect) {
            for transport in selection.transports(case) {
                let outcome = CaseOutcome::new(corpus, case, version, transport);
                if let Some(why) = selection.obstacle(case, dialect) {
                    report.enter(outcome.ended(CaseResult::Skipped(why), Duration::ZERO));
                    continue;
                }
                let rules = corpus.rules(version, selection.level);
                let run = CaseRun::new(Arc::clone(case), version, transport, Arc::clone(&endpoint), rules);
                let turns = Arc::clone(&turns);
                running.spawn(async move {
                    let Ok(_turn) = turns.acquire_owned().await else {
                        return outcome
                            .ended(CaseResult::Skipped("the check was interrupted".into()), Duration::ZERO);
                    };
                    let began = Instant::now();
                    let verdict = run.judge(pace.timeout).await;
                    outcome.ended(verdict, began.elapsed())
                });
            }
        }
    }
    let mut stop = pin!(stop);
    loop {
        tokio::select! {
            biased;
            () = &mut stop, if !turns.is_closed() => turns.close(),
            ended = running.join_next() => match ended {
                Some(ended) => report.enter(ended.expect("a run does not panic")),
                None => break,
            },
        }
    }
    report.sort();
    report
}
