//! `cargo xtask docs`: runs the shell commands of the documents, in order, as printed.
//!
//! Each document runs in one shell, in a scratch directory, with the debug build of `hoist` in its `PATH`, and in a network
//! of its own where the system permits it. ARCHITECTURE.md, STYLE.md and CONTRIBUTING.md are not run.

mod block;

use std::fmt::Write as _;
use std::fs;
use std::io::ErrorKind;
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use self::block::{Block, Fence};
use crate::shell::{Shell, is_in_path};
use crate::step::Outcome;

/// The time limit for all blocks of one document.
const DOCUMENT_LIMIT: Duration = Duration::from_mins(4);

/// The port that the documents print.
const PORT: u16 = 8080;

/// The beginning of a document's script.
///
/// A command that fails ends the script, unless its block permits the exit code. A server in the foreground of a block
/// runs until the next one starts, as in another terminal.
const PRELUDE: &str = r#"
set -E -o pipefail
permitted=
failed() {
    case " $permitted " in
        *" $1 "*) ;;
        *) echo "$place: exit code $1: $2" >&2; exit 1 ;;
    esac
}
trap 'failed $? "$BASH_COMMAND"' ERR
server=
stop_server() {
    if [[ -z $server ]]; then return; fi
    kill -TERM "$server"
    for _ in {1..400}; do
        if ! kill -0 "$server" 2>/dev/null; then server=; return; fi
        sleep 0.1
    done
    echo "$place: the server does not stop" >&2
    exit 1
}
wait_for_port() {
    for _ in {1..200}; do
        if (: </dev/tcp/127.0.0.1/"$1") 2>/dev/null; then return; fi
        sleep 0.05
    done
    echo "$place: nothing listens on port $1" >&2
    exit 1
}
"#;

/// Builds `hoist` and runs the documents, or the one whose path ends with `only`.
pub(crate) fn build_and_run(root: &Path, only: Option<&str>) -> Result<Outcome> {
    Shell::cargo(root).args(["build", "--locked", "--quiet", "--package", "hoist"]).run()?;
    run(root, only)
}

/// Runs the documents with the debug build of `hoist`, which has to exist.
pub(crate) fn run(root: &Path, only: Option<&str>) -> Result<Outcome> {
    for program in ["bash", "curl"] {
        if !is_in_path(program) {
            eprintln!("    there is no {program}: the commands of the documents are NOT run");
            return Ok(Outcome::Noted(format!("not run: there is no {program}")));
        }
    }
    let isolated = can_isolate(root);
    if !isolated {
        eprintln!("    no network namespaces: the documents use port {PORT} of this machine");
    }
    let (mut count, mut skipped) = (0, Vec::new());
    for path in documents(root)?.iter().filter(|path| only.is_none_or(|only| path.ends_with(only))) {
        let name = path.strip_prefix(root).unwrap_or(path).display().to_string();
        let text = fs::read_to_string(path).with_context(|| format!("cannot read {name}"))?;
        let fences = block::fences(&text).with_context(|| name.clone())?;
        let blocks: Vec<_> = fences.iter().filter_map(|fence| fence.block.as_ref()).collect();
        let not_run = blocks
            .iter()
            .filter_map(|block| Some(format!("{name}:{}: {}", block.line, block.no_run.as_ref()?)));
        skipped.extend(not_run);
        let runs = blocks.iter().filter(|block| block.no_run.is_none()).count();
        if runs > 0 {
            eprintln!("    {name}: running {runs} of {} blocks", blocks.len());
            execute(root, &name, &fences, isolated)?;
            count += runs;
        }
    }
    ensure!(
        count > 0,
        "no document with shell commands{}",
        only.map(|only| format!(" ends with {only}")).unwrap_or_default()
    );
    for skipped in &skipped {
        eprintln!("    not run: {skipped}");
    }
    Ok(Outcome::Noted(format!("{count} blocks run, {} not", skipped.len())))
}

/// Returns the documents for users: README.md, those in `docs/`, and the README of each crate.
fn documents(root: &Path) -> Result<Vec<PathBuf>> {
    let mut paths = vec![root.join("README.md")];
    for entry in fs::read_dir(root.join("docs")).context("cannot list docs/")? {
        paths.push(entry?.path());
    }
    for entry in fs::read_dir(root.join("crates")).context("cannot list crates/")? {
        paths.push(entry?.path().join("README.md"));
    }
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "md") && path.exists());
    paths[1..].sort();
    Ok(paths)
}

/// The arguments of `unshare` for a network of its own, whose processes end with it.
const ISOLATION: [&str; 7] =
    ["--user", "--map-root-user", "--net", "--pid", "--fork", "--kill-child", "bash"];

/// Returns whether a document can have a network of its own.
fn can_isolate(root: &Path) -> bool {
    let trial = Shell::new("unshare", root).args(ISOLATION).args(["-c", "ip link set lo up"]);
    is_in_path("unshare") && trial.output().is_some()
}

/// Runs the blocks of a document and compares their output.
fn execute(root: &Path, name: &str, fences: &[Fence], is_isolated: bool) -> Result<()> {
    let scratch = root.join("target/documents").join(name.replace(['/', '.'], "-"));
    match fs::remove_dir_all(&scratch) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            return Err(error).with_context(|| format!("cannot remove {}", scratch.display()));
        }
        _ => {}
    }
    let work = scratch.join("work");
    for directory in [&work, &scratch.join("home")] {
        fs::create_dir_all(directory).with_context(|| format!("cannot make {}", directory.display()))?;
    }
    let script = script(name, fences, &scratch)?;
    fs::write(scratch.join("run.sh"), script).context("cannot write a script")?;
    let mut command = Command::new("unshare");
    if is_isolated {
        let start = "ip link set lo up && exec bash ../run.sh";
        command.args([
            "--user",
            "--map-root-user",
            "--net",
            "--pid",
            "--fork",
            "--kill-child",
            "bash",
            "-c",
            start,
        ]);
    } else {
        TcpListener::bind((Ipv4Addr::LOCALHOST, PORT)).with_context(|| {
            format!("port {PORT} is in use; end the program that uses it and run this again")
        })?;
        command = Command::new("bash");
        command.arg("../run.sh");
    }
    let settings = std::env::vars_os().map(|(name, _)| name);
    for name in settings.filter(|name| name.to_string_lossy().starts_with("HOIST_")) {
        command.env_remove(name);
    }
    let mut path = root.join("target/debug").into_os_string();
    path.push(":");
    path.push(std::env::var_os("PATH").unwrap_or_default());
    command.env("PATH", path).env("HOME", scratch.join("home")).env_remove("XDG_STATE_HOME");
    command.current_dir(&work).stdin(Stdio::null()).process_group(0);
    let log = fs::File::create(scratch.join("log")).context("cannot write a log")?;
    command.stdout(log.try_clone().context("cannot share a log")?).stderr(log);
    finish(command, name, root)
        .with_context(|| fs::read_to_string(scratch.join("log")).unwrap_or_default())
        .with_context(|| format!("{name} does not run as printed; its output:"))?;
    compare(name, fences, &scratch)
}

/// Waits for a document's shell. Ends it, with the processes it started, after the time limit.
fn finish(mut command: Command, name: &str, root: &Path) -> Result<()> {
    let mut child = command.spawn().context("cannot start bash")?;
    let started = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break Some(status);
        }
        if started.elapsed() > DOCUMENT_LIMIT {
            break None;
        }
        thread::sleep(Duration::from_millis(50));
    };
    // Ends what the document left running. Without such processes the group is gone.
    let _ = Shell::new("kill", root).args(["-9", "--", &format!("-{}", child.id())]).output();
    match status {
        Some(status) if status.success() => Ok(()),
        Some(status) => bail!("{name}: {status}"),
        None => {
            child.wait()?;
            bail!("{name} took longer than {} seconds", DOCUMENT_LIMIT.as_secs())
        }
    }
}

/// Writes the blocks as files and returns the script that runs them.
fn script(name: &str, fences: &[Fence], scratch: &Path) -> Result<String> {
    let mut script = PRELUDE.to_owned();
    for block in fences.iter().filter_map(|fence| fence.block.as_ref()).filter(|block| block.no_run.is_none())
    {
        let Block { line, permitted, .. } = block;
        let file = scratch.join(format!("block-{line}.sh"));
        fs::write(&file, block.as_run()).with_context(|| format!("cannot write {}", file.display()))?;
        let _ = writeln!(script, "place={name}:{line}; permitted='{permitted}'");
        let output = format!("../output-{line}");
        match block.server_port() {
            Some(port) if block.is_server_in_front() => {
                script += "stop_server\n";
                let start = format!("( source ../block-{line}.sh ) & server=$!; disown");
                let _ = writeln!(
                    script,
                    "{start}
wait_for_port {port}"
                );
            }
            Some(port) => {
                let _ = writeln!(script, "source ../block-{line}.sh\nwait_for_port {port}");
            }
            None => {
                let _ = writeln!(script, "source ../block-{line}.sh > {output}\ncat {output}");
            }
        }
    }
    script += "permitted=\nstop_server\n";
    Ok(script)
}

/// Compares the output of blocks with the expected output that follows them.
fn compare(name: &str, fences: &[Fence], scratch: &Path) -> Result<()> {
    for pair in fences.windows(2) {
        let [Fence { block: Some(block), .. }, Fence { output: Some(expected), .. }] = pair else {
            continue;
        };
        if block.no_run.is_none() {
            let printed =
                fs::read_to_string(scratch.join(format!("output-{}", block.line))).unwrap_or_default();
            ensure!(
                block::matches(expected, &printed),
                "{name}:{}: the output differs from the one in the document. It is:\n{printed}",
                block.line
            );
        }
    }
    Ok(())
}
