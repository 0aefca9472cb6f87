//! A receiver that is a directory of programs, one for each point: tusd's file hooks.
//!
//! Owns the choice of the program, its variables, and the meaning of its end.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use hoist_proto::types::Length;
use hoist_store::store::BoxFuture;

use super::{Answer, Call, Failure, Points, Receiver};
use crate::program::{Program, ProgramError, Programs};

/// The most programs that run at once.
const RUNNING_MAX: usize = 32;

/// Runs the executable file with the name of the point, such as `pre-create`, if the directory has one.
///
/// The program gets the JSON of tusd on standard input, and writes its answer as JSON to standard output, or nothing. Another
/// exit status than 0 is a failure. It runs in the directory, with `TUS_ID`, `TUS_SIZE` and `TUS_OFFSET` in its environment.
pub struct Directory {
    path: PathBuf,
    name: String,
    points: Points,
    programs: Programs,
}

impl Directory {
    /// Creates a receiver for the programs in a directory, each of which may take `timeout`.
    ///
    /// # Errors
    /// Returns an error if the working directory of the server is unknown.
    pub fn new(path: &Path, points: Points, timeout: Duration) -> io::Result<Self> {
        let path = std::path::absolute(path)?;
        let name = path.display().to_string();
        Ok(Self { path, name, points, programs: Programs::new(RUNNING_MAX, timeout) })
    }

    async fn ask(&self, call: &Call) -> Result<Answer, Failure> {
        let hook = call.point().name();
        let file = self.path.join(hook);
        let variables = [
            ("TUS_ID", call.id().to_owned()),
            ("TUS_SIZE", call.upload().length.map_or(0, Length::get).to_string()),
            ("TUS_OFFSET", call.offset().to_string()),
        ];
        let program =
            Program { file: &file, arguments: &[], directory: Some(&self.path), variables: &variables };
        let ended = match self.programs.run(program, call.json()).await {
            Ok(ended) => ended,
            Err(ProgramError::NotRun(error)) if error.kind() == io::ErrorKind::NotFound => {
                return absent(self.path.clone(), file).await;
            }
            Err(error) => return Err(Failure(format!("{hook} {error}"))),
        };
        let messages = ended.stderr.trim();
        if !messages.is_empty() {
            tracing::info!(hook, upload = %call.upload().id.short(), messages, "the hook wrote to standard error");
        }
        if ended.status != 0 {
            return Err(Failure(format!("{hook} exited with status {}", ended.status)));
        }
        match ended.stdout.trim_ascii() {
            b"" => Ok(Answer::default()),
            json => Answer::from_json(json),
        }
    }
}

/// Returns the answer of a point that has no program. A program that is there and was not found lacks its interpreter, and
/// must not count as one that agrees.
async fn absent(directory: PathBuf, file: PathBuf) -> Result<Answer, Failure> {
    let look = move || {
        if file.symlink_metadata().is_ok() {
            return Err(Failure(format!("the interpreter of {} is missing", file.display())));
        }
        if !directory.is_dir() {
            return Err(Failure(format!("{} is not a directory", directory.display())));
        }
        Ok(Answer::default())
    };
    // On a thread that may wait for the disk.
    let looked = tokio::task::spawn_blocking(look).await;
    looked.unwrap_or_else(|_| Err(Failure("the directory cannot be looked at".into())))
}

impl Receiver for Directory {
    fn name(&self) -> &str {
        &self.name
    }

    fn points(&self) -> Points {
        self.points
    }

    fn call<'a>(&'a self, call: &'a Call) -> BoxFuture<'a, Result<Answer, Failure>> {
        Box::pin(self.ask(call))
    }
}
