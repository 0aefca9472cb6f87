//! The flags of `hoist check`.

use std::path::PathBuf;

use clap::Args;
use http::Uri;

use super::client::{ConnectionArgs, count, span, url};
use crate::check::{CorpusDialect, InteropSelection, Level, Transport};
use crate::config::TimeSpan;

pub(super) const AFTER: &str = "The server is asked what it speaks: HTTP/1.1 and HTTP/2, the dialects, the interop \
    versions it accepts, its limits and extensions. The cases that apply are then run in the newest version of each \
    dialect, and in the form of the IETF draft without a number. Every upload that a case creates is deleted again, where \
    the server lets clients delete uploads. The exit code is 13 when a case fails.";

/// The server to check, the cases to run, and the form of the report.
#[derive(Args, Debug)]
pub(crate) struct Check {
    /// The upload URL.
    #[arg(value_parser = url)]
    pub(crate) url: Uri,
    /// Check this dialect alone, repeatable [default: all that the server speaks]
    #[arg(long = "dialect", value_enum, value_name = "DIALECT")]
    pub(crate) dialects: Vec<CorpusDialect>,
    /// Check this version of the IETF draft, repeatable: 3 to 10, `rfc` for the form without a number, or `all` for every
    /// version the server accepts, in the other dialects too [default: the newest and `rfc`]
    #[arg(long = "interop", value_name = "VERSION")]
    interop: Vec<String>,
    /// Use this version of HTTP alone [default: those the server speaks]
    #[arg(long = "http", value_enum, value_name = "VERSION")]
    pub(crate) transports: Vec<Transport>,
    /// Run the cases that prove a requirement of this level or a stronger one; `own` are decisions of hoist where the
    /// documents leave a choice.
    #[arg(long, value_enum, default_value = "should")]
    pub(crate) level: Level,
    /// Run the cases whose name contains this text.
    #[arg(long, value_name = "TEXT")]
    pub(crate) only: Option<String>,
    /// The server offers this, which cannot be asked for, repeatable: `downloads` (GET on a complete upload), `proxies`
    /// (it believes forwarding fields from this machine)
    #[arg(long = "offers", value_name = "NAME", value_parser = ["downloads", "proxies"])]
    pub(crate) offers: Vec<String>,
    /// Print the names of the cases and what they prove, and run none.
    #[arg(long)]
    pub(crate) list: bool,
    #[arg(long, value_name = "FILE", help = "Write the report as JUnit XML to this file, too")]
    pub(crate) junit: Option<PathBuf>,
    /// Run at most this many cases at the same time.
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = count)]
    pub(crate) parallel: usize,
    /// Wait this long for the end of one request.
    #[arg(long, value_name = "TIME", default_value = "20s", value_parser = span)]
    pub(crate) timeout: TimeSpan,
    #[command(flatten)]
    pub(crate) connection: ConnectionArgs,
}

impl Check {
    /// The versions of the IETF draft to check.
    pub(crate) fn interop(&self) -> InteropSelection {
        match self.interop.as_slice() {
            [] => InteropSelection::Newest,
            labels if labels.iter().any(|label| label == "all") => InteropSelection::All,
            labels => InteropSelection::These(labels.to_vec()),
        }
    }

    pub(super) fn conflict(&self) -> Option<String> {
        let known = || CorpusDialect::Ietf.versions().iter().map(|version| version.label());
        let unknown =
            self.interop.iter().find(|label| *label != "all" && !known().any(|known| known == **label))?;
        let known: Vec<String> = known().collect();
        Some(format!("--interop {unknown}: the versions are {}, and all", known.join(", ")))
    }
}
