//! The machine that is measured, for the report.

use std::fmt;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::thread;

use anyhow::{Result, ensure};

/// The properties of a machine that results depend on.
pub(crate) struct Machine {
    cores: usize,
    processor: String,
    memory_gib: u64,
    kernel: String,
    /// The name of the file system for data on disk.
    pub(crate) file_system: String,
}

impl Machine {
    /// Describes this machine, with the file system of `directory`.
    pub(crate) fn this(directory: &Path) -> Result<Self> {
        let kib =
            line("/proc/meminfo", "MemTotal:").split_whitespace().next().unwrap_or("0").parse::<u64>()?;
        Ok(Self {
            cores: thread::available_parallelism()?.get(),
            processor: line("/proc/cpuinfo", "model name").trim_start_matches([':', ' ', '\t']).to_owned(),
            memory_gib: kib >> 20,
            kernel: fs::read_to_string("/proc/sys/kernel/osrelease")?.trim().to_owned(),
            file_system: file_system(directory)?,
        })
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { cores, processor, memory_gib, kernel, file_system } = self;
        write!(
            f,
            "{cores} cores ({processor}), {memory_gib} GiB of memory, Linux {kernel}, data on tmpfs and {file_system}."
        )
    }
}

/// Returns the rest of the first line of a file that begins with `name`.
fn line(path: &str, name: &str) -> String {
    let text = fs::read_to_string(path).unwrap_or_default();
    text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default().trim().to_owned()
}

/// Returns the name of the file system of a directory, like `ext4`.
fn file_system(directory: &Path) -> Result<String> {
    let output = Command::new("stat").args(["-f", "-c", "%T"]).arg(directory).output()?;
    ensure!(output.status.success(), "no directory {}", directory.display());
    let name = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    // Both have the same number.
    Ok(if name == "ext2/ext3" { "ext4".to_owned() } else { name })
}
