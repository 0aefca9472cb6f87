//! The executables of the servers: built here, or installed by package name below `target/bench`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail, ensure};

use super::Setup;

/// Finds or installs a server.
pub(crate) type Install = fn(&Toolbox) -> Result<Installed>;

/// A server that can be started.
#[derive(Clone)]
pub(crate) struct Installed {
    pub(crate) executable: PathBuf,
    pub(crate) version: String,
}

/// The places of executables.
pub(crate) struct Toolbox {
    /// The directory for what is installed.
    pub(crate) directory: PathBuf,
    pub(crate) hoist: PathBuf,
    pub(crate) before: Option<PathBuf>,
}

impl Toolbox {
    #[expect(clippy::unused_self, reason = "an `Install` like the others")]
    pub(super) fn this(&self) -> Result<Installed> {
        Ok(Installed { executable: std::env::current_exe()?, version: String::new() })
    }

    pub(super) fn hoist(&self) -> Result<Installed> {
        installed(&self.hoist, "--version")
    }

    pub(super) fn before(&self) -> Result<Installed> {
        installed(self.before.as_deref().context("no other build was given")?, "--version")
    }

    pub(super) fn rustus(&self) -> Result<Installed> {
        let root = self.directory.join("rustus");
        let executable = root.join("bin/rustus");
        if !executable.exists() {
            let mut cargo = Command::new("cargo");
            run(cargo.args(["install", "--quiet", "--locked", "--root"]).arg(&root).arg("rustus"))?;
        }
        installed(&executable, "--version")
    }

    pub(super) fn tus_node(&self) -> Result<Installed> {
        let root = self.directory.join("tus-node");
        let package = root.join("node_modules/@tus/server/package.json");
        if !package.exists() {
            fs::create_dir_all(&root)?;
            let mut npm = Command::new("npm");
            npm.args(["install", "--silent", "--no-audit", "--no-fund", "--prefix"]).arg(&root);
            run(npm.args(["@tus/server", "@tus/file-store"]))?;
        }
        let executable = root.join("server.mjs");
        fs::write(&executable, include_str!("tus_node.mjs"))?;
        let text: serde_json::Value = serde_json::from_str(&fs::read_to_string(package)?)?;
        let version = format!("@tus/server {}", text["version"].as_str().unwrap_or("?"));
        Ok(Installed { executable, version })
    }

    pub(super) fn nginx(&self) -> Result<Installed> {
        let root = self.directory.join("nginx");
        let executable = root.join("usr/sbin/nginx");
        if !executable.exists() {
            // Only unpacked: installing it would start a service.
            fs::create_dir_all(&root)?;
            run(Command::new("apt-get").args(["download", "-qq", "nginx"]).current_dir(&root))?;
            let package = fs::read_dir(&root)?.flatten().map(|entry| entry.path());
            let package = package.filter(|path| path.extension().is_some_and(|kind| kind == "deb")).last();
            run(Command::new("dpkg").arg("-x").arg(package.context("no package")?).arg(&root))?;
        }
        installed(&executable, "-v")
    }
}

/// Writes the configuration of nginx into the scratch directory and returns its path.
pub(super) fn nginx_configuration(setup: &Setup<'_>) -> PathBuf {
    let path = setup.scratch.join("nginx.conf");
    let text = format!(
        include_str!("nginx.conf"),
        addr = setup.addr,
        data = setup.data.display(),
        scratch = setup.scratch.display()
    );
    // Without the file nginx does not start, and its log says why.
    let _ = fs::write(&path, text);
    path
}

fn installed(executable: &Path, flag: &str) -> Result<Installed> {
    let output = Command::new(executable).arg(flag).output();
    let output = output.with_context(|| format!("cannot run {}", executable.display()))?;
    ensure!(output.status.success(), "{} {flag} ended with {}", executable.display(), output.status);
    let text = [output.stdout, output.stderr].concat();
    let version = String::from_utf8_lossy(&text).lines().next().unwrap_or_default().to_owned();
    Ok(Installed { executable: executable.to_owned(), version })
}

fn run(command: &mut Command) -> Result<()> {
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("cannot run {command:?}"))?;
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        bail!("{command:?} ended with {}: {}", output.status, text.lines().last().unwrap_or_default());
    }
    Ok(())
}
