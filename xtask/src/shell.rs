//! Other programs: starting them, waiting for them, and whether they are there at all.

use std::ffi::OsStr;
use std::io::ErrorKind;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// A command with its output left on the terminal.
pub(crate) struct Shell {
    command: Command,
    shown: String,
}

impl Shell {
    /// `cargo` of the toolchain that runs this program, in `root`.
    pub(crate) fn cargo(root: &Path) -> Self {
        // Set by cargo for what it runs; the rustup proxy would do the same, more slowly.
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let mut shell = Self::new(cargo, root);
        "cargo".clone_into(&mut shell.shown);
        shell
    }

    /// `cargo` of another toolchain, through rustup.
    pub(crate) fn cargo_of(toolchain: &str, root: &Path) -> Self {
        // What cargo sets for us would send the child back to our own toolchain.
        let mut shell = Self::new("cargo", root);
        shell
            .command
            .env_remove("CARGO")
            .env_remove("RUSTC")
            .env_remove("RUSTDOC")
            .env_remove("RUSTUP_TOOLCHAIN");
        shell.args([&format!("+{toolchain}")])
    }

    /// Any program, in `root`.
    pub(crate) fn new(program: impl AsRef<OsStr>, root: &Path) -> Self {
        let shown = program.as_ref().to_string_lossy().into_owned();
        let mut command = Command::new(program);
        command.current_dir(root).stdin(Stdio::null());
        Self { command, shown }
    }

    /// Adds words to the command.
    pub(crate) fn args<S: AsRef<OsStr>>(mut self, words: impl IntoIterator<Item = S>) -> Self {
        for word in words {
            self.shown.push(' ');
            self.shown.push_str(&word.as_ref().to_string_lossy());
            self.command.arg(word);
        }
        self
    }

    /// Sets a variable of the command's environment.
    pub(crate) fn env(mut self, name: &str, value: &str) -> Self {
        self.shown = format!("{name}={value} {}", self.shown);
        self.command.env(name, value);
        self
    }

    /// Runs it, showing the command first; an exit code other than zero is an error.
    pub(crate) fn run(mut self) -> Result<()> {
        eprintln!("    {}", self.shown);
        let status = self.command.status().with_context(|| format!("cannot start `{}`", self.shown))?;
        if !status.success() {
            bail!("`{}` ended with {status}", self.shown);
        }
        Ok(())
    }

    /// Runs it silently and returns what it printed on stdout, or `None` when it is absent or failed.
    pub(crate) fn output(mut self) -> Option<String> {
        let output = self.command.stderr(Stdio::null()).output().ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Runs it silently and says whether it succeeded within `limit`; when not, it is ended.
    pub(crate) fn succeeds_within(mut self, limit: Duration) -> Result<bool> {
        eprintln!("    {}", self.shown);
        let started = Instant::now();
        let mut child = match self.command.stdout(Stdio::null()).stderr(Stdio::null()).spawn() {
            Ok(child) => child,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(error).with_context(|| format!("cannot start `{}`", self.shown)),
        };
        loop {
            if let Some(status) = child.try_wait()? {
                return Ok(status.success());
            }
            if started.elapsed() > limit {
                child.kill()?;
                child.wait()?;
                return Ok(false);
            }
            thread::sleep(Duration::from_millis(100));
        }
    }
}

/// Whether `cargo <name>` can be run, which is to say that `cargo-<name>` is installed.
pub(crate) fn has_cargo_tool(name: &str, root: &Path) -> bool {
    Shell::cargo(root).args([name, "--version"]).output().is_some()
}

/// Sees to it that `cargo <name>` can be run, by building it from its locked source when it is missing.
pub(crate) fn need_cargo_tool(name: &str, root: &Path) -> Result<()> {
    if has_cargo_tool(name, root) {
        return Ok(());
    }
    let package = format!("cargo-{name}");
    eprintln!("    {package} is missing; building it (once)");
    Shell::cargo(root)
        .args(["install", "--locked", &package])
        .run()
        .with_context(|| format!("{package} is needed; install it by hand and run this again"))
}

/// Sees to it that a component of the toolchain (`clippy`, `rustfmt`) is there.
pub(crate) fn need_component(name: &str, tool: &str, root: &Path) -> Result<()> {
    if has_cargo_tool(tool, root) {
        return Ok(());
    }
    eprintln!("    {name} is missing; asking rustup for it");
    Shell::new("rustup", root)
        .args(["component", "add", name])
        .run()
        .with_context(|| format!("{name} is needed; add it to the toolchain and run this again"))
}

/// Whether [`install`] has a chance here.
pub(crate) fn can_install(root: &Path) -> bool {
    let is_root = Shell::new("id", root).args(["-u"]).output().is_some_and(|user| user.trim() == "0");
    is_root && Shell::new("apt-get", root).args(["--version"]).output().is_some()
}

/// Installs a package of the system's own, for root on a Debian.
pub(crate) fn install(package: &str, root: &Path) -> Result<()> {
    eprintln!("    {package} is missing; installing it (once)");
    let apt = || Shell::new("apt-get", root).env("DEBIAN_FRONTEND", "noninteractive");
    apt().args(["update", "-qq"]).run()?;
    apt().args(["install", "-qq", "--yes", "--no-install-recommends", package]).run()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failing_command_is_an_error_that_names_it() {
        let error = Shell::cargo(Path::new(".")).args(["no-such-chore"]).run().unwrap_err();
        assert!(error.to_string().starts_with("`cargo no-such-chore` ended with"), "{error}");
    }

    #[test]
    fn an_absent_program_is_no_success() {
        let absent = || Shell::new("no-such-program-of-hoist", Path::new("."));
        assert_eq!(absent().output(), None);
        assert!(!absent().succeeds_within(Duration::from_secs(1)).unwrap());
    }
}
