//! The checks of `config check` that depend on this machine: addresses, directories and the permissions of files.
//!
//! Each tries what `serve` will do and leaves nothing behind.

use std::fs::{self, File};
use std::io;
use std::net::{SocketAddr, TcpListener, ToSocketAddrs as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use hoist_store::fs::is_in_use;
use rustix::fs::{Access, AtFlags, CWD};

use crate::cmd::serve::listeners::{cannot_listen, require_stale};
use crate::config::{AuthConfig, Config, ConfigError, JwtKeys, ListenAt, TargetConfig};

/// The result of the checks.
#[derive(Debug, Default)]
pub(super) struct Findings {
    pub(super) problems: Vec<ConfigError>,
    pub(super) warnings: Vec<String>,
}

/// Checks everything that a start depends on besides the configuration.
pub(super) fn check(config: &Config) -> Findings {
    let mut findings = Findings::default();
    let is_served = is_in_use(&config.data);
    findings.listen(config, is_served);
    findings.data(config, is_served);
    findings.files(config);
    findings.secrets(config);
    findings
}

impl Findings {
    fn problem(&mut self, config: &Config, name: &str, what: String) {
        self.problems.push(ConfigError::at(config.location(name), what));
    }

    /// Binds each address. While a server uses the data directory, addresses in use are probably its own.
    fn listen(&mut self, config: &Config, is_served: bool) {
        let mut bound = Vec::new();
        let admin = config.admin.iter().map(|admin| ("admin", &admin.listen));
        for (name, place) in config.listen.iter().map(|place| ("listen", place)).chain(admin) {
            match bind(place) {
                Ok(listeners) => bound.extend(listeners),
                Err(error) if error.kind() == io::ErrorKind::AddrInUse && is_served => {
                    self.warnings.push(format!(
                        "{place} is in use, probably by the server that runs on {}",
                        config.data.display()
                    ));
                }
                Err(error) => self.problem(config, name, cannot_listen(place, &error, name)),
            }
        }
    }

    fn data(&mut self, config: &Config, is_served: bool) {
        let data = config.data.display();
        if is_served {
            self.warnings
                .push(format!("{data} is in use by a running server; a second one cannot start on it"));
        } else if !is_other_than_directory(&config.data)
            && let Err(why) = writable(&config.data)
        {
            self.problem(config, "data", format!("{data} cannot be used: {why}"));
        }
    }

    fn files(&mut self, config: &Config) {
        let TargetConfig::Files { directory, .. } = &config.target else { return };
        if is_other_than_directory(directory) {
            return;
        }
        if let Err(why) = writable(directory) {
            self.problem(config, "files-dir", format!("{} cannot be used: {why}", directory.display()));
            return;
        }
        let device =
            |path: &Path| existing(path).and_then(|path| path.metadata().ok()).map(|found| found.dev());
        if let (Some(files), Some(data)) = (device(directory), device(&config.data))
            && files != data
        {
            self.warnings.push(format!(
                "{}: {} is on another file system than {}, so each complete upload is copied, which takes time and twice \
                 its space for a while",
                config.location("files-dir"),
                directory.display(),
                config.data.display()
            ));
        }
    }

    /// Warns of secrets that every user of this machine can read.
    fn secrets(&mut self, config: &Config) {
        let mut secrets: Vec<(&str, &Path)> = Vec::new();
        secrets.extend(config.tls.as_ref().map(|tls| ("tls-key", tls.key.as_path())));
        let admin_tokens = config.admin.as_ref().and_then(|admin| admin.tokens.as_deref());
        secrets.extend(admin_tokens.map(|file| ("admin-token-file", file)));
        match &config.auth {
            AuthConfig::Bearer(file) => secrets.push(("bearer-file", file)),
            AuthConfig::Jwt { keys: JwtKeys::Single(file, algorithm), .. }
                if algorithm.to_string().starts_with("HS") =>
            {
                secrets.push(("jwt-key", file));
            }
            AuthConfig::Jwt { .. } | AuthConfig::Anyone => {}
        }
        for (name, path) in secrets {
            let mode = fs::metadata(path).map_or(0, |found| found.permissions().mode());
            if mode & 0o004 != 0 {
                let path = path.display();
                let at = config.location(name);
                self.warnings.push(format!("{at}: {path} is readable by every user; run chmod o= {path}"));
            }
        }
    }
}

/// Binds a place as `serve` does. The listeners are kept, so that a place that is given twice is in use.
fn bind(place: &ListenAt) -> io::Result<Vec<TcpListener>> {
    match place {
        ListenAt::Address(address) => Ok(vec![TcpListener::bind(address)?]),
        ListenAt::Host(name, port) => {
            let addresses: Vec<SocketAddr> = (name.as_str(), *port).to_socket_addrs()?.collect();
            let bound: Vec<_> = addresses.iter().map(TcpListener::bind).collect();
            // `serve` skips the addresses that this machine does not have.
            let is_any = bound.iter().any(Result::is_ok);
            let is_fatal = |error: &io::Error| !is_any || error.kind() == io::ErrorKind::AddrInUse;
            bound
                .into_iter()
                .filter(|bound| bound.as_ref().is_ok() || bound.as_ref().is_err_and(is_fatal))
                .collect()
        }
        ListenAt::Unix(path) => {
            match require_stale(path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                stale => stale?,
            }
            let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
            require_access(directory.unwrap_or(Path::new(".")))?;
            Ok(Vec::new())
        }
    }
}

/// Returns whether a path exists and is no directory, which `Components` reports.
fn is_other_than_directory(path: &Path) -> bool {
    path.exists() && !path.is_dir()
}

/// Returns why files cannot be created in a directory, or the directory itself cannot be created.
fn writable(directory: &Path) -> Result<(), String> {
    let Some(found) = existing(directory) else { return Err("none of its parents exists".to_owned()) };
    if !found.is_dir() {
        return Err(format!("{} is not a directory", found.display()));
    }
    // Neither permissions nor the privileges of this process show what the file system will refuse.
    let probe = found.join(format!(".hoist-check-{}", std::process::id()));
    let created = File::options().write(true).create_new(true).open(&probe);
    created.and_then(|_| fs::remove_file(&probe)).map_err(|error| {
        let what = if found == directory { "be written" } else { "be created" };
        format!("it cannot {what}: {}: {error}", found.display())
    })
}

/// Returns the path, or its nearest parent that exists.
fn existing(path: &Path) -> Option<PathBuf> {
    let path = std::path::absolute(path).ok()?;
    path.ancestors().find(|path| path.symlink_metadata().is_ok()).map(Path::to_owned)
}

/// Fails unless this process may create sockets in a directory.
fn require_access(directory: &Path) -> io::Result<()> {
    let access = Access::WRITE_OK | Access::EXEC_OK;
    Ok(rustix::fs::accessat(CWD, directory, access, AtFlags::EACCESS)?)
}
