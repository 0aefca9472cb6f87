//! Runs other programs and detects whether they are installed.

use std::ffi::OsStr;
use std::io::ErrorKind;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// A command whose output goes to the terminal.
pub(crate) struct Shell {
    command: Command,
    shown: String,
}

impl Shell {
    /// Returns `cargo` of the current toolchain, run in `root`.
    pub(crate) fn cargo(root: &Path) -> Self {
        // Set by cargo; faster than the rustup proxy.
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let mut shell = Self::new(cargo, root);
        "cargo".clone_into(&mut shell.shown);
        shell
    }

    /// Returns `cargo` of another toolchain, through rustup.
    pub(crate) fn cargo_of(toolchain: &str, root: &Path) -> Self {
        // These variables would select the current toolchain again.
        let mut shell = Self::new("cargo", root);
        shell
            .command
            .env_remove("CARGO")
            .env_remove("RUSTC")
            .env_remove("RUSTDOC")
            .env_remove("RUSTUP_TOOLCHAIN");
        shell.args([&format!("+{toolchain}")])
    }

    /// Returns any program, run in `root`.
    pub(crate) fn new(program: impl AsRef<OsStr>, root: &Path) -> Self {
        let shown = program.as_ref().to_string_lossy().into_owned();
        let mut command = Command::new(program);
        command.current_dir(root).stdin(Stdio::null());
        Self { command, shown }
    }

    /// Adds arguments.
    pub(crate) fn args<S: AsRef<OsStr>>(mut self, words: impl IntoIterator<Item = S>) -> Self {
        for word in words {
            self.shown.push(' ');
            self.shown.push_str(&word.as_ref().to_string_lossy());
            self.command.arg(word);
        }
        self
    }

    /// Sets an environment variable.
    pub(crate) fn env(mut self, name: &str, value: &str) -> Self {
        self.shown = format!("{name}={value} {}", self.shown);
        self.command.env(name, value);
        self
    }

    /// Prints and runs the command. An exit code other than zero is an error.
    pub(crate) fn run(mut self) -> Result<()> {
        eprintln!("    {}", self.shown);
        let status = self.command.status().with_context(|| format!("cannot start `{}`", self.shown))?;
        if !status.success() {
            bail!("`{}` ended with {status}", self.shown);
        }
        Ok(())
    }

    /// Runs the command silently. Returns its standard output, or `None` if it is missing or failed.
    pub(crate) fn output(mut self) -> Option<String> {
        let output = self.command.stderr(Stdio::null()).output().ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Runs the command silently. Returns whether it succeeded within `limit`; after that it is killed.
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

/// Returns whether `cargo-<name>` is installed.
pub(crate) fn has_cargo_tool(name: &str, root: &Path) -> bool {
    Shell::cargo(root).args([name, "--version"]).output().is_some()
}

/// Installs `cargo-<name>` from its locked source if it is missing.
pub(crate) fn need_cargo_tool(name: &str, root: &Path) -> Result<()> {
    if has_cargo_tool(name, root) {
        return Ok(());
    }
    let package = format!("cargo-{name}");
    eprintln!("    {package} is missing; building it (once)");
    Shell::cargo(root)
        .args(["install", "--locked", &package])
        .run()
        .with_context(|| format!("{package} is required; install it and run this again"))
}

/// Installs a component of the toolchain (`clippy`, `rustfmt`) if it is missing.
pub(crate) fn need_component(name: &str, tool: &str, root: &Path) -> Result<()> {
    if has_cargo_tool(tool, root) {
        return Ok(());
    }
    eprintln!("    {name} is missing; installing it with rustup");
    Shell::new("rustup", root)
        .args(["component", "add", name])
        .run()
        .with_context(|| format!("{name} is required; add it to the toolchain and run this again"))
}

/// Returns whether a directory of `PATH` has a file of this name.
pub(crate) fn is_in_path(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|directory| directory.join(program).is_file())
}

/// Returns whether [`install`] can work here.
pub(crate) fn can_install(root: &Path) -> bool {
    let is_root = Shell::new("id", root).args(["-u"]).output().is_some_and(|user| user.trim() == "0");
    is_root && Shell::new("apt-get", root).args(["--version"]).output().is_some()
}

/// Installs a system package, as root with apt-get.
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
    fn a_missing_program_is_a_failure() {
        let absent = || Shell::new("no-such-program-of-hoist", Path::new("."));
        assert_eq!(absent().output(), None);
        assert!(!absent().succeeds_within(Duration::from_secs(1)).unwrap());
    }
}
