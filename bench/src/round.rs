//! Interleaved rounds: in each, every contender of a case runs once.

use std::collections::HashMap;
use std::fs::File;
use std::io::Write as _;
use std::path::Path;

use anyhow::{Context as _, Result};
use tempfile::TempDir;
use tokio::runtime::Runtime;

use crate::content::Content;
use crate::launch::Launch;
use crate::program::install::Installed;
use crate::sample::Sample;
use crate::scenario::Case;

/// The samples of a contender by round, or the reason why there are none.
pub(crate) type Outcome = Result<Vec<Sample>, String>;

/// Runs a case. Adds to `kept` the data that is to be deleted only after all cases. Returns the outcomes in the order of the contenders. A contender that fails takes no further part.
pub(crate) fn run(
    case: &Case,
    rounds: usize,
    is_thorough: bool,
    installed: &HashMap<&'static str, Installed>,
    kept: &mut Vec<TempDir>,
) -> Result<Vec<Outcome>> {
    // One thread, so that a client never has more than one core, and the server has the others.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let content = Content::new();
    let mut launches = Vec::new();
    for contender in &case.contenders {
        let found = installed.get(contender.program.name).context("chosen, so it is installed")?;
        launches.push(Launch::new(contender, found.clone(), case, &content, is_thorough)?);
    }
    let mut outcomes: Vec<Outcome> = case.contenders.iter().map(|_| Ok(Vec::new())).collect();
    for _ in 0..rounds {
        for (launch, outcome) in launches.iter_mut().zip(&mut outcomes) {
            let Ok(samples) = outcome else { continue };
            match once(case, launch, &runtime, kept) {
                Ok(sample) => samples.push(sample),
                Err(error) => *outcome = Err(format!("{error:#}{}", launch.log_end())),
            }
        }
    }
    Ok(outcomes)
}

fn once(case: &Case, launch: &mut Launch, runtime: &Runtime, kept: &mut Vec<TempDir>) -> Result<Sample> {
    warm(&case.place, case.load.bytes())?;
    let sample = runtime.block_on(Box::pin(case.load.run(launch)));
    if !case.load.keeps_data() {
        let data = launch.renew()?;
        // For minutes after files were deleted, ext4 searches for an inode among theirs whenever it creates one. The next
        // run would take several times as long.
        if case.load.has_many_files() && !case.is_in_memory {
            kept.push(data);
        }
    }
    sample
}

/// Writes and deletes a file of this size. On a virtual machine the first use of a page of memory costs several times
/// the later ones, and this run pays for it instead of the measured one.
fn warm(place: &Path, bytes: u64) -> Result<()> {
    let mut file: File = tempfile::tempfile_in(place)?;
    let piece = vec![0x5a; 1 << 20];
    for _ in 0..bytes >> 20 {
        file.write_all(&piece).context("no room for the content of a run")?;
    }
    Ok(())
}
