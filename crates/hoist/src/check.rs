//! Conformance checks: runs the corpus in `conformance/` against a server at a URL.
//!
//! The path of a case, in the order of the code:
//!
//! 1. `corpus.rs` reads the TOML files; `case.rs` defines their format and `version.rs` the protocol versions.
//! 2. `probe.rs` detects what the server supports, and `selection.rs` picks the cases, versions and transports that apply.
//! 3. [`run`] starts a run per case, version and transport (`runner.rs`).
//! 4. A run builds each request (`request_builder.rs`), sends it over HTTP/1.1 or HTTP/2 (`wire.rs`), and compares the
//!    responses with the expectations of the case (`judge.rs`) and with the rules for every exchange (`rules.rs`).
//! 5. `report.rs` collects the results.
//!
//! Nothing here uses the dialects of `hoist-proto` or the transports of `hoist-http`, so that their bugs cannot hide
//! themselves.

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

/// Limits of a server in bytes or seconds, by their keys in `Upload-Limit`.
pub type ServerLimits = BTreeMap<String, u64>;

/// The settings of a server, as far as cases depend on them.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct ServerSettings {
    /// The limits.
    pub limits: ServerLimits,
    /// The tus 1.0 extensions that are turned off.
    pub lacks: BTreeSet<String>,
    /// Optional features: `downloads` (GET on complete uploads) and `proxies` (trusts proxies on this machine).
    pub offers: BTreeSet<String>,
}

/// Options of a run.
#[derive(Clone, Copy, Debug)]
pub struct RunOptions {
    /// The maximum number of cases that run in parallel.
    pub parallel: usize,
    /// The time limit of one exchange.
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
/// If dropped, uploads of running cases stay on the server until they expire.
pub async fn run(endpoint: &Endpoint, corpus: &Corpus, selection: &Selection, pace: RunOptions) -> Report {
    run_until(endpoint, corpus, selection, pace, std::future::pending()).await
}

/// Runs the selected cases until `stop` is ready. Then no further case starts, and running cases finish and delete
/// their uploads.
///
/// # Cancellation
/// Like [`run`].
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
