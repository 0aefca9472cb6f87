//! Programs that start a server with different system limits or under `strace`.

use std::process::Command;

use super::print_note;

/// Returns a shell command that runs `first`, such as setting a limit, and then becomes the server.
pub(crate) fn shell(first: &str) -> Vec<String> {
    ["sh", "-c", &format!("{first}; exec \"$0\" \"$@\"")].map(str::to_owned).to_vec()
}

/// Returns `strace` with these arguments, detached so that the started process is the server itself. `None` with a note
/// if processes cannot be traced.
pub(crate) fn strace(arguments: &[&str]) -> Option<Vec<String>> {
    match Command::new("strace").args(["-o", "/dev/null", "true"]).output() {
        Ok(output) if output.status.success() => {
            let words = ["strace", "-D", "-f", "--seccomp-bpf", "-q"];
            Some(words.iter().chain(arguments).map(|word| (*word).to_owned()).collect())
        }
        other => {
            print_note(format_args!("not tested: strace says {other:?}"));
            None
        }
    }
}
