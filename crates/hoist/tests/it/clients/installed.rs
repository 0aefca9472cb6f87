//! Installation of third-party clients from package registries, at versions locked in this repository, once, below the
//! target directory. If they cannot be installed, tests print a note and are skipped.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;

use crate::harness::print_note;

/// A set of packages, and its location once installed.
type TestDir = OnceLock<Option<PathBuf>>;

/// tus-js-client in both releases, with its driver script.
pub(super) fn tus_js_client() -> Option<&'static Path> {
    static PLACE: TestDir = OnceLock::new();
    PLACE.get_or_init(|| node_packages("node", &["upload.js"])).as_deref()
}

/// Uppy, with its page and the script that drives the browser.
pub(super) fn uppy() -> Option<&'static Path> {
    static PLACE: TestDir = OnceLock::new();
    PLACE.get_or_init(|| node_packages("browser", &["drive.js", "page.html"])).as_deref()
}

/// `@tus/server`, with the script that starts it.
pub(crate) fn tus_node_server() -> Option<&'static Path> {
    static PLACE: TestDir = OnceLock::new();
    PLACE.get_or_init(|| node_packages("tus-node-server", &["serve.js"])).as_deref()
}

/// Returns the browser's executable.
pub(super) fn chromium() -> Option<&'static Path> {
    static PLACE: TestDir = OnceLock::new();
    let look = || {
        let mut names = ["chromium", "chromium-browser", "google-chrome"].into_iter();
        let paths: Vec<_> = std::env::split_paths(&std::env::var_os("PATH")?).collect();
        let found =
            names.find_map(|name| paths.iter().map(|path| path.join(name)).find(|path| path.exists()));
        if found.is_none() {
            missing("chromium");
        }
        found
    };
    PLACE.get_or_init(look).as_deref()
}

/// Returns a Python with tuspy.
pub(super) fn tuspy() -> Option<&'static Path> {
    static PLACE: TestDir = OnceLock::new();
    let install = || {
        let requirements = source("python").join("requirements.txt");
        let venv = ["-c", "import venv, ensurepip"];
        if !works(Command::new("python3").args(venv)) {
            missing("python3 with venv");
            return None;
        }
        let place = made_once("tuspy", &[&requirements], |place| {
            let venv = place.join("venv");
            must(Command::new("python3").args(["-m", "venv"]).arg(&venv));
            let mut pip = Command::new(venv.join("bin/python"));
            pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps", "-r"]);
            must(pip.arg(&requirements));
        });
        Some(place.join("venv/bin/python"))
    };
    PLACE.get_or_init(install).as_deref()
}

/// Returns the program that drives tus-uploader.
pub(super) fn tus_uploader() -> Option<&'static Path> {
    static PLACE: TestDir = OnceLock::new();
    let build = || {
        let manifest = source("rust-client").join("Cargo.toml");
        let cargo = |words: &[&str]| {
            let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
            cargo.args(words).args(["--quiet", "--locked", "--manifest-path"]).arg(&manifest);
            cargo
        };
        let is_here = works(&mut cargo(&["fetch", "--offline"]));
        if !is_here && !works(&mut cargo(&["fetch"])) {
            print_note(format_args!("not tested: tus-uploader is not here, and crates.io cannot be reached"));
            return None;
        }
        // In a target directory of its own, which is kept between changes.
        let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("rust-client");
        must(cargo(&["build", "--offline"]).arg("--target-dir").arg(&target));
        Some(target.join("debug/hoist-tests-rust-client"))
    };
    PLACE.get_or_init(build).as_deref()
}

fn source(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(name)
}

fn node_packages(name: &str, own: &[&str]) -> Option<PathBuf> {
    for tool in ["node", "npm"] {
        if !works(Command::new(tool).arg("--version")) {
            missing(tool);
            return None;
        }
    }
    let source = source(name);
    let [manifest, lock] = ["package.json", "package-lock.json"].map(|name| source.join(name));
    let place = made_once(name, &[&manifest, &lock], |place| {
        for file in [&manifest, &lock] {
            fs::copy(file, place.join(file.file_name().expect("a name"))).expect("copied");
        }
        let mut npm = Command::new("npm");
        must(npm.args(["ci", "--ignore-scripts", "--no-audit", "--no-fund"]).current_dir(place));
    });
    // The driver scripts of this repository may have changed.
    for own in own {
        let aside = tempfile::NamedTempFile::new_in(&place).expect("a file");
        fs::copy(source.join(own), aside.path()).expect("copied");
        aside.persist(place.join(own)).expect("renamed");
    }
    Some(place)
}

/// Returns a directory that is created once, and again if its inputs have changed.
fn made_once(name: &str, from: &[&Path], make: impl FnOnce(&Path)) -> PathBuf {
    let parts: Vec<_> = from.iter().map(|file| fs::read(file).expect("what it is made from")).collect();
    let print = parts.iter().flatten().fold(0xcbf2_9ce4_8422_2325_u64, |hash, octet| {
        (hash ^ u64::from(*octet)).wrapping_mul(0x0100_0000_01b3)
    });
    let all = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let place = all.join(format!("{name}-{print:016x}"));
    // Each test may be a process of its own; the others wait for the first.
    let lock = File::create(all.join(format!("{name}.lock"))).expect("a file");
    lock.lock().expect("locked");
    if !place.exists() {
        // Created under another name first, so that the directory is always complete.
        let aside = tempfile::tempdir_in(all).expect("a directory");
        make(aside.path());
        fs::rename(aside.keep(), &place).expect("renamed");
    }
    place
}

fn missing(what: &str) {
    print_note(format_args!("not tested: there is no {what} on this machine"));
}

fn works(command: &mut Command) -> bool {
    output(command).is_some_and(|output| output.status.success())
}

fn must(command: &mut Command) {
    let output = output(command).unwrap_or_else(|| panic!("cannot start {command:?}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

fn output(command: &mut Command) -> Option<Output> {
    command.stdin(Stdio::null()).output().ok()
}
