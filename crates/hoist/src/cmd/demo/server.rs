//! `hoist serve` as a child process, which can be killed and restarted.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::net::unix::pipe::Receiver;

use crate::exit::{Exit, Failure};

/// A running server, killed on drop.
#[derive(Debug)]
pub(super) struct ServerProcess {
    child: Child,
    pub(super) data: PathBuf,
    pub(super) url: String,
    pub(super) addr: SocketAddr,
}

impl ServerProcess {
    /// Starts a server on a free local port.
    ///
    /// # Cancellation
    /// Dropping the future kills the server.
    pub(super) async fn start(data: PathBuf) -> Result<Self, Failure> {
        let failed = |why: &dyn std::fmt::Display| {
            Failure::message(Exit::Start, format_args!("cannot start the server: {why}"))
        };
        let own = std::env::current_exe().map_err(|error| failed(&error))?;
        let mut command = Command::new(own);
        command.args(["serve", "--listen", "127.0.0.1:0", "--log-level", "error", "--data"]).arg(&data);
        // `HOIST_*` variables are meant for another server.
        let child = command.env_clear().stdin(Stdio::null()).stdout(Stdio::piped()).spawn();
        let mut server = Self {
            child: child.map_err(|error| failed(&error))?,
            data,
            url: String::new(),
            addr: ([127, 0, 0, 1], 0).into(),
        };
        let stdout = server.child.stdout.take().expect("piped");
        let stdout = Receiver::from_owned_fd(stdout.into()).map_err(|error| failed(&error))?;
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line).await.map_err(|error| failed(&error))?;
        let url = line.trim().strip_prefix("hoist listening on ").unwrap_or_default();
        let authority = url.split('/').nth(2).unwrap_or_default();
        server.addr = authority.parse().map_err(|_| failed(&"it printed no address"))?;
        url.clone_into(&mut server.url);
        Ok(server)
    }

    /// Kills the server and starts it again on the same data.
    pub(super) async fn crash(self) -> Result<Self, Failure> {
        let data = self.data.clone();
        drop(self);
        Self::start(data).await
    }

    /// Returns the path of the upload URL.
    pub(super) fn endpoint(&self) -> &str {
        let behind = self.url.find("://").map_or(0, |at| at + 3);
        self.url[behind..].find('/').map_or("/", |at| &self.url[behind + at..])
    }

    /// Returns the path of the stored content.
    pub(super) fn stored(&self) -> Result<PathBuf, Failure> {
        let done = self.data.join("done");
        let found = fs::read_dir(&done).and_then(|entries| {
            entries.map(|entry| Ok(entry?.path().join("content"))).collect::<std::io::Result<Vec<_>>>()
        });
        let missing = |why: &dyn std::fmt::Display| {
            Failure::message(Exit::Corrupt, format_args!("no complete upload in {}: {why}", done.display()))
        };
        let mut found = found.map_err(|error| missing(&error))?;
        found.pop().ok_or_else(|| missing(&"it is empty"))
    }
}

impl Drop for ServerProcess {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
