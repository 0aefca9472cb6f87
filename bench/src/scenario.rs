//! The scenarios, by name: each is a list of cases, and a case is one load given to several contenders in turn.

mod cases;

pub(crate) use cases::SCENARIOS;

use std::path::PathBuf;
use std::time::Duration;

use crate::load::{Client, Load};
use crate::program::{BEFORE, Durability, HOIST, Program};
use crate::protocol::Protocol;
use crate::target::Transport;

/// A question about speed.
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    pub(crate) about: &'static str,
    /// Returns the cases of a plan.
    pub(crate) cases: fn(&Plan) -> Vec<Case>,
}

/// One load in one place.
pub(crate) struct Case {
    pub(crate) label: String,
    /// The directory for the data.
    pub(crate) place: PathBuf,
    /// True if the place is in memory.
    pub(crate) is_in_memory: bool,
    pub(crate) durability: Durability,
    pub(crate) load: Load,
    /// The round trip of the network; `None` for that of this machine.
    pub(crate) delay: Option<Duration>,
    /// The first is the baseline of the others.
    pub(crate) contenders: Vec<Contender>,
}

/// A server, and how it is used.
#[derive(Clone)]
pub(crate) struct Contender {
    pub(crate) program: &'static Program,
    pub(crate) label: String,
    pub(crate) protocol: Protocol,
    pub(crate) transport: Transport,
    pub(crate) has_digest: bool,
    /// The program that sends, in the scenario that measures it.
    pub(crate) client: Client,
}

impl Contender {
    fn new(program: &'static Program) -> Self {
        Self {
            program,
            label: program.name.to_owned(),
            protocol: program.protocol,
            transport: Transport::H1,
            has_digest: false,
            client: Client::HoistPut,
        }
    }

    fn over(self, transport: Transport, suffix: &str) -> Self {
        Self { transport, ..self.named(suffix) }
    }

    fn named(self, suffix: &str) -> Self {
        Self { label: format!("{} {suffix}", self.label), ..self }
    }
}

/// The size of a run.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Scale {
    Full,
    /// Under two minutes for all scenarios.
    Quick,
    /// For correctness, not for time.
    Smoke,
}

/// The circumstances of a run.
pub(crate) struct Plan {
    pub(crate) scale: Scale,
    /// A directory in memory.
    pub(crate) memory: Option<PathBuf>,
    /// A directory on disk, and the name of its file system.
    pub(crate) disk: (PathBuf, String),
    pub(crate) peers: Vec<&'static Program>,
    /// True to measure another build of hoist as well.
    pub(crate) has_before: bool,
    /// True if `curl` is installed.
    pub(crate) has_curl: bool,
}

impl Plan {
    /// Returns the value for the scale.
    fn pick<T>(&self, full: T, quick: T, smoke: T) -> T {
        match self.scale {
            Scale::Full => full,
            Scale::Quick => quick,
            Scale::Smoke => smoke,
        }
    }

    /// Returns the contenders: raw programs, hoist, and those of the peers that were chosen.
    fn contenders(&self, raw: &[&'static Program], peers: &[&Program]) -> Vec<Contender> {
        let chosen =
            self.peers.iter().copied().filter(|peer| peers.iter().any(|name| name.name == peer.name));
        let programs = raw.iter().copied().chain([&HOIST]).chain(self.before()).chain(chosen);
        programs.map(Contender::new).collect()
    }

    fn before(&self) -> Option<&'static Program> {
        self.has_before.then_some(&BEFORE)
    }

    /// Returns hoist, and the other build, used in the same way.
    fn hoists(&self, used: impl Fn(Contender) -> Contender) -> Vec<Contender> {
        [&HOIST].into_iter().chain(self.before()).map(|program| used(Contender::new(program))).collect()
    }

    /// Returns a case in memory, if this machine has a file system there.
    fn in_memory(&self, label: &str, load: Load, contenders: Vec<Contender>) -> Case {
        let case = self.on_disk_at_os(label, load, contenders);
        let Some(memory) = &self.memory else { return case };
        Case { label: with_place(label, "os, tmpfs"), place: memory.clone(), is_in_memory: true, ..case }
    }

    /// Returns the case in memory, and on disk with each durability, of which small scales have only `disk`.
    fn everywhere(&self, label: &str, load: &Load, contenders: &[Contender]) -> Vec<Case> {
        let in_memory = self.memory.as_ref();
        let in_memory = in_memory.map(|_| self.in_memory(label, load.clone(), contenders.to_vec()));
        let on_disk = self.on_disk(label, load, contenders).into_iter();
        let on_disk = on_disk.filter(|case| self.scale == Scale::Full || case.durability == Durability::Disk);
        in_memory.into_iter().chain(on_disk).collect()
    }

    /// Returns the case on disk with each durability.
    fn on_disk(&self, label: &str, load: &Load, contenders: &[Contender]) -> Vec<Case> {
        let os = self.on_disk_at_os(label, load.clone(), contenders.to_vec());
        let disk = Case {
            label: with_place(label, &format!("disk, {}", self.disk.1)),
            durability: Durability::Disk,
            load: load.clone(),
            place: os.place.clone(),
            is_in_memory: false,
            contenders: contenders.to_vec(),
            delay: None,
        };
        vec![os, disk]
    }

    fn on_disk_at_os(&self, label: &str, load: Load, contenders: Vec<Contender>) -> Case {
        let (place, system) = &self.disk;
        Case {
            label: with_place(label, &format!("os, {system}")),
            place: place.clone(),
            is_in_memory: false,
            durability: Durability::Os,
            load,
            delay: None,
            contenders,
        }
    }
}

/// Returns the label of a case with its durability and file system.
fn with_place(label: &str, place: &str) -> String {
    if label.is_empty() { place.to_owned() } else { format!("{label}; {place}") }
}
