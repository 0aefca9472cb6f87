//! Tests of the precedence of layers, of contradictions between settings, and of messages.

use std::path::Path;

use hoist_proto::dialect::interop::Versions;
use hoist_proto::dialect::tus1::{Extension, Extensions};
use hoist_proto::policy::Limits;
use hoist_server::hook::Point;
use http::HeaderValue;

use super::*;

fn variables(given: &[(&str, &str)]) -> Variables {
    given.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn of(given: Given<'_>, env: &[(&str, &str)], toml: &str) -> Result<Config, Vec<String>> {
    let mut errors = Vec::new();
    let file = Layers::of_file(Path::new("hoist.toml"), toml, &mut errors);
    let config = Config::of(&flags(given), &variables(env), &file, errors);
    config.map_err(|errors| errors.iter().map(ToString::to_string).collect())
}

fn errors(toml: &str) -> Vec<String> {
    of(&[], &[], toml).err().unwrap_or_default()
}

/// Flags, variables, a file, and the resulting maximum size and ports.
type Case<'a> = (Given<'a>, &'a [(&'a str, &'a str)], &'a str, Option<u64>, &'a [u16]);

#[test]
fn flags_override_variables_which_override_the_file() {
    let toml = "max-size = \"3KiB\"\nlisten = [\"127.0.0.1:3\", \"[::1]:3\"]\nendpoint = \"/file\"\n";
    let env = [("HOIST_MAX_SIZE", "2KiB"), ("HOIST_LISTEN", "127.0.0.1:2, [::1]:2"), ("HOIST_ENDPOINT", "")];
    let cases: [Case<'_>; 4] = [
        (
            &[("max-size", &["1KiB"]), ("listen", &["127.0.0.1:1", "[::1]:1"])],
            &env,
            toml,
            Some(1024),
            &[1, 1],
        ),
        (&[], &env, toml, Some(2048), &[2, 2]),
        (&[], &[], toml, Some(3072), &[3, 3]),
        (&[], &[], "", None, &[8080]),
    ];
    for (given, env, toml, size, ports) in cases {
        let config = of(given, env, toml).expect("sound");
        assert_eq!(config.policy.limits.size_max, size);
        assert_eq!(config.listen.iter().filter_map(ListenAt::port).collect::<Vec<_>>(), ports);
        // An empty variable counts as unset.
        assert_eq!(config.endpoint, if toml.is_empty() { "/uploads" } else { "/file" });
    }
}

// proves: TOK-SEC-04
#[test]
fn defaults_match_those_of_the_libraries() {
    let config = of(&[], &[], "").expect("sound");
    assert_eq!(config.policy, Policy::default());
    assert_eq!(config.limits, hoist_http::Limits::default());
    assert_eq!(config.quotas, Quotas::default());
    assert_eq!(
        (config.auth, config.target, config.cors),
        (AuthConfig::Anyone, TargetConfig::Keep, Cors::Any)
    );
    assert_eq!((config.public_origin, config.interims), (None, Interims::default()));
    assert!(!config.completes_at_length && !config.downloads && !config.accepts_forms);
    assert!(config.tus == Extensions::ALL);
    assert_eq!(config.ietf_versions, Versions::default());
}

#[test]
fn a_former_name_of_a_setting_stays_valid() {
    let log = |flags, variables: &[(&str, &str)], file| of(flags, variables, file).expect("sound").log;
    assert_eq!(log(&[], &[], "log = \"json\"\n"), LogFormat::Json);
    assert_eq!(log(&[], &[("HOIST_LOG", "json")], ""), LogFormat::Json);
    assert_eq!(log(&[], &[("HOIST_LOG", "json"), ("HOIST_LOG_FORMAT", "human")], ""), LogFormat::Human);
}

#[test]
fn sections_of_sinks_are_read_and_their_mistakes_reported() {
    let sections = "[[events]]\nurl = \"https://a:b@e.example/in?x\"\nformat = \"tusd\"\nsecret-file = \"own\"\n\
        types = [\"finished\", \"failed\"]\n[[events]]\nurl = \"http://127.0.0.1:1/\"\n";
    let config = of(&[], &[], &format!("events-secret-file = \"all\"\n{sections}")).expect("sound");
    let files = config.events.sinks.iter().map(|sink| sink.secret_file.clone()).collect::<Vec<_>>();
    assert_eq!(files, [Some("own".into()), Some("all".into())]);
    let printed = config.to_string();
    let again = of(&[], &[], &printed).expect("what is printed can be read");
    assert_eq!(again.events.sinks.len(), 2);
    let wrong = |toml: &str| {
        let errors = of(&[], &[], toml).expect_err("is wrong");
        errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
    };
    for (toml, expected) in [
        ("events = \"ftp://e\"", "not a sink of events"),
        ("events = []", "empty list"),
        ("[[events]]\nformat = \"tusd\"", "missing field `url`"),
        ("[[events]]\nurl = \"http://e\"\nsecret = \"s\"", "unknown field `secret`"),
        ("[[events]]\nurl = \"http://e\"\nformat = \"xml\"", "`xml`"),
        ("[[events]]\nurl = \"http://e\"\ntypes = [\"progress\"]", "`progress`"),
        ("[[events]]\nurl = \"exec:\"", "names no program"),
        ("[[listen]]\nurl = \"http://e\"", "listen"),
        ("events-secret-file = \"s\"", "has no effect without --events"),
    ] {
        let wrong = wrong(toml);
        assert!(wrong.contains(expected), "{toml}: {wrong}");
    }
}

/// Returns the hooks of the settings that differ from every default.
fn changed_hooks() -> HooksConfig {
    let seconds = Duration::from_secs;
    HooksConfig {
        command: Some(HookCommand { program: "h".into(), arguments: vec!["x y".into()] }),
        directory: Some("hd".into()),
        url: Some("http://a/b".into()),
        timeout: seconds(1),
        progress_interval: seconds(2),
        webhook: WebhookOptions {
            points: [Point::PreFinish, Point::PostFinish, Point::PostCreate].into_iter().collect(),
            attempts_max: 4,
            backoff: Duration::ZERO,
            timeout: seconds(3),
            forwarded: vec![http::header::COOKIE, HeaderName::from_static("x-b")],
            bytes_max: 6 << 10,
        },
    }
}

#[test]
fn each_setting_changes_the_configuration() {
    // A valid, non-default value for each setting.
    let all = "listen = \"127.0.0.1:0\"\nsocket-mode = 600\ndata = \"d\"\nendpoint = \"/e\"\nlocation = \"absolute\"\npublic-url = \"https://h:1/\"\ninterim = \"always\"\n\
        ietf-versions = \"5,8-11\"\nietf-complete-at-length = \"v5-v6\"\ntus-disable = [\"termination\"]\ndurability = \"os\"\nnew-key = true\nkeep-free = \"3%\"\nmax-size = 9\n\
        min-size = 1\nmax-append-size = 8\nmin-append-size = 2\nmax-age = \"none\"\nretain = 5\nmin-token-length = 16\n\
        target = \"files\"\nfiles-dir = \"f\"\nfiles-name = \"{id}\"\ndownloads = true\naccept-forms = true\ntls-cert = \"c\"\ntls-key = \"k\"\n\
        trusted-proxy = [\"10.0.0.0/8\"]\ncors-origin = [\"https://A.example\"]\ncors-credentials = false\ncors-header = \"X-A\"\njwt-key = \"j\"\n\
        jwt-algorithm = \"ES256\"\njwt-audience = \"a\"\njwt-issuer = [\"i\"]\njwt-main-issuer = \"i\"\nhook-command = \"h 'x y'\"\n\
        hook-timeout = \"1s\"\nhooks-dir = \"hd\"\nhooks-http = \"http://a/b\"\nhooks-events = [\"pre-finish,post-finish\", \"post-create\"]\n\
        progress-hooks-interval = \"2s\"\nhooks-http-retry = 4\nhooks-http-backoff = \"0s\"\nhooks-http-timeout = \"3s\"\nhooks-http-forward-headers = \"Cookie, X-B\"\nhooks-http-size-limit = \"6KiB\"\n\
        events = [{ url = \"https://e.example/in\", types = [\"finished\"] }, \"exec:t 'a b'\"]\n\
        events-format = \"tusd\"\nevents-secret-file = \"s\"\nmax-open-uploads = 3\nmax-open-uploads-per-user = \"none\"\nmax-open-uploads-per-address = 6\nmax-complete-uploads = 8\nmax-stored-bytes = 4\n\
        max-stored-bytes-per-user = 5\nhead-timeout = 1\nidle-timeout = 2\nmin-rate = 0\nmax-connections = 7\nmax-h2-memory = \"10MiB\"\n\
        drain-timeout = 0\nsweep-interval = 9\nworkers = 3\nlog-format = \"json\"\nlog-level = \"debug\"\nlog-requests = true\n\
        admin = \"[::1]:9\"\nadmin-token-file = \"t\"\nadmin-socket-mode = 660\nmetrics-compat = \"tusd\"\n";
    let config = of(&[], &[], all).expect("sound");
    let seconds = Duration::from_secs;
    assert_eq!((config.data, config.endpoint), ("d".into(), "/e".into()));
    assert_eq!((config.public_origin.as_deref(), config.interims), (Some("https://h:1"), Interims::Always));
    assert!(config.completes_at_length && config.downloads && config.accepts_forms);
    assert_eq!(config.ietf_versions.to_string(), "5,8-11");
    assert_eq!(config.tus, Extensions::ALL.without(Extension::Termination));
    assert_eq!(config.socket_mode, 0o600);
    assert_eq!((config.durability, config.new_key), (Durability::Os, true));
    assert_eq!(config.headroom, Headroom::Percent(3));
    let headroom = |text| of(&[("keep-free", &[text])], &[], "").map(|config| config.headroom).ok();
    assert_eq!(headroom("2GiB"), Some(Headroom::Bytes(2 << 30)));
    assert_eq!(headroom("0"), Some(Headroom::Bytes(0)));
    assert_eq!([headroom("100%"), headroom("-1%"), headroom("%"), headroom("1.5%")], [None; 4]);
    let limits = Limits { size_max: Some(9), size_min: 1, append_max: Some(8), append_min: 2 };
    let policy = Policy { limits, lifetime: None, retention: Some(seconds(5)), token_octets_min: 16 };
    assert_eq!(config.policy, policy);
    assert_eq!(config.target, TargetConfig::Files { directory: "f".into(), template: "{id}".into() });
    assert_eq!(config.tls, Some(TlsFiles { cert: "c".into(), key: "k".into() }));
    assert_eq!((config.trusted_proxies.len(), config.locations), (1, Locations::Absolute));
    let relative = of(&[("location", &["relative"])], &[], "").expect("sound");
    assert_eq!(relative.locations, Locations::Relative);
    assert_eq!(config.cors, Cors::Origins(vec![HeaderValue::from_static("https://a.example")]));
    let credentialed =
        of(&[("cors-credentials", &["on"])], &[], "cors-origin = \"https://a\"").expect("sound");
    assert_eq!(credentialed.cors, Cors::Credentialed(vec![HeaderValue::from_static("https://a")]));
    assert_eq!(config.cors_headers, ["x-a"]);
    let keys = JwtKeys::Single("j".into(), "ES256".parse().expect("known"));
    let (audiences, issuers) = (vec!["a".into()], vec!["i".into()]);
    assert_eq!(config.auth, AuthConfig::Jwt { keys, audiences, issuers, main_issuer: Some("i".into()) });
    assert_eq!(config.hooks, changed_hooks());
    let sinks = config.events.sinks.iter().map(|SinkConfig { sink, secret_file }| {
        (sink.to_string(), secret_file.as_deref().and_then(Path::to_str).map(str::to_owned))
    });
    let secret = || Some("s".to_owned());
    assert_eq!(
        sinks.collect::<Vec<_>>(),
        [("https://e.example".to_owned(), secret()), ("exec:t".to_owned(), secret())]
    );
    assert_eq!(config.events.timeout, seconds(1));
    let quotas = Quotas {
        open_max: Some(3),
        open_max_each: None,
        open_max_address: Some(6),
        complete_max: Some(8),
        bytes_max: Some(4),
        bytes_max_each: Some(5),
    };
    assert_eq!(config.quotas, quotas);
    let limits = hoist_http::Limits {
        head_time: seconds(1),
        body_idle: seconds(2),
        body_rate_min: 0,
        connections_max: 7,
        h2_windows_bytes_max: 10 << 20,
        drain_grace: seconds(0),
        ..hoist_http::Limits::default()
    };
    assert_eq!(config.limits, limits);
    assert_eq!((config.sweep_interval, config.workers), (seconds(9), 3));
    assert_eq!((config.log, config.log_level), (LogFormat::Json, tracing::Level::DEBUG));
    assert!(config.log_requests);
    let listen = "[::1]:9".parse().expect("a place");
    let tokens = Some("t".into());
    let admin = AdminConfig { listen, tokens, socket_mode: 0o660, has_tusd_metrics: true };
    assert_eq!(config.admin, Some(admin));
    // The others exclude each other with the above.
    let missing = SETTINGS.iter().filter(|setting| !all.contains(&format!("{} = ", setting.name)));
    assert_eq!(
        missing.map(|setting| setting.name).collect::<Vec<_>>(),
        ["bearer-file", "jwks-file", "jwt-issuer-keys"]
    );
    let config = |toml| of(&[], &[], toml).expect("sound").auth;
    assert_eq!(config("bearer-file = \"b\""), AuthConfig::Bearer("b".into()));
    let auth = |keys| AuthConfig::Jwt { keys, audiences: vec![], issuers: vec![], main_issuer: None };
    assert_eq!(config("jwks-file = \"s\""), auth(JwtKeys::Set("s".into())));
    let sets = vec![("https://a?x=1".to_owned(), "a.json".into()), ("b".to_owned(), "b.json".into())];
    let toml = "jwt-issuer-keys = [\"https://a?x=1=a.json\", \"b=b.json\"]";
    assert_eq!(config(toml), auth(JwtKeys::ByIssuer(sets)));
}

#[test]
fn an_error_names_its_location_and_the_fix() {
    let cases = [
        ("\nmax-sise = 3", "hoist.toml:2: unknown key `max-sise`; did you mean `max-size`?"),
        ("zzzzzz = 3", "hoist.toml:1: unknown key `zzzzzz`; `hoist serve --help` lists all settings"),
        (
            "max-size = \"64Mi\"",
            "hoist.toml:1: max-size: `64Mi` is not a size; write it like 64M or 64MiB (binary), 10MB (decimal) or 1024",
        ),
        (
            "max-size = 1.5",
            "hoist.toml:1: max-size: takes text or a whole number, not a float; put the value in quotes",
        ),
        ("max-size = 0", "hoist.toml:1: max-size: would reject every upload; write `none` for no limit"),
        ("max-size = [1]", "hoist.toml:1: max-size: takes one value, not a list"),
        ("listen = []", "hoist.toml:1: listen: is an empty list; leave the key out"),
        (
            "listen = \"8080\"",
            "hoist.toml:1: listen: `8080` is not an address and a port; write it like 127.0.0.1:8080, [::]:8080, \
             localhost:8080 or unix:/run/hoist/hoist.sock",
        ),
        (
            "[max-size]",
            "hoist.toml:1: max-size: is not a section; write all keys at the top level, like `max-size = \"64MiB\"`",
        ),
        ("max-size = 5\nmin-size = 6", "hoist.toml:2: min-size: is more than max-size"),
        (
            "max-age = \"soon\"",
            "hoist.toml:1: max-age: `soon` is not a time; write it like 30s, 5m, 12h, 7d, or as a number of seconds",
        ),
        ("min-token-length = 300", "hoist.toml:1: min-token-length: is not between 1 and 256"),
        ("interim = \"maybe\"", "hoist.toml:1: interim: `maybe` is none of `auto`, `always`, `never`"),
        (
            "max-size = true",
            "hoist.toml:1: max-size: takes text or a whole number, not a boolean; put the value in quotes",
        ),
        ("target = \"s3\"", "hoist.toml:1: target: `s3` is none of `keep`, `files`"),
        ("target = \"files\"", "hoist.toml:1: target: `files` needs a directory; set --files-dir"),
        (
            "files-dir = \"x\"",
            "hoist.toml:1: files-dir: has no effect with --target keep; set --target files",
        ),
        ("tls-cert = \"x\"", "hoist.toml:1: tls-cert: needs its private key; set --tls-key"),
        ("tls-key = \"x\"", "hoist.toml:1: tls-key: needs its certificate; set --tls-cert"),
        (
            "jwt-key = \"x\"",
            "hoist.toml:1: jwt-key: needs an algorithm; set --jwt-algorithm, for example RS256",
        ),
        ("jwt-issuer = \"x\"", "hoist.toml:1: jwt-issuer: has no effect without --jwt-key or --jwks-file"),
        (
            "bearer-file = \"x\"\njwks-file = \"y\"",
            "hoist.toml:1: bearer-file: cannot be combined with JWT keys; remove one of them",
        ),
        (
            "jwt-issuer-keys = \"https://a\"",
            "hoist.toml:1: jwt-issuer-keys: `https://a` is not an issuer and a file; write it like \
             https://id.example=keys.json",
        ),
        (
            "jwt-issuer-keys = \"a=k\"\njwks-file = \"k\"",
            "hoist.toml:1: jwt-issuer-keys: cannot be combined with --jwt-key or --jwks-file; give each key set with \
             its issuer",
        ),
        (
            "jwks-file = \"k\"\njwt-issuer = [\"a\", \"b c\"]",
            "hoist.toml:2: jwt-issuer: has an issuer that contains white space, which separates issuers from subjects",
        ),
        (
            "jwks-file = \"k\"\njwt-issuer = [\"a\", \"b\"]\njwt-main-issuer = \"c\"",
            "hoist.toml:3: jwt-main-issuer: `c` is not one of the issuers of --jwt-issuer",
        ),
        (
            "hooks-events = \"pre-create,finish\"",
            "hoist.toml:1: hooks-events: `pre-create,finish` is not a hook; the hooks are pre-create, post-create, post-receive, pre-finish, post-finish, pre-terminate and post-terminate",
        ),
        (
            "hooks-http = \"a/b\"",
            "hoist.toml:1: hooks-http: is not a URL that begins with http:// or https:// and has a host",
        ),
        ("hook-command = \"'x\"", "hoist.toml:1: hook-command: `'x` has an unterminated quote"),
        ("idle-timeout = 0", "hoist.toml:1: idle-timeout: must be greater than zero"),
        (
            "durability = \"maybe\"",
            "hoist.toml:1: durability: `maybe` is not a durability: it is `disk` or `os`",
        ),
    ];
    for (toml, expected) in cases {
        assert_eq!(errors(toml), [expected], "{toml}");
    }
    for broken in ["max-size =", "max-size = 1\nmax-size = 2", "\u{0}"] {
        let errors = errors(broken);
        assert!(
            errors.iter().all(|problem| problem.starts_with("hoist.toml:") && !problem.contains('\n')),
            "{errors:?}"
        );
        assert_eq!(errors.len(), 1);
    }
    let many = errors("max-sise = 1\nlog = \"loud\"\nworkers = 0\n");
    assert_eq!(many.len(), 3, "all of them, not just the first: {many:?}");
    let flag = of(&[("max-size", &["1", "2"])], &[("HOIST_WORKERS", "x")], "").expect_err("errors");
    assert_eq!(flag, ["--max-size: is given more than once", "HOIST_WORKERS: `x` is not a whole number"]);
}

#[test]
fn errors_of_network_settings_name_location_and_fix() {
    let cases = [
        (
            "admin = \"127.0.0.1:0\"",
            "hoist.toml:1: admin: needs tokens, because others can connect to it; set --admin-token-file, or use unix:PATH",
        ),
        ("admin-token-file = \"t\"", "hoist.toml:1: admin-token-file: has no effect without --admin"),
        ("metrics-compat = \"tusd\"", "hoist.toml:1: metrics-compat: has no effect without --admin"),
        (
            "admin = \"9090\"",
            "hoist.toml:1: admin: `9090` is not an address and a port; write it like 127.0.0.1:8080, [::]:8080, \
             localhost:8080 or unix:/run/hoist/hoist.sock",
        ),
        (
            "public-url = \"example.org\"",
            "hoist.toml:1: public-url: `example.org` is not a scheme and a host; write it like \
             https://upload.example.org",
        ),
        (
            "public-url = \"https://a/uploads\"",
            "hoist.toml:1: public-url: `https://a/uploads` has a path; set the path with --endpoint",
        ),
        (
            "location = \"relative\"\npublic-url = \"https://a\"",
            "hoist.toml:2: public-url: has no effect with --location relative",
        ),
        (
            "trusted-proxy = [\"::1\", \"10.0.0.0/33\"]",
            "hoist.toml:1: trusted-proxy: `10.0.0.0/33` is not a network; write it like 10.0.0.0/8, fd00::/8, \
             192.0.2.7 or unix",
        ),
        ("downloads = \"yes\"", "hoist.toml:1: downloads: `yes` is none of `off`, `on`, `false`, `true`"),
        (
            "cors-origin = [\"*\", \"https://a\"]",
            "hoist.toml:1: cors-origin: `*` and `off` cannot be combined with other origins",
        ),
        (
            "cors-header = \"X A\"",
            "hoist.toml:1: cors-header: `X A` is not the name of a field; write it like X-Csrf-Token",
        ),
        (
            "cors-credentials = true",
            "hoist.toml:1: cors-credentials: needs a list of origins; set --cors-origin",
        ),
        (
            "cors-origin = [\"https://a/\"]",
            "hoist.toml:1: cors-origin: `https://a/` is not an origin; write it as browsers do, like https://example.org",
        ),
    ];
    for (toml, expected) in cases {
        assert_eq!(errors(toml), [expected], "{toml}");
    }
}

#[test]
fn an_unknown_variable_is_reported() {
    let env = [("HOIST_MAX_SISE", "1"), ("HOIST_CONFIG", "x"), ("HOIST_LOG", "json")];
    let notes = of(&[], &env, "").expect("sound").notes;
    assert_eq!(
        notes,
        ["the environment variable HOIST_MAX_SISE is not a setting; did you mean `HOIST_MAX_SIZE`?"]
    );
}

#[test]
fn variables_of_a_kubernetes_service_are_ignored() {
    let env = [
        ("HOIST_SERVICE_HOST", "10.96.0.7"),
        ("HOIST_SERVICE_PORT", "80"),
        ("HOIST_SERVICE_PORT_HTTP", "80"),
        ("HOIST_PORT", "tcp://10.96.0.7:80"),
        ("HOIST_PORT_80_TCP", "tcp://10.96.0.7:80"),
        ("HOIST_PORT_80_TCP_PROTO", "tcp"),
        ("HOIST_PORT_80_TCP_PORT", "80"),
        ("HOIST_PORT_80_TCP_ADDR", "10.96.0.7"),
        ("HOIST_SERVER_PORT", "udp://10.96.0.7:80"),
        ("HOIST_SERVER_PORT_443_UDP_ADDR", "10.96.0.7"),
    ];
    assert_eq!(of(&[], &env, "").expect("sound").notes, Vec::<String>::new());
    for slip in [
        ("HOIST_PORT", "8080"),
        ("HOIST_PORT_X_TCP", "1"),
        ("HOIST_PORT_80_TCP_NAME", "1"),
        ("HOIST_HOST", "h"),
    ] {
        let notes = of(&[], &[slip], "").expect("sound").notes;
        assert!(notes.len() == 1 && notes[0].contains(slip.0), "{slip:?}: {notes:?}");
    }
}

// proves: TOK-TOKEN-05, TOK-SEC-01
#[test]
fn risky_settings_cause_warnings() {
    const TOKEN: &str = "not authenticated";
    const CLEAR: &str = "without encryption";
    const ANY_ADDRESS: &str = "trusts every address";
    const TAKEN: &str = "finds nothing to serve";
    const ISSUERS: &str = "every issuer";
    let cases: [(&str, &[&str]); 14] = [
        ("", &[TOKEN]),
        ("min-token-length = 15", &[TOKEN]),
        ("min-token-length = 16", &[]),
        ("bearer-file = \"b\"", &[]),
        ("jwks-file = \"b\"", &[ISSUERS]),
        ("jwks-file = \"b\"\njwt-issuer = \"i\"", &[]),
        ("bearer-file = \"b\"\nlisten = [\"127.0.0.1:0\", \"0.0.0.0:0\", \"[::]:0\"]", &[CLEAR]),
        ("bearer-file = \"b\"\nlisten = [\"[::1]:0\", \"127.9.9.9:0\", \"[::ffff:127.0.0.1]:0\"]", &[]),
        ("bearer-file = \"b\"\nlisten = \"192.0.2.1:0\"\ntls-cert = \"c\"\ntls-key = \"k\"", &[]),
        ("listen = \"[2001:db8::1]:0\"\ntrusted-proxy = \"::1\"", &[TOKEN]),
        ("bearer-file = \"b\"\ntrusted-proxy = [\"::1\", \"0.0.0.0/0\"]", &[ANY_ADDRESS]),
        ("bearer-file = \"b\"\ntrusted-proxy = \"::/0\"", &[ANY_ADDRESS]),
        ("bearer-file = \"b\"\ndownloads = true", &[]),
        ("bearer-file = \"b\"\ndownloads = \"on\"\ntarget = \"files\"\nfiles-dir = \"f\"", &[TAKEN]),
    ];
    for (toml, expected) in cases {
        let warnings = of(&[], &[], toml).expect("sound").warnings();
        assert_eq!(warnings.len(), expected.len(), "{toml}: {warnings:?}");
        for (warning, expected) in warnings.iter().zip(expected) {
            assert!(warning.contains(expected), "{toml}: {warning}");
        }
    }
}

#[test]
fn unlimited_retention_causes_advice() {
    let cases: [(&str, &[&str]); 6] = [
        ("", &["content of complete uploads"]),
        ("retain = \"30d\"", &[]),
        ("max-stored-bytes = \"1GiB\"", &[]),
        ("target = \"files\"\nfiles-dir = \"f\"", &[]),
        ("target = \"files\"\nfiles-dir = \"f\"\nretain = \"none\"", &["records of complete uploads"]),
        ("retain = \"30d\"\nmax-age = \"none\"", &["unfinished uploads"]),
    ];
    for (toml, expected) in cases {
        let advice = of(&[], &[], toml).expect("sound").advice();
        assert_eq!(advice.len(), expected.len(), "{toml}: {advice:?}");
        for (advice, expected) in advice.iter().zip(expected) {
            assert!(advice.contains(expected), "{toml}: {advice}");
        }
    }
}

#[test]
fn the_printed_configuration_can_be_read_back() {
    let given: [(&'static str, &[&str]); 3] = [
        ("max-size", &["64MiB"]),
        ("hook-command", &["check \"it's\\fine\" '\u{1}\u{e9}'"]),
        ("listen", &["127.0.0.1:1", "127.0.0.1:2"]),
    ];
    let env = [("HOIST_WORKERS", "3"), ("HOIST_DATA", "dir with \"quotes\" # and more")];
    let config = of(&given, &env, "target = \"files\"\nfiles-dir = \"x\"\n").expect("sound");
    let printed = config.to_string();
    for expected in [
        "\"64MiB\"",
        "# --max-size",
        "# HOIST_WORKERS",
        "# hoist.toml:1",
        "retain = \"24h\"",
        "# default",
        "# jwt-key =",
    ] {
        assert!(printed.contains(expected), "{expected} in {printed}");
    }
    let mut again = of(&[], &[], &printed).expect("sound");
    assert_eq!(again.policy.retention, Some(Duration::from_hours(24)));
    again.layers = config.layers.clone();
    assert_eq!(format!("{again:?}"), format!("{config:?}"));
}

#[test]
fn the_words_of_a_setting_are_those_that_it_accepts() {
    for setting in SETTINGS.iter().filter(|setting| !setting.words.is_empty()) {
        let errors = |word: &str| of(&[(setting.name, &[word])], &[], "").err().unwrap_or_default();
        // Some words need other settings, but each is known.
        let is_unknown =
            |word: &str| errors(word).iter().any(|error| error.contains(&format!("`{word}` is ")));
        assert!(is_unknown("zzz"), "{}", setting.name);
        let expected = errors("zzz").concat();
        for word in setting.words {
            assert!(!is_unknown(word), "{} {word}: {:?}", setting.name, errors(word));
            assert!(expected.contains(word), "{}: {expected}", setting.name);
        }
    }
}

#[test]
fn every_key_of_the_sample_can_be_uncommented() {
    let sample = sample();
    assert_eq!(errors(&sample), [] as [String; 0], "{sample}");
    let keys: Vec<_> = sample.lines().filter_map(|line| line.strip_prefix('#')?.split_once(" = ")).collect();
    let keys: Vec<_> = keys.into_iter().filter(|(key, _)| !key.starts_with(' ')).collect();
    let names: Vec<_> = keys.iter().map(|(key, _)| *key).collect();
    assert_eq!(names, SETTINGS.iter().map(|setting| setting.name).collect::<Vec<_>>());
    let defaults = Config::of(&flags(&[]), &variables(&[]), &Layers::default(), Vec::new()).expect("sound");
    for (key, value) in keys {
        // Some settings need others, but each value is valid by itself.
        let line = format!("{key} = {value}");
        let wrong = errors(&line);
        let is_accepted = |error: &String| error.contains("needs ") || error.contains("has no effect");
        assert!(wrong.iter().all(is_accepted), "{line}: {wrong:?}");
        let setting = SETTINGS.iter().find(|setting| setting.name == key).expect("a setting");
        if setting.default.is_some() {
            let written = of(&[], &[], &line).expect(&line);
            let texts = |config: &Config| config.layers.get(key).expect("set").texts.clone();
            assert_eq!(texts(&written), texts(&defaults), "{line}");
        }
    }
}
