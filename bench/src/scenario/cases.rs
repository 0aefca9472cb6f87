//! The table of all scenarios, and the cases of each.

use std::time::Duration;

use super::{Case, Contender, Plan, Scale, Scenario};
use crate::load::{
    Appends, Client, Downloads, Held, Holding, Join, Load, Offsets, Put, Retained, Small, Stream, TakeOver,
};
use crate::program::{CEILING, Durability, HOIST, NGINX, Program, RESPONDER, RUSTUS, SPLICE, TUS_NODE};
use crate::protocol::Protocol;
use crate::target::Transport;

/// All scenarios.
pub(crate) const SCENARIOS: &[Scenario] = &[
    scenario("upload", "one large upload", upload),
    scenario("upload-h2", "one large upload over HTTP/2 without TLS", upload_h2),
    scenario("upload-tls", "one large upload over HTTP/1.1 with TLS", upload_tls),
    scenario("parallel", "large uploads at the same time", parallel),
    scenario("small", "uploads of 16 KiB in one request each, on 64 connections", small),
    scenario("small-append", "the same in two requests: create, then append", small_append),
    scenario("append", "appends to one upload, one after the other", append),
    scenario("offset", "offset queries on 16 connections", offset),
    scenario("idle", "memory of idle connections", |plan| held(plan, Holding::Idle)),
    scenario("trickle", "memory of uploads that trickle", |plan| held(plan, Holding::Trickling)),
    scenario("stall", "memory of uploads that stop after 1 MiB", |plan| held(plan, Holding::Stalled)),
    scenario("take-over", "offset queries while an append to the upload hangs", take_over),
    scenario("retained", "start and sweeps with many complete uploads", retained),
    scenario("checksum", "one large upload whose SHA-256 is verified", checksum),
    scenario("latency", "one upload at a round trip of 100 ms", latency),
    scenario("download", "downloads of one upload, 100 at once", download),
    scenario("join", "one upload joined from parts, beside a copy by the kernel", join),
    scenario("put", "the cost of a client: `hoist put` beside `curl -T`", put),
];

/// The peers that speak tus.
const TUS: &[&Program] = &[&RUSTUS, &TUS_NODE];
const ALL: &[&Program] = &[&RUSTUS, &TUS_NODE, &NGINX];

const fn scenario(name: &'static str, about: &'static str, cases: fn(&Plan) -> Vec<Case>) -> Scenario {
    Scenario { name, about, cases }
}

fn stream(plan: &Plan) -> (String, Load) {
    let bytes = plan.pick(4 << 30, 256 << 20, 3 << 20);
    (size(bytes), Load::Stream(Stream { uploads: 1, bytes }))
}

fn upload(plan: &Plan) -> Vec<Case> {
    let (label, load) = stream(plan);
    plan.everywhere(&label, &load, &plan.contenders(&[&CEILING, &SPLICE], ALL))
}

fn upload_h2(plan: &Plan) -> Vec<Case> {
    let (label, load) = stream(plan);
    let mut contenders = vec![Contender::new(&CEILING).named("h1")];
    contenders.extend(plan.hoists(|hoist| hoist.named("h1")));
    contenders.extend(plan.hoists(|hoist| hoist.over(Transport::H2SmallFrames, "h2")));
    contenders.extend(plan.hoists(|hoist| hoist.over(Transport::H2, "h2, 64 KiB frames")));
    vec![plan.in_memory(&label, load, contenders)]
}

fn upload_tls(plan: &Plan) -> Vec<Case> {
    let (label, load) = stream(plan);
    let mut contenders = vec![Contender::new(&CEILING).over(Transport::Tls, "TLS")];
    contenders.extend(plan.hoists(|hoist| hoist.over(Transport::Tls, "TLS")));
    vec![plan.in_memory(&label, load, contenders)]
}

fn parallel(plan: &Plan) -> Vec<Case> {
    let sizes = plan.pick(
        vec![(32, 128 << 20), (8, 96 << 20)],
        vec![(32, 8 << 20), (8, 32 << 20)],
        vec![(4, 600_000)],
    );
    let mut contenders = plan.contenders(&[&CEILING, &SPLICE], ALL);
    contenders.extend(plan.hoists(|hoist| hoist.over(Transport::H2, "h2")));
    let cases = sizes.into_iter().flat_map(|(uploads, bytes)| {
        let load = Load::Stream(Stream { uploads, bytes });
        let label = format!("{uploads} x {}", size(bytes));
        match plan.scale {
            Scale::Full if uploads > 8 => plan.everywhere(&label, &load, &contenders),
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
    let uploads = plan.pick(5000, 1024, 24);
    let load = Small { uploads, bytes: 16 << 10, connections: plan.pick(64, 64, 4), is_appended };
    let mut contenders = plan.contenders(&[&RESPONDER], if is_appended { TUS } else { ALL });
    if plan.scale != Scale::Quick {
        let interim = |hoist: Contender| Contender { protocol: Protocol::IetfInterim, ..hoist };
        contenders.extend(plan.hoists(|hoist| interim(hoist).named("with 104")));
    }
    plan.everywhere("", &Load::Small(load), &contenders)
}

fn append(plan: &Plan) -> Vec<Case> {
    let total: u64 = plan.pick(2 << 30, 128 << 20, 16 << 20);
    let contenders = plan.contenders(&[&CEILING], TUS);
    let cases = [1 << 20, 8 << 20].into_iter().flat_map(|bytes| {
        let load = Load::Appends(Appends { appends: total / bytes, bytes });
        plan.everywhere(&size(bytes), &load, &contenders)
    });
    cases.collect()
}

fn offset(plan: &Plan) -> Vec<Case> {
    let load = Offsets { queries: plan.pick(200_000, 16_000, 64), connections: plan.pick(16, 16, 4) };
    vec![plan.in_memory("", Load::Offsets(load), plan.contenders(&[&RESPONDER], ALL))]
}

fn held(plan: &Plan, holding: Holding) -> Vec<Case> {
    let connections = match holding {
        Holding::Idle | Holding::Trickling => plan.pick(10_000, 1000, 20).min(connections_max()),
        // Limited by the memory for their content.
        Holding::Stalled => plan.pick(2000, 100, 5),
    };
    let load = Load::Held(Held { connections, holding });
    vec![plan.in_memory(&format!("{connections} connections"), load, plan.contenders(&[], ALL))]
}

/// Returns how many connections a server can serve with its limit of open files: hoist may need three for each.
fn connections_max() -> u32 {
    let files = rustix::process::getrlimit(rustix::process::Resource::Nofile).current.unwrap_or(u64::MAX);
    u32::try_from(files / 4).unwrap_or(u32::MAX)
}

fn take_over(plan: &Plan) -> Vec<Case> {
    let queries = plan.pick(400, 60, 5);
    let contenders = plan.contenders(&[], TUS);
    let mut cases = Vec::new();
    for (is_busy, label) in [(false, "quiet"), (true, "while an upload runs")] {
        let load = Load::TakeOver(TakeOver { queries, is_busy });
        cases.extend(plan.on_disk(label, &load, &contenders));
    }
    // `disk` is the harder one.
    cases.retain(|case| plan.scale == Scale::Full || case.durability == Durability::Disk);
    cases
}

fn retained(plan: &Plan) -> Vec<Case> {
    let sizes = plan.pick(vec![1000, 100_000, 1_000_000], vec![1000], vec![20]);
    let contenders = plan.contenders(&[], &[]);
    let cases = sizes.into_iter().map(|uploads| {
        let load = Load::Retained(Retained { uploads });
        plan.on_disk_at_os(&format!("{uploads} uploads"), load, contenders.clone())
    });
    cases.collect()
}

fn checksum(plan: &Plan) -> Vec<Case> {
    let bytes = plan.pick(1 << 30, 128 << 20, 3 << 20);
    let mut contenders = vec![Contender::new(&CEILING)];
    contenders.extend(plan.hoists(|hoist| hoist));
    contenders.extend(plan.hoists(|hoist| Contender { has_digest: true, ..hoist }.named("with SHA-256")));
    vec![plan.in_memory(&size(bytes), Load::Stream(Stream { uploads: 1, bytes }), contenders)]
}

fn latency(plan: &Plan) -> Vec<Case> {
    let bytes = plan.pick(512 << 20, 32 << 20, 1 << 20);
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

fn join(plan: &Plan) -> Vec<Case> {
    let load = Join { parts: plan.pick(20, 20, 3), bytes: plan.pick(50 << 20, 8 << 20, 70_000) };
    let label = format!("{} x {}", load.parts, size(load.bytes));
    let mut contenders = vec![Contender::new(&CEILING)];
    contenders.extend(plan.hoists(|hoist| Contender { protocol: Protocol::Tus, ..hoist }));
    plan.on_disk(&label, &Load::Join(load), &contenders)
}

fn put(plan: &Plan) -> Vec<Case> {
    let bytes = plan.pick(4 << 30, 256 << 20, 3 << 20);
    let curl = plan.has_curl.then(|| Contender {
        client: Client::Curl,
        label: "curl -T".to_owned(),
        ..Contender::new(&HOIST)
    });
    let hoists = plan.hoists(|hoist| Contender { client: Client::HoistPut, ..hoist }.named("put"));
    let contenders = curl.into_iter().chain(hoists).collect();
    vec![plan.on_disk_at_os(&size(bytes), Load::Put(Put { bytes }), contenders)]
}

/// Returns a number of bytes with a binary unit.
fn size(bytes: u64) -> String {
    let units = [(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    let unit = units.into_iter().find(|(unit, _)| bytes >= *unit && bytes.is_multiple_of(*unit));
    unit.map_or_else(|| format!("{bytes} bytes"), |(unit, name)| format!("{} {name}", bytes / unit))
}
