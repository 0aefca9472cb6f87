//! The flags of `hoist events`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::examples;

#[derive(Debug, Subcommand)]
pub(crate) enum EventsVerb {
    /// List the events that are yet to be delivered, and those that were given up (`dead`).
    #[command(after_help = examples::help("events ls"))]
    Ls(EventsLs),
    /// Print an event as its sinks receive it, with its state.
    #[command(after_help = examples::help("events show"))]
    Show(EventsOf),
    /// Have a dead event delivered again, or all of them. The server must not be running.
    #[command(after_help = examples::help("events retry"))]
    Retry(EventsRetry),
    /// Forget an event: it is not delivered any more. The server must not be running.
    #[command(after_help = examples::help("events drop"))]
    Drop(EventsOf),
}

#[derive(Args, Debug)]
pub(crate) struct DataArgs {
    /// Data directory of the server.
    #[arg(
        long,
        value_name = "DIR",
        env = "HOIST_DATA",
        hide_env_values = true,
        default_value = "./hoist-data"
    )]
    pub(crate) data: PathBuf,
    /// Print JSON, one object a line.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args, Debug)]
pub(crate) struct EventsLs {
    #[command(flatten)]
    pub(crate) data: DataArgs,
    /// List dead events only.
    #[arg(long)]
    pub(crate) dead: bool,
}

#[derive(Args, Debug)]
pub(crate) struct EventsOf {
    /// Id of the event, as `hoist events ls` prints it. Without its type, all events of the upload.
    pub(crate) id: String,
    #[command(flatten)]
    pub(crate) data: DataArgs,
}

#[derive(Args, Debug)]
pub(crate) struct EventsRetry {
    /// Id of the event. Without its type, all events of the upload.
    #[arg(required_unless_present = "all")]
    pub(crate) id: Option<String>,
    /// Every dead event.
    #[arg(long, conflicts_with = "id")]
    pub(crate) all: bool,
    #[command(flatten)]
    pub(crate) data: DataArgs,
}

impl EventsVerb {
    pub(super) fn json(&self) -> bool {
        match self {
            Self::Ls(EventsLs { data, .. }) | Self::Retry(EventsRetry { data, .. }) => data.json,
            Self::Show(of) | Self::Drop(of) => of.data.json,
        }
    }
}
