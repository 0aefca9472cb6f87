//! A small file that is read again when it has changed: tokens, keys.
//!
//! Owns when to look and what to keep when the file turns bad; what the file says is its reader's.

use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use super::Unusable;

/// How often a file is looked at, however many requests come.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Far above any list of credentials; below what hurts when somebody names the wrong file.
const BYTES_MAX: u64 = 16 << 20;

type Parse<T> = Box<dyn Fn(&[u8]) -> Result<T, String> + Send + Sync>;

/// The newest usable meaning of a file.
pub(super) struct Watched<T>(Arc<Inner<T>>);

struct Inner<T> {
    path: PathBuf,
    parse: Parse<T>,
    state: Mutex<State<T>>,
}

struct State<T> {
    value: Arc<T>,
    /// What the file looked like when it was last read, well or badly; nothing when it was not there.
    stamp: Option<Stamp>,
    looked: Instant,
}

type Stamp = (SystemTime, u64);

impl<T: Send + Sync + 'static> Watched<T> {
    /// Reads the file for the first time.
    pub(super) fn open(
        path: impl Into<PathBuf>,
        parse: impl Fn(&[u8]) -> Result<T, String> + Send + Sync + 'static,
    ) -> Result<Self, Unusable> {
        let (path, parse): (_, Parse<T>) = (path.into(), Box::new(parse));
        // The stamp is older than the content at worst, and then it is read once more than needed.
        let stamp = stamp(&path);
        let value = read(&path).and_then(|bytes| parse(&bytes));
        match value {
            Ok(value) => {
                let state = State { value: Arc::new(value), stamp, looked: Instant::now() };
                Ok(Self(Arc::new(Inner { path, parse, state: Mutex::new(state) })))
            }
            Err(why) => Err(Unusable { path, why }),
        }
    }

    /// The meaning of the file when it was last read well.
    pub(super) fn last_read(&self) -> Arc<T> {
        Arc::clone(&self.0.lock().value)
    }

    /// What the file says; at most a second old. A file that became unusable goes on meaning what it meant.
    ///
    /// # Cancellation
    /// Safe to drop.
    pub(super) async fn current(&self) -> Arc<T> {
        {
            let mut state = self.0.lock();
            if state.looked.elapsed() < LOOK_EVERY {
                return Arc::clone(&state.value);
            }
            state.looked = Instant::now();
        }
        let inner = Arc::clone(&self.0);
        // A panic in a parser is a bug of its own; the value from before is still there.
        let _ = tokio::task::spawn_blocking(move || inner.look()).await;
        self.last_read()
    }
}

impl<T> Inner<T> {
    fn look(&self) {
        let stamp = stamp(&self.path);
        if stamp == self.lock().stamp {
            return;
        }
        let read = read(&self.path).and_then(|bytes| (self.parse)(&bytes));
        let mut state = self.lock();
        state.stamp = stamp;
        match read {
            Ok(value) => {
                state.value = Arc::new(value);
                tracing::info!(file = %self.path.display(), "credentials read again");
            }
            Err(why) => {
                tracing::error!(
                    file = %self.path.display(), %why,
                    "credentials cannot be read again; the ones from before stay valid"
                );
            }
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
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
        return Err(format!("more than {BYTES_MAX} bytes: is it the right file?"));
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
    async fn a_file_is_read_again_when_it_changed_and_keeps_its_meaning_when_it_turned_bad() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("file");
        fs::write(&path, "one").expect("written");
        let file = Watched::open(&path, text).expect("usable");

        fs::write(&path, "second").expect("written");
        assert_eq!(*file.current().await, "one", "within a second nobody looks");
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
            tokio::time::advance(LOOK_EVERY).await;
            assert_eq!(*file.current().await, expected, "{content:?}");
        }
    }

    #[test]
    fn a_file_that_cannot_be_used_says_why() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("file");
        let missing = Watched::open(&path, text).err().expect("missing").to_string();
        assert!(missing.contains("file: No such file"), "{missing}");
        fs::write(&path, "bad").expect("written");
        let bad = Watched::open(&path, text).err().expect("bad").to_string();
        assert!(bad.ends_with("file: it says so"), "{bad}");
    }
}
