//! The servers that are measured, as a table: how each is found, started and addressed.

pub(crate) mod install;

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use crate::protocol::Protocol;
use crate::tls;
use install::{Install, Toolbox};

/// The survival of acknowledged bytes that a server is asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Durability {
    /// A crash of the server process.
    Os,
    /// A power failure.
    Disk,
}

impl Durability {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Os => "os",
            Self::Disk => "disk",
        }
    }
}

/// A server.
pub(crate) struct Program {
    pub(crate) name: &'static str,
    /// The description in the report: the work it does, and the durability it offers.
    pub(crate) about: &'static str,
    pub(crate) protocol: Protocol,
    /// The path to which uploads are created.
    pub(crate) endpoint: &'static str,
    /// The largest content of one request in bytes, if the server holds it in memory.
    pub(crate) content_max: Option<u64>,
    pub(crate) install: Install,
    command: fn(&Setup<'_>) -> Command,
}

/// The circumstances in which a server is started.
pub(crate) struct Setup<'a> {
    pub(crate) executable: &'a Path,
    pub(crate) addr: SocketAddr,
    /// An empty directory for its data.
    pub(crate) data: &'a Path,
    /// A directory for everything else.
    pub(crate) scratch: &'a Path,
    pub(crate) durability: Durability,
    /// The directory of the certificate, if it is to speak TLS.
    pub(crate) tls: Option<&'a Path>,
    /// Flags for hoist.
    pub(crate) flags: &'a [String],
}

impl Program {
    /// Returns the command that starts the server.
    pub(crate) fn command(&self, setup: &Setup<'_>) -> Command {
        (self.command)(setup)
    }
}

/// The raw program that copies.
pub(crate) const CEILING: Program = Program {
    name: "ceiling",
    about: "`recv` and `write` through a buffer of 256 KiB, a thread for each connection; `fdatasync` at `disk`",
    protocol: Protocol::Put,
    endpoint: "/",
    content_max: None,
    install: Toolbox::this,
    command: ceiling,
};

/// The raw program that splices.
pub(crate) const SPLICE: Program = Program {
    name: "splice",
    about: "the same with `splice` through a pipe of 1 MiB instead of a buffer",
    command: |setup| with(ceiling(setup), &["--splice"]),
    ..CEILING
};

/// The raw program for small requests.
pub(crate) const RESPONDER: Program = Program {
    name: "responder",
    about: "the same with a thread for each core and `epoll`, for small requests",
    command: |setup| with(ceiling(setup), &["--events"]),
    ..CEILING
};

/// The raw programs.
pub(crate) const RAW: [&Program; 3] = [&CEILING, &SPLICE, &RESPONDER];

/// hoist, as it is built here.
pub(crate) const HOIST: Program = Program {
    name: "hoist",
    about: "`hoist serve`, without its limits for one client, and with downloads; the durability is that of the row",
    protocol: Protocol::Ietf,
    endpoint: "/uploads",
    content_max: None,
    install: Toolbox::hoist,
    command: hoist,
};

/// Another build of hoist, for a comparison in the same rounds.
pub(crate) const BEFORE: Program = Program { name: "before", install: Toolbox::before, ..HOIST };

/// The other servers, by name.
pub(crate) const PEERS: [&Program; 3] = [&RUSTUS, &TUS_NODE, &NGINX];

pub(crate) const RUSTUS: Program = Program {
    name: "rustus",
    about: "rustus (crates.io), file storage, tus 1.0, 8 MiB a request; never syncs",
    protocol: Protocol::Tus,
    endpoint: "/files",
    content_max: Some(8 << 20),
    install: Toolbox::rustus,
    command: |setup| {
        let mut command = Command::new(setup.executable);
        command.args(["--host", &setup.addr.ip().to_string(), "--port", &setup.addr.port().to_string()]);
        command.arg("--data-dir").arg(setup.data.join("data"));
        command.arg("--info-dir").arg(setup.data.join("info"));
        command.args(["--max-body-size", "16777216", "--log-level", "ERROR"]);
        command
    },
};

pub(crate) const TUS_NODE: Program = Program {
    name: "tus-node",
    about: "@tus/server with @tus/file-store (npm), tus 1.0; never syncs",
    protocol: Protocol::Tus,
    endpoint: "/files",
    content_max: None,
    install: Toolbox::tus_node,
    command: |setup| {
        let mut command = Command::new("node");
        command.arg(setup.executable).arg(setup.addr.port().to_string()).arg(setup.data);
        command
    },
};

pub(crate) const NGINX: Program = Program {
    name: "nginx",
    about: "nginx (Debian), `PUT` of its DAV module, one worker process; never syncs",
    protocol: Protocol::Put,
    endpoint: "/",
    content_max: None,
    install: Toolbox::nginx,
    command: |setup| {
        let mut command = Command::new(setup.executable);
        command.arg("-e").arg(setup.scratch.join("error.log")).arg("-p").arg(setup.scratch);
        command.arg("-c").arg(install::nginx_configuration(setup));
        command
    },
};

fn ceiling(setup: &Setup<'_>) -> Command {
    let mut command = Command::new(setup.executable);
    command.args(["ceiling", "--listen", &setup.addr.to_string(), "--data"]).arg(setup.data);
    if setup.durability == Durability::Disk {
        command.arg("--sync");
    }
    if let Some(directory) = setup.tls {
        command.arg("--tls").arg(directory);
    }
    command
}

/// Starts hoist without the limits that stop a single client from opening thousands of connections and uploads.
fn hoist(setup: &Setup<'_>) -> Command {
    let mut command = Command::new(setup.executable);
    command.args(["serve", "--listen", &setup.addr.to_string(), "--durability", setup.durability.name()]);
    command.arg("--data").arg(setup.data.join("hoist")).arg("--downloads");
    command.args(["--max-open-uploads", "none", "--max-open-uploads-per-address", "none"]);
    command.args(["--idle-timeout", "10m", "--min-rate", "0"]);
    if let Some(directory) = setup.tls {
        command.arg("--tls-cert").arg(tls::certificate(directory));
        command.arg("--tls-key").arg(tls::key(directory));
    }
    command.args(setup.flags);
    command
}

fn with(mut command: Command, words: &[&str]) -> Command {
    command.args(words);
    command
}
