//! Benchmarks of hoist beside raw programs and other servers, run as `cargo xtask bench`.
//!
//! Owns the command line. A run is: [scenarios](scenario) made of cases, [rounds](round) in which each contender of a case
//! runs once, and a [report]. Outside the product: no crate of hoist depends on this one.

// A tool prints to the terminal; the lints against printing are for the product.
#![allow(clippy::print_stdout, clippy::print_stderr)]

mod answer;
mod ceiling;
mod client;
mod content;
mod delay;
mod launch;
mod load;
mod machine;
mod process;
mod program;
mod protocol;
mod report;
mod round;
mod sample;
mod scenario;
mod target;
mod tls;

use std::collections::HashMap;
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context as _, Result, bail, ensure};
use clap::{Parser, Subcommand};

use crate::machine::Machine;
use crate::program::install::{Installed, Toolbox};
use crate::program::{BEFORE, HOIST, PEERS, Program, RAW};
use crate::report::{Row, markdown};
use crate::scenario::{Plan, SCENARIOS, Scale, Scenario};

/// The document with the results, in the directory of the project.
const DOCUMENT: &str = "docs/performance.md";

/// Measures hoist beside raw programs and other servers.
#[derive(Parser)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of the command line")]
struct Options {
    #[command(subcommand)]
    program: Option<Raw>,
    /// Scenarios to run; all by default.
    scenarios: Vec<String>,
    /// Small sizes: all scenarios in about two minutes.
    #[arg(long)]
    quick: bool,
    /// The smallest sizes, to check that everything works; times mean nothing.
    #[arg(long)]
    smoke: bool,
    /// List the scenarios.
    #[arg(long)]
    list: bool,
    /// Rounds of each case [default: 5; 3 if quick].
    #[arg(long, value_name = "N")]
    rounds: Option<usize>,
    /// Other servers to measure, separated by commas: rustus, tus-node, nginx, `all` or `none` [default: all; none if
    /// quick].
    #[arg(long, value_delimiter = ',')]
    peers: Option<Vec<String>>,
    /// Another build of hoist to measure in the same rounds, as `before`.
    #[arg(long, value_name = "FILE")]
    before: Option<PathBuf>,
    /// The directory for data on disk.
    #[arg(long, value_name = "DIR", default_value_os_t = std::env::temp_dir())]
    dir: PathBuf,
    /// Print lines of JSON instead of a table.
    #[arg(long)]
    json: bool,
    /// Write the tables of these scenarios into docs/performance.md.
    #[arg(long)]
    write: bool,
    /// The build of hoist to measure [default: beside this program].
    #[arg(long, value_name = "FILE")]
    hoist: Option<PathBuf>,
    /// The directory for servers that are installed.
    #[arg(long, value_name = "DIR", default_value = "target/bench")]
    tools: PathBuf,
}

#[derive(Subcommand)]
enum Raw {
    /// Runs the raw program that the scenarios compare with.
    Ceiling(ceiling::Options),
}

fn main() -> Result<()> {
    let options = Options::parse();
    match &options.program {
        Some(Raw::Ceiling(ceiling)) => ceiling::run(ceiling),
        None if options.list => {
            for scenario in SCENARIOS {
                println!("{:<14} {}", scenario.name, scenario.about);
            }
            Ok(())
        }
        None => measure(&options),
    }
}

fn measure(options: &Options) -> Result<()> {
    raise_file_limit();
    let scale = match (options.smoke, options.quick) {
        (true, _) => Scale::Smoke,
        (_, true) => Scale::Quick,
        _ => Scale::Full,
    };
    let rounds = options.rounds.unwrap_or(match scale {
        Scale::Full => 5,
        Scale::Quick => 3,
        Scale::Smoke => 1,
    });
    let scenarios = chosen_scenarios(options)?;
    let installed = installed(options, scale)?;
    let machine = Machine::this(&options.dir)?;
    let plan = Plan {
        scale,
        memory: Some(PathBuf::from("/dev/shm")).filter(|memory| memory.is_dir()),
        disk: (options.dir.clone(), machine.file_system.clone()),
        peers: PEERS.into_iter().filter(|peer| installed.contains_key(peer.name)).collect(),
        has_before: options.before.is_some(),
        has_curl: Command::new("curl").arg("--version").output().is_ok(),
    };
    let (mut failures, mut kept) = (0, Vec::new());
    for scenario in scenarios {
        let (began, mut rows) = (Instant::now(), Vec::new());
        for case in (scenario.cases)(&plan) {
            let outcomes = round::run(&case, rounds, scale == Scale::Smoke, &installed, &mut kept)?;
            let of_case = report::rows(scenario, &case, &outcomes);
            if options.json {
                of_case.iter().map(report::json).for_each(|lines| print!("{lines}"));
            } else {
                print!("{}", report::text(&of_case));
            }
            rows.extend(of_case);
        }
        if options.write {
            write(scenario.name, &markdown::table(&rows, rounds))?;
        }
        eprintln!("{} took {:.0} s", scenario.name, began.elapsed().as_secs_f64());
        failures += rows.iter().filter(|row| is_own_failure(row)).count();
    }
    if options.write {
        let version = |name| installed.get(name).map(|found: &Installed| found.version.as_str());
        let programs = RAW.into_iter().chain([&HOIST]).chain(PEERS);
        let programs: Vec<_> = programs.map(|program| (program, version(program.name))).collect();
        write("machine", &markdown::machine(&machine, &programs))?;
    }
    ensure!(failures == 0, "{failures} measurements of hoist or the ceiling failed");
    Ok(())
}

/// Writes a block of the document.
fn write(name: &str, text: &str) -> Result<()> {
    let document = fs::read_to_string(DOCUMENT).with_context(|| format!("no {DOCUMENT}"))?;
    let replaced = markdown::replace(&document, name, text);
    fs::write(DOCUMENT, replaced.with_context(|| format!("{DOCUMENT} has no block `{name}`"))?)?;
    Ok(())
}

/// Returns whether a row of hoist or a raw program has no result. Other servers may fail.
fn is_own_failure(row: &Row) -> bool {
    row.cells.is_err() && !PEERS.iter().any(|peer| row.contender == peer.name)
}

fn tools(options: &Options) -> Result<Toolbox> {
    fs::create_dir_all(&options.tools)?;
    let beside = || Ok::<_, std::io::Error>(std::env::current_exe()?.with_file_name("hoist"));
    Ok(Toolbox {
        directory: options.tools.canonicalize()?,
        hoist: options.hoist.clone().map_or_else(beside, Ok)?,
        before: options.before.clone(),
    })
}

/// Returns the servers of this run by name. Prints the reason for each chosen peer that cannot be installed.
fn installed(options: &Options, scale: Scale) -> Result<HashMap<&'static str, Installed>> {
    let tools = tools(options)?;
    let before = options.before.as_ref().map(|_| &BEFORE);
    let mut installed = HashMap::new();
    for program in RAW.into_iter().chain([&HOIST]).chain(before) {
        let found = (program.install)(&tools).with_context(|| format!("no {}", program.name))?;
        installed.insert(program.name, found);
    }
    for peer in chosen_peers(options, scale)? {
        match (peer.install)(&tools) {
            Ok(found) => {
                installed.insert(peer.name, found);
            }
            Err(error) => eprintln!("without {}: {error:#}", peer.name),
        }
    }
    Ok(installed)
}

fn chosen_scenarios(options: &Options) -> Result<Vec<&'static Scenario>> {
    let find = |name: &String| {
        let found = SCENARIOS.iter().find(|scenario| scenario.name == name);
        found.with_context(|| format!("no scenario is called {name}; --list lists them"))
    };
    match options.scenarios.as_slice() {
        [] => Ok(SCENARIOS.iter().collect()),
        names => names.iter().map(find).collect(),
    }
}

fn chosen_peers(options: &Options, scale: Scale) -> Result<Vec<&'static Program>> {
    let default = if scale == Scale::Full { "all" } else { "none" };
    let names = options.peers.clone().unwrap_or_else(|| vec![default.to_owned()]);
    match names.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["all"] => Ok(PEERS.to_vec()),
        ["none"] => Ok(Vec::new()),
        ref names => {
            let find = |name: &&str| PEERS.into_iter().find(|peer| peer.name == *name);
            match names.iter().find(|name| find(name).is_none()) {
                Some(name) => bail!("no peer is called {name}"),
                None => Ok(names.iter().filter_map(find).collect()),
            }
        }
    }
}

/// Raises the limit of open files as far as permitted; servers inherit it.
fn raise_file_limit() {
    let mut limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    limit.current = limit.maximum;
    // A run with many connections says so if it fails.
    let _ = rustix::process::setrlimit(rustix::process::Resource::Nofile, limit);
}
