//! A small file, of tokens or keys, that is read again when it changes.
//!
//! Owns when to check the file, and keeping the last good content. Parsing is left to the caller.

use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use super::Unusable;
use crate::locked;

const CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// The largest file that is read: far above any list of credentials, small enough if a wrong file is configured.
const BYTES_MAX: u64 = 16 << 20;

type Parse<T> = Box<dyn Fn(&[u8]) -> Result<T, String> + Send + Sync>;

pub(crate) struct Watched<T>(Arc<Inner<T>>);

struct Inner<T> {
    path: PathBuf,
    parse: Parse<T>,
    state: Mutex<Loaded<T>>,
}

struct Loaded<T> {
    value: Arc<T>,
    /// The stamp of the file when it was last read, even if it did not parse. `None` if it did not exist.
    stamp: Option<Stamp>,
    checked_at: Instant,
}

type Stamp = (SystemTime, u64);

impl<T: Send + Sync + 'static> Watched<T> {
    pub(crate) fn open(
        path: impl Into<PathBuf>,
        parse: impl Fn(&[u8]) -> Result<T, String> + Send + Sync + 'static,
    ) -> Result<Self, Unusable> {
        let (path, parse): (_, Parse<T>) = (path.into(), Box::new(parse));
        // Taken before the content. If the file changes in between it is read once more, and no change is missed.
        let stamp = stamp(&path);
        let value = read(&path).and_then(|bytes| parse(&bytes));
        let value = value.map_err(|why| Unusable { path: path.clone(), why })?;
        let state = Loaded { value: Arc::new(value), stamp, checked_at: Instant::now() };
        Ok(Self(Arc::new(Inner { path, parse, state: Mutex::new(state) })))
    }

    /// Returns the content from the last time that the file parsed, without checking the file.
    pub(crate) fn last_read(&self) -> Arc<T> {
        Arc::clone(&locked(&self.0.state).value)
    }

    /// Returns the content of the file, at most a second old. If the file cannot be read or parsed, its last good content
    /// stays valid.
    pub(crate) async fn current(&self) -> Arc<T> {
        {
            let mut state = locked(&self.0.state);
            if state.checked_at.elapsed() < CHECK_INTERVAL {
                return Arc::clone(&state.value);
            }
            state.checked_at = Instant::now();
        }
        let inner = Arc::clone(&self.0);
        // If the parser panics, the last good value stays valid.
        let _ = tokio::task::spawn_blocking(move || inner.check()).await;
        self.last_read()
    }
}

impl<T> Inner<T> {
    fn check(&self) {
        let stamp = stamp(&self.path);
        if stamp == locked(&self.state).stamp {
            return;
        }
        let read = read(&self.path).and_then(|bytes| (self.parse)(&bytes));
        let mut state = locked(&self.state);
        state.stamp = stamp;
        match read {
            Ok(value) => {
                state.value = Arc::new(value);
                tracing::info!(file = %self.path.display(), "reloaded the credentials");
            }
            Err(why) => {
                tracing::error!(
                    file = %self.path.display(), %why,
                    "cannot reload the credentials; the previous ones stay valid"
                );
            }
        }
    }
}

fn stamp(path: &Path) -> Option<Stamp> {
    let metadata = fs::metadata(path).ok()?;
    Some((metadata.modified().ok()?, metadata.len()))
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    let file = fs::File::open(path).map_err(|error| error.to_string())?;
    file.take(BYTES_MAX + 1).read_to_end(&mut bytes).map_err(|error| error.to_string())?;
    if bytes.len() as u64 > BYTES_MAX {
        return Err(format!("larger than {BYTES_MAX} bytes; check that it is the right file"));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(bytes: &[u8]) -> Result<String, String> {
        match String::from_utf8_lossy(bytes).into_owned() {
            bad if bad == "bad" => Err("it says so".into()),
            good => Ok(good),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_changed_file_is_read_again_and_a_bad_one_keeps_its_last_good_content() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("file");
        fs::write(&path, "one").expect("written");
        let file = Watched::open(&path, text).expect("usable");

        fs::write(&path, "second").expect("written");
        assert_eq!(*file.current().await, "one", "not checked twice within a second");
        let steps: [(Option<&str>, &str); 4] = [
            (Some("second"), "second"),
            (Some("bad"), "second"),
            (None, "second"),
            (Some("fourth!"), "fourth!"),
        ];
        for (content, expected) in steps {
            match content {
                Some(content) => fs::write(&path, content).expect("written"),
                None => fs::remove_file(&path).expect("removed"),
            }
            tokio::time::advance(CHECK_INTERVAL).await;
            assert_eq!(*file.current().await, expected, "{content:?}");
        }
    }

    #[test]
    fn an_unusable_file_is_an_error_with_its_reason() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("file");
        let missing = Watched::open(&path, text).err().expect("missing").to_string();
        assert!(missing.contains("file: No such file"), "{missing}");
        fs::write(&path, "bad").expect("written");
        let bad = Watched::open(&path, text).err().expect("bad").to_string();
        assert!(bad.ends_with("file: it says so"), "{bad}");
    }
}
