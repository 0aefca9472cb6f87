//! `hoist dns-record`: prints the HTTPS resource record that announces the upload URL (RFC 9460).
//!
//! The path is a parameter of the private-use range, following `dohpath` (RFC 9461).

use std::fmt::Write as _;

use serde_json::json;

use super::config::load;
use crate::cli::DnsRecord;
use crate::config::{Config, ListenAt};
use crate::exit::{Exit, Failure};
use crate::output::Output;

//= TOK-DISC-02
pub(crate) fn run(args: &DnsRecord, output: Output) -> Result<Exit, Failure> {
    let config = load(&args.settings.0, output)?;
    let host = absolute(&args.host).map_err(|wrong| Failure::message(Exit::Usage, wrong))?;
    if config.tls.is_none() {
        output.message("warning: the server has no TLS; the record is valid only if a proxy terminates TLS");
    }
    let port = port(args.port, &config).map_err(|wrong| Failure::message(Exit::Usage, wrong))?;
    let record = record(&host, args.ttl.0.as_secs(), port, &config.endpoint);
    output.result(&record, &json!({ "record": record }))?;
    Ok(Exit::Success)
}

/// Returns the port for clients: `--port`, else the listener's own with TLS, else 443, for a proxy that terminates TLS.
fn port(args: Option<u16>, config: &Config) -> Result<u16, String> {
    let own = config.listen.iter().find_map(ListenAt::port).filter(|_| config.tls.is_some());
    match args.or(own).unwrap_or(443) {
        0 => Err("port 0 is a different port at every start; give the public port with --port".into()),
        port => Ok(port),
    }
}

/// Formats the record as a line of a zone file. The target is `.`, the owner name itself.
fn record(host: &str, ttl_seconds: u64, port: u16, endpoint: &str) -> String {
    let endpoint = quoted(endpoint);
    format!("{host} {ttl_seconds} IN HTTPS 1 . alpn=\"h2,http/1.1\" port=\"{port}\" key65400={endpoint}")
}

/// Returns a host name as an absolute name with a final dot, or an error message.
fn absolute(host: &str) -> Result<String, String> {
    let name = host.strip_suffix('.').unwrap_or(host);
    let is_label = |label: &str| {
        let octets_fit = (1..=63).contains(&label.len());
        octets_fit
            && label.bytes().all(|octet| octet.is_ascii_alphanumeric() || octet == b'-' || octet == b'_')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    if !name.is_ascii() {
        return Err(format!("{host} is not ASCII; write it in its xn-- form"));
    }
    if name.len() > 253 || name.parse::<std::net::IpAddr>().is_ok() || !name.split('.').all(is_label) {
        return Err(format!("{host} is not a host name; write --host like upload.example.org"));
    }
    Ok(format!("{}.", name.to_ascii_lowercase()))
}

/// Formats a value as a quoted string of a zone file (RFC 9460, appendix A).
fn quoted(value: &str) -> String {
    let mut text = String::from("\"");
    for octet in value.bytes() {
        match octet {
            b'"' | b'\\' => {
                text.push('\\');
                text.push(char::from(octet));
            }
            b' '..=b'~' => text.push(char::from(octet)),
            _ => {
                let _ = write!(text, "\\{octet:03}");
            }
        }
    }
    text.push('"');
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Given, flags};

    // proves: TOK-DISC-02
    #[test]
    fn the_record_has_port_and_endpoint() {
        let of = |given: Given<'_>, args: Option<u16>| {
            let config = Config::load(&flags(given), None).expect("sound");
            let host = absolute("Upload.example.org").expect("a name");
            port(args, &config).map(|port| record(&host, 3600, port, &config.endpoint))
        };
        let tls: (&str, &[&str]) = ("tls-cert", &["c"]);
        let key: (&str, &[&str]) = ("tls-key", &["k"]);
        let line =
            |rest: &str| Ok(format!("upload.example.org. 3600 IN HTTPS 1 . alpn=\"h2,http/1.1\" {rest}"));
        assert_eq!(of(&[], None), line("port=\"443\" key65400=\"/uploads\""));
        assert_eq!(of(&[], Some(8443)), line("port=\"8443\" key65400=\"/uploads\""));
        let own = [tls, key, ("listen", &["0.0.0.0:8443", "[::]:9"][..]), ("endpoint", &["/a\"b"][..])];
        assert_eq!(of(&own, None), line("port=\"8443\" key65400=\"/a\\\"b\""));
        let free = [tls, key, ("listen", &["127.0.0.1:0"][..])];
        assert!(of(&free, None).is_err_and(|wrong| wrong.contains("--port")));
        assert_eq!(of(&free, Some(443)), line("port=\"443\" key65400=\"/uploads\""));
    }

    #[test]
    fn only_host_names_are_accepted() {
        assert_eq!(absolute("a.example.").as_deref(), Ok("a.example."));
        for bad in [
            "",
            ".",
            "a..b",
            "-a.example",
            "a b",
            "a.example:443",
            "https://a",
            "127.0.0.1",
            "b\u{fc}cher.example",
        ] {
            assert!(absolute(bad).is_err(), "{bad}");
        }
        assert_eq!(quoted("/a b\\\u{e9}"), "\"/a b\\\\\\195\\169\"");
    }
}
