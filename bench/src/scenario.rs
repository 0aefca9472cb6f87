//! The scenarios, by name: each is a list of cases, and a case is one load given to several contenders in turn.

use std::path::PathBuf;
use std::time::Duration;

use crate::load::{Appends, Downloads, Held, Holding, Load, Offsets, Retained, Small, Stream, TakeOver};
use crate::program::{BEFORE, CEILING, Durability, HOIST, NGINX, Program, RUSTUS, SPLICE, TUS_NODE};
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
}

impl Contender {
    fn new(program: &'static Program) -> Self {
        Self {
            program,
            label: program.name.to_owned(),
            protocol: program.protocol,
            transport: Transport::H1,
            has_digest: false,
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
}

/// All scenarios.
pub(crate) const SCENARIOS: &[Scenario] = &[
    Scenario { name: "upload", about: "one large upload", cases: upload },
    Scenario { name: "upload-h2", about: "one large upload over HTTP/2 without TLS", cases: upload_h2 },
    Scenario { name: "upload-tls", about: "one large upload over HTTP/1.1 with TLS", cases: upload_tls },
    Scenario { name: "parallel", about: "large uploads at the same time", cases: parallel },
    Scenario {
        name: "small",
        about: "uploads of 16 KiB in one request each, on 64 connections",
        cases: small,
    },
    Scenario {
        name: "small-append",
        about: "the same in two requests: create, then append",
        cases: small_append,
    },
    Scenario { name: "append", about: "appends to one upload, one after the other", cases: append },
    Scenario { name: "offset", about: "offset queries on 16 connections", cases: offset },
    Scenario { name: "idle", about: "memory of idle connections", cases: |plan| held(plan, Holding::Idle) },
    Scenario {
        name: "trickle",
        about: "memory of uploads that trickle",
        cases: |plan| held(plan, Holding::Trickling),
    },
    Scenario {
        name: "stall",
        about: "memory of uploads that stop after 1 MiB",
        cases: |plan| held(plan, Holding::Stalled),
    },
    Scenario {
        name: "take-over",
        about: "offset queries while an append to the upload hangs",
        cases: take_over,
    },
    Scenario { name: "retained", about: "start and sweeps with many complete uploads", cases: retained },
    Scenario { name: "checksum", about: "one large upload whose SHA-256 is verified", cases: checksum },
    Scenario { name: "latency", about: "one upload at a round trip of 100 ms", cases: latency },
    Scenario { name: "download", about: "downloads of one upload, 100 at once", cases: download },
];

const TUS: &[&Program] = &[&RUSTUS, &TUS_NODE];
const ALL: &[&Program] = &[&RUSTUS, &TUS_NODE, &NGINX];

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
        let (place, system) = match &self.memory {
            Some(memory) => (memory, "tmpfs"),
            None => (&self.disk.0, self.disk.1.as_str()),
        };
        Case {
            label: join(label, &format!("os, {system}")),
            place: place.clone(),
            durability: Durability::Os,
            load,
            delay: None,
            contenders,
        }
    }

    /// Returns the case in memory, and on disk with each durability.
    fn everywhere(&self, label: &str, load: &Load, contenders: &[Contender]) -> Vec<Case> {
        let in_memory =
            self.memory.as_ref().map(|_| self.in_memory(label, load.clone(), contenders.to_vec()));
        in_memory.into_iter().chain(self.on_disk(label, load, contenders)).collect()
    }

    fn on_disk(&self, label: &str, load: &Load, contenders: &[Contender]) -> Vec<Case> {
        let (place, system) = &self.disk;
        let case = |durability: Durability| Case {
            label: join(label, &format!("{}, {system}", durability.name())),
            place: place.clone(),
            durability,
            load: load.clone(),
            delay: None,
            contenders: contenders.to_vec(),
        };
        [Durability::Os, Durability::Disk].map(case).into()
    }
}

fn join(label: &str, place: &str) -> String {
    if label.is_empty() { place.to_owned() } else { format!("{label}; {place}") }
}

fn upload(plan: &Plan) -> Vec<Case> {
    let bytes = plan.pick(4 << 30, 512 << 20, 3 << 20);
    let load = Load::Stream(Stream { uploads: 1, bytes });
    plan.everywhere(&size(bytes), &load, &plan.contenders(&[&CEILING, &SPLICE], ALL))
}

fn upload_h2(plan: &Plan) -> Vec<Case> {
    let bytes = plan.pick(4 << 30, 512 << 20, 3 << 20);
    let mut contenders = vec![Contender::new(&CEILING).named("h1")];
    contenders.extend(plan.hoists(|hoist| hoist.named("h1")));
    contenders.extend(plan.hoists(|hoist| hoist.over(Transport::H2, "h2")));
    vec![plan.in_memory(&size(bytes), Load::Stream(Stream { uploads: 1, bytes }), contenders)]
}

fn upload_tls(plan: &Plan) -> Vec<Case> {
    let bytes = plan.pick(4 << 30, 512 << 20, 3 << 20);
    let mut contenders = vec![Contender::new(&CEILING).over(Transport::Tls, "TLS")];
    contenders.extend(plan.hoists(|hoist| hoist.over(Transport::Tls, "TLS")));
    vec![plan.in_memory(&size(bytes), Load::Stream(Stream { uploads: 1, bytes }), contenders)]
}

fn parallel(plan: &Plan) -> Vec<Case> {
    let sizes = plan.pick(
        vec![(32, 128 << 20), (8, 96 << 20)],
        vec![(32, 16 << 20), (8, 64 << 20)],
        vec![(4, 600_000)],
    );
    let contenders = plan.contenders(&[&CEILING, &SPLICE], ALL);
    let cases = sizes.into_iter().flat_map(|(uploads, bytes)| {
        let load = Load::Stream(Stream { uploads, bytes });
        let label = format!("{uploads} x {}", size(bytes));
        match plan.scale {
            Scale::Full => plan.everywhere(&label, &load, &contenders),
            _ => vec![plan.in_memory(&label, load, contenders.clone())],
        }
    });
    cases.collect()
}

fn small(plan: &Plan) -> Vec<Case> {
    small_uploads(plan, false)
}

fn small_append(plan: &Plan) -> Vec<Case> {
    small_uploads(plan, true)
}

fn small_uploads(plan: &Plan, is_appended: bool) -> Vec<Case> {
    let uploads = plan.pick(20_000, 3000, 24);
    let load = Small { uploads, bytes: 16 << 10, connections: plan.pick(64, 64, 4), is_appended };
    let mut contenders = plan.contenders(&[&CEILING], if is_appended { TUS } else { ALL });
    contenders.extend(plan.hoists(|hoist| {
        let hoist = Contender { protocol: Protocol::IetfInterim, ..hoist };
        hoist.named("with 104")
    }));
    plan.everywhere("", &Load::Small(load), &contenders)
}

fn append(plan: &Plan) -> Vec<Case> {
    let total: u64 = plan.pick(2 << 30, 256 << 20, 16 << 20);
    let contenders = plan.contenders(&[&CEILING], TUS);
    let cases = [1 << 20, 8 << 20].into_iter().flat_map(|bytes| {
        let load = Load::Appends(Appends { appends: total / bytes, bytes });
        plan.everywhere(&size(bytes), &load, &contenders)
    });
    cases.collect()
}

fn offset(plan: &Plan) -> Vec<Case> {
    let load = Offsets { queries: plan.pick(200_000, 40_000, 64), connections: plan.pick(16, 16, 4) };
    vec![plan.in_memory("", Load::Offsets(load), plan.contenders(&[&CEILING], ALL))]
}

fn held(plan: &Plan, holding: Holding) -> Vec<Case> {
    let connections = match holding {
        Holding::Idle | Holding::Trickling => plan.pick(10_000, 2000, 20),
        // Limited by the memory for their content.
        Holding::Stalled => plan.pick(2000, 300, 5),
    };
    let load = Load::Held(Held { connections, holding });
    vec![plan.in_memory(&format!("{connections} connections"), load, plan.contenders(&[], ALL))]
}

fn take_over(plan: &Plan) -> Vec<Case> {
    let queries = plan.pick(400, 100, 5);
    let contenders = plan.contenders(&[], TUS);
    let cases =
        [(false, "quiet"), (true, "while an upload runs")].into_iter().flat_map(|(is_busy, label)| {
            plan.on_disk(label, &Load::TakeOver(TakeOver { queries, is_busy }), &contenders)
        });
    cases.collect()
}

fn retained(plan: &Plan) -> Vec<Case> {
    let sizes = plan.pick(vec![1000, 100_000, 1_000_000], vec![2000], vec![20]);
    let cases = sizes.into_iter().map(|uploads| {
        let load = Load::Retained(Retained { uploads });
        let [os, _] = <[Case; 2]>::try_from(plan.on_disk(
            &format!("{uploads} uploads"),
            &load,
            &plan.contenders(&[], &[]),
        ))
        .unwrap_or_else(|_| unreachable!("two durabilities"));
        os
    });
    cases.collect()
}

fn checksum(plan: &Plan) -> Vec<Case> {
    let bytes = plan.pick(1 << 30, 256 << 20, 3 << 20);
    let mut contenders = vec![Contender::new(&CEILING)];
    contenders.extend(plan.hoists(|hoist| hoist));
    contenders.extend(plan.hoists(|hoist| Contender { has_digest: true, ..hoist }.named("with SHA-256")));
    vec![plan.in_memory(&size(bytes), Load::Stream(Stream { uploads: 1, bytes }), contenders)]
}

fn latency(plan: &Plan) -> Vec<Case> {
    let bytes = plan.pick(512 << 20, 64 << 20, 1 << 20);
    let mut contenders = plan.hoists(|hoist| hoist.named("h1"));
    contenders.extend(plan.hoists(|hoist| hoist.over(Transport::H2, "h2")));
    let case = plan.in_memory(&size(bytes), Load::Stream(Stream { uploads: 1, bytes }), contenders);
    vec![Case { delay: Some(Duration::from_millis(plan.pick(100, 100, 2))), ..case }]
}

fn download(plan: &Plan) -> Vec<Case> {
    let load = Downloads { clients: plan.pick(100, 100, 4), bytes: plan.pick(64 << 20, 8 << 20, 600_000) };
    let label = format!("{} x {}", load.clients, size(load.bytes));
    vec![plan.in_memory(&label, Load::Downloads(load), plan.contenders(&[&CEILING], ALL))]
}

/// Returns a number of bytes with a binary unit.
fn size(bytes: u64) -> String {
    let units = [(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    let unit = units.into_iter().find(|(unit, _)| bytes >= *unit && bytes.is_multiple_of(*unit));
    unit.map_or_else(|| format!("{bytes} bytes"), |(unit, name)| format!("{} {name}", bytes / unit))
}
