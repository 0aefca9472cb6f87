//! The examples at the end of each command's help.

use std::fmt::Write as _;

/// An example: a command, and what it does.
pub(crate) struct Example {
    pub(crate) does: &'static str,
    pub(crate) command: &'static str,
}

const fn example(does: &'static str, command: &'static str) -> Example {
    Example { does, command }
}

const SERVE: &[Example] = &[
    example("Accept uploads from this machine at http://127.0.0.1:8080/uploads", "hoist serve"),
    example(
        "Accept uploads from other machines, with TLS and bearer tokens",
        "hoist serve --listen 0.0.0.0:8443 --tls-cert cert.pem --tls-key key.pem --bearer-file tokens",
    ),
    example(
        "Move each complete upload into a directory, under its file name",
        "hoist serve --target files --files-dir /srv/films --files-name '{name}'",
    ),
];
const CONFIG_CHECK: &[Example] = &[example(
    "Find all problems of a configuration before the server is started with it",
    "hoist config check --config hoist.toml",
)];
const CONFIG_PRINT: &[Example] = &[example(
    "Show each setting and where its value comes from",
    "hoist config print --config hoist.toml --max-size 10G",
)];
const CONFIG_SAMPLE: &[Example] =
    &[example("Start a configuration file", "hoist config sample > hoist.toml")];
const PUT: &[Example] = &[
    example("Upload a file; the same command resumes it", "hoist put film.mkv https://example.org/uploads"),
    example(
        "Upload a directory, without some files, at 10 MiB/s at most",
        "hoist put films https://example.org/uploads --exclude '*.tmp' --rate 10M",
    ),
    example("Show first what would be uploaded", "hoist put films https://example.org/uploads --dry-run"),
    example(
        "Authenticate with a token that no other user of this machine can see",
        "HOIST_BEARER=\"$(cat token)\" hoist put film.mkv https://example.org/uploads",
    ),
    example(
        "Upload the output of another command",
        "tar c films | hoist put - https://example.org/uploads --name films.tar",
    ),
    example("Find out why an upload fails", "hoist put film.mkv https://example.org/uploads -v"),
];
const STATUS: &[Example] = &[
    example("Show how much of a file the server has", "hoist status film.mkv"),
    example("Ask for an upload by its token", "hoist status https://example.org/uploads --token TOKEN"),
];
const CANCEL: &[Example] = &[
    example("Cancel the unfinished upload of a file", "hoist cancel film.mkv"),
    example("Delete a complete upload by its URL", "hoist cancel https://example.org/uploads/ID"),
];
const LS: &[Example] = &[
    example("List the unfinished uploads of this user", "hoist ls"),
    example("Print the command that resumes each of them", "hoist ls --json | jq -r .resume"),
];
const CHECK: &[Example] = &[
    example("Check a server in all dialects that it supports", "hoist check https://example.org/uploads"),
    example(
        "Check tus 1.0 only, and write a report",
        "hoist check http://127.0.0.1:8080/uploads --dialect tus1 --junit report.xml",
    ),
];
const DEMO: &[Example] =
    &[example("Upload a file over a link that is cut ten times", "hoist demo film.mkv --cuts 10")];
const DNS_RECORD: &[Example] = &[example(
    "Print the record for a zone file",
    "hoist dns-record --host upload.example.org --tls-cert cert.pem --tls-key key.pem",
)];
const ADMIN_LS: &[Example] = &[
    example("List all uploads", "hoist admin ls --admin unix:/run/hoist/admin"),
    example("List the transfers that are running now", "hoist admin ls --state transferring"),
    example(
        "List what one user left unfinished for a week",
        "hoist admin ls --state open --owner anna --age 7d",
    ),
];
const ADMIN_SHOW: &[Example] =
    &[example("Show an upload and its transfer", "hoist admin show 01k3b0tr6gh9v8q2m5n7p4c1dx")];
const ADMIN_END: &[Example] =
    &[example("End a transfer; its client resumes", "hoist admin end 01k3b0tr6gh9v8q2m5n7p4c1dx")];
const ADMIN_DELETE: &[Example] =
    &[example("Delete an upload and its content", "hoist admin delete 01k3b0tr6gh9v8q2m5n7p4c1dx")];
const ADMIN_EXPIRE: &[Example] =
    &[example("Remove an upload before its time", "hoist admin expire 01k3b0tr6gh9v8q2m5n7p4c1dx")];
const ADMIN_REDELIVER: &[Example] = &[example(
    "Deliver all uploads whose target has failed",
    "hoist admin ls --state received --json | jq -r .id | xargs hoist admin redeliver",
)];
const ADMIN_ADMISSION: &[Example] = &[
    example("Take no new uploads before an update", "hoist admin admission resume-only"),
    example("Show the mode", "hoist admin admission"),
];
const ADMIN_SWEEP: &[Example] = &[example("Count what has expired", "hoist admin sweep --dry-run")];
const ADMIN_RELOAD: &[Example] = &[example("Apply a changed configuration", "hoist admin reload")];
const ADMIN_CONFIG: &[Example] =
    &[example("Show the settings that are not the default", "hoist admin config | grep -v '# default'")];
const ADMIN_LIVE: &[Example] = &[example("Watch what happens", "hoist admin live")];
const COMPLETIONS: &[Example] = &[
    example("Complete in bash", "hoist completions bash > ~/.local/share/bash-completion/completions/hoist"),
    example("Complete in fish", "hoist completions fish > ~/.config/fish/completions/hoist.fish"),
];
const MAN: &[Example] = &[
    example("Read the manual page", "hoist man | man -l -"),
    example("Install the pages of all commands", "hoist man ~/.local/share/man/man1"),
];

const EVENTS_LS: &[Example] =
    &[example("List what is to be delivered, and what was given up", "hoist events ls --data /srv/hoist")];
const EVENTS_SHOW: &[Example] = &[example(
    "Print an event as its sinks receive it",
    "hoist events show 1m6rt34g64vr34c1m6rt34g64r.finished --data /srv/hoist",
)];
const EVENTS_RETRY: &[Example] = &[example(
    "Have all events delivered again that were given up",
    "hoist events retry --all --data /srv/hoist",
)];
const EVENTS_DROP: &[Example] = &[example(
    "Forget all events of an upload",
    "hoist events drop 1m6rt34g64vr34c1m6rt34g64r --data /srv/hoist",
)];

/// Returns the examples of a command, such as `put` or `config check`.
pub(crate) fn of(command: &str) -> &'static [Example] {
    match command {
        "serve" => SERVE,
        "config check" => CONFIG_CHECK,
        "config print" => CONFIG_PRINT,
        "config sample" => CONFIG_SAMPLE,
        "put" => PUT,
        "status" => STATUS,
        "cancel" => CANCEL,
        "ls" => LS,
        "check" => CHECK,
        "events ls" => EVENTS_LS,
        "events show" => EVENTS_SHOW,
        "events retry" => EVENTS_RETRY,
        "events drop" => EVENTS_DROP,
        "demo" => DEMO,
        "admin ls" => ADMIN_LS,
        "admin show" => ADMIN_SHOW,
        "admin end" => ADMIN_END,
        "admin delete" => ADMIN_DELETE,
        "admin expire" => ADMIN_EXPIRE,
        "admin redeliver" => ADMIN_REDELIVER,
        "admin admission" => ADMIN_ADMISSION,
        "admin sweep" => ADMIN_SWEEP,
        "admin reload" => ADMIN_RELOAD,
        "admin config" => ADMIN_CONFIG,
        "admin live" => ADMIN_LIVE,
        "dns-record" => DNS_RECORD,
        "completions" => COMPLETIONS,
        "man" => MAN,
        _ => &[],
    }
}

/// Formats the examples of a command for its help.
pub(super) fn help(command: &str) -> String {
    let mut text = String::from("Examples:");
    for Example { does, command } in of(command) {
        write!(text, "\n  # {does}\n  {command}").expect("writing to a string");
    }
    text
}

/// Formats a paragraph for the long help of a command, and its examples.
pub(super) fn help_after(paragraph: &str, command: &str) -> String {
    format!("{paragraph}\n\n{}", help(command))
}
