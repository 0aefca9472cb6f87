//! The trust in forwarded fields.

use http::HeaderName;

use super::*;

fn fields(lines: &[(&str, &str)]) -> HeaderMap {
    let line = |(name, value): &(&str, &str)| {
        let name = HeaderName::from_bytes(name.as_bytes()).expect("a name");
        (name, HeaderValue::from_bytes(value.as_bytes()).expect("a value"))
    };
    let mut fields = HeaderMap::new();
    for (name, value) in lines.iter().map(line) {
        fields.append(name, value);
    }
    fields
}

/// Returns the client's view of a request from this peer, without TLS. 10.0.0.1 is a trusted proxy.
fn told(peer: &str, lines: &[(&str, &str)]) -> ClientView {
    let trusted = ["10.0.0.0/8", "fd00::/8"].map(|text| text.parse().expect("a network"));
    let mut extensions = Extensions::new();
    extensions.insert(Peer { addr: SocketAddr::new(peer.parse().expect("an address"), 4711), tls: false });
    Proxies(trusted.to_vec()).client_view(&extensions, &fields(lines))
}

/// Returns the client, scheme and host of the same.
fn told_by(peer: &str, lines: &[(&str, &str)]) -> (String, Option<&'static str>, Option<String>) {
    let told = told(peer, lines);
    let client = told.client.expect("there is a peer").to_string();
    (client, told.scheme, told.authority.map(|authority| authority.to_string()))
}

#[test]
fn a_network_contains_the_addresses_of_its_prefix() {
    let cases: [(&str, &[&str], &[&str]); 8] = [
        ("10.0.0.0/8", &["10.0.0.0", "10.255.255.255", "::ffff:10.1.2.3"], &["11.0.0.0", "9.255.255.255"]),
        ("192.0.2.7", &["192.0.2.7"], &["192.0.2.6", "192.0.2.8", "::192.0.2.7"]),
        ("192.0.2.6/31", &["192.0.2.6", "192.0.2.7"], &["192.0.2.5", "192.0.2.8"]),
        ("0.0.0.0/0", &["0.0.0.0", "255.255.255.255"], &["::1"]),
        ("fd00::/8", &["fd00::", "fdff::1"], &["fc00::", "fe00::"]),
        ("::1", &["::1"], &["::", "::2", "127.0.0.1"]),
        ("::/0", &["::1", "ffff::", "127.0.0.1"], &[]),
        ("::ffff:10.0.0.0/104", &["10.1.1.1"], &["11.1.1.1"]),
    ];
    for (network, inside, outside) in cases {
        let parsed: Network = network.parse().expect("a network");
        for (addr, expected) in inside.iter().map(|a| (a, true)).chain(outside.iter().map(|a| (a, false))) {
            assert_eq!(parsed.contains(addr.parse().expect("an address")), expected, "{addr} in {network}");
        }
        assert_eq!(parsed.covers_all(), network.ends_with("/0"), "{network}");
    }
    for bad in ["", "10.0.0/8", "10.0.0.0/33", "10.0.0.0/", "10.0.0.0/-1", "::/129", "::/999", "example.org"]
    {
        assert_eq!(bad.parse::<Network>(), Err(BadNetwork), "{bad}");
    }
}

#[test]
fn peers_of_unix_sockets_are_trusted_by_name_only() {
    let lines = [("forwarded", "for=192.0.2.7;proto=https;host=a.example")];
    let mut extensions = Extensions::new();
    extensions.insert(UnixPeer { tls: false });
    let told = |trusted: &[&str]| {
        let networks = trusted.iter().map(|text| text.parse().expect("a network")).collect();
        Proxies(networks).client_view(&extensions, &fields(&lines))
    };
    let seen = told(&["0.0.0.0/0", "::/0"]);
    assert_eq!((seen.client, seen.scheme, seen.authority), (None, Some("http"), None));
    let told = told(&["unix"]);
    assert_eq!((told.client, told.scheme), (Some([192, 0, 2, 7].into()), Some("https")));
    assert_eq!(told.authority.expect("a host").as_str(), "a.example");
    assert!(!Network::UNIX.contains([127, 0, 0, 1].into()) && !Network::UNIX.covers_all());
}

#[test]
fn fields_from_untrusted_peers_are_ignored() {
    let lies = [
        ("forwarded", "for=192.0.2.1;proto=https;host=evil.example"),
        ("x-forwarded-for", "192.0.2.1"),
        ("x-forwarded-proto", "https"),
        ("x-forwarded-host", "evil.example"),
    ];
    assert_eq!(told_by("11.0.0.1", &lies), ("11.0.0.1".into(), Some("http"), None));
    assert_eq!(told_by("::ffff:11.0.0.1", &lies), ("11.0.0.1".into(), Some("http"), None));
    // Under another server the address of the peer is unknown.
    let told = Proxies(vec!["0.0.0.0/0".parse().expect("a network")]);
    assert_eq!(told.client_view(&Extensions::new(), &fields(&lies)), ClientView::default());
}

type Case<'a> = (&'a [(&'a str, &'a str)], &'a str, Option<&'a str>, Option<&'a str>);

#[test]
fn forwarded_counts_as_far_as_trusted_proxies_added_to_it() {
    let f = "forwarded";
    let cases: [Case<'_>; 24] = [
        (&[], "10.0.0.1", Some("http"), None),
        (&[(f, "for=192.0.2.1;proto=https;host=a.example")], "192.0.2.1", Some("https"), Some("a.example")),
        (&[(f, "For = 192.0.2.1")], "10.0.0.1", Some("http"), None),
        (
            &[(f, "FOR=\"192.0.2.1:80\" ; Proto=HTTPS ;host=\"a.example:8443\"")],
            "192.0.2.1",
            Some("https"),
            Some("a.example:8443"),
        ),
        (&[(f, "for=\"[2001:db8::1]:80\"")], "2001:db8::1", Some("http"), None),
        (&[(f, "for=\"[2001:db8::1]\";host=\"[::1]:80\"")], "2001:db8::1", Some("http"), Some("[::1]:80")),
        (&[(f, "for=\"\\192.0.2.1\";by=10.0.0.1;ext=\"a,b;c=d\"")], "192.0.2.1", Some("http"), None),
        // The client's own element is left of the first trusted one.
        (
            &[(f, "for=6.6.6.6;host=evil.example, for=192.0.2.1;proto=https")],
            "192.0.2.1",
            Some("https"),
            None,
        ),
        (
            &[(f, "for=6.6.6.6;host=evil.example"), (f, "for=192.0.2.1;proto=https")],
            "192.0.2.1",
            Some("https"),
            None,
        ),
        // Two trusted proxies; the one nearer to the client counts.
        (
            &[(
                f,
                "host=evil.example, for=192.0.2.1;proto=https;host=a.example, for=10.0.0.2;proto=http;host=in",
            )],
            "192.0.2.1",
            Some("https"),
            Some("a.example"),
        ),
        (
            &[(f, "for=192.0.2.1, for=\"[fd00::2]\";proto=https;host=in")],
            "192.0.2.1",
            Some("https"),
            Some("in"),
        ),
        (&[(f, "for=10.0.0.3, for=10.0.0.2;proto=https")], "10.0.0.3", Some("https"), None),
        (&[(f, "for=6.6.6.6, for=unknown;proto=https")], "10.0.0.1", Some("https"), None),
        (&[(f, "for=6.6.6.6, for=_hidden, for=10.0.0.2")], "10.0.0.2", Some("http"), None),
        (&[(f, "for=6.6.6.6, proto=https")], "10.0.0.1", Some("https"), None),
        // A malformed line invalidates only itself and what is left of it.
        (
            &[(f, "for=6.6.6.6"), (f, "for=\"open"), (f, "for=10.0.0.2;proto=https")],
            "10.0.0.2",
            Some("https"),
            None,
        ),
        (&[(f, "for=\"open, for=192.0.2.1")], "10.0.0.1", Some("http"), None),
        (&[(f, "for=192.0.2.1;for=192.0.2.2")], "10.0.0.1", Some("http"), None),
        (&[(f, "for=192.0.2.1 proto=https")], "10.0.0.1", Some("http"), None),
        (&[(f, ";;, ,for=192.0.2.1;;, ,")], "192.0.2.1", Some("http"), None),
        (&[(f, "=,;=\\\"")], "10.0.0.1", Some("http"), None),
        (&[(f, "for=192.0.2.1;proto=ftp;host=\"a/b\"")], "192.0.2.1", Some("http"), None),
        (&[(f, "for=192.0.2.1;proto=\"https://evil\";host=\"a@b\"")], "192.0.2.1", Some("http"), None),
        (&[(f, "for=999.0.0.1;host=\"a:99999\"")], "10.0.0.1", Some("http"), None),
    ];
    for (lines, client, scheme, authority) in cases {
        let expected = (client.to_owned(), scheme, authority.map(ToOwned::to_owned));
        assert_eq!(told_by("10.0.0.1", lines), expected, "{lines:?}");
    }
}

#[test]
fn the_x_forwarded_fields_count_in_the_same_way() {
    let (client, proto, host) = ("x-forwarded-for", "x-forwarded-proto", "x-forwarded-host");
    let cases: [Case<'_>; 17] = [
        (
            &[(client, "192.0.2.1"), (proto, "https"), (host, "a.example")],
            "192.0.2.1",
            Some("https"),
            Some("a.example"),
        ),
        (&[(client, "6.6.6.6, 192.0.2.1"), (proto, "https")], "192.0.2.1", Some("https"), None),
        (
            &[(client, "6.6.6.6"), (client, "192.0.2.1 ,10.0.0.2"), (proto, "https")],
            "192.0.2.1",
            Some("https"),
            None,
        ),
        (
            &[(client, "192.0.2.1, 10.0.0.2"), (proto, "https, http"), (host, "a.example, in")],
            "192.0.2.1",
            Some("https"),
            Some("a.example"),
        ),
        (
            &[(client, "6.6.6.6, 192.0.2.1"), (host, "evil.example, a.example")],
            "192.0.2.1",
            Some("http"),
            Some("a.example"),
        ),
        (
            &[(host, "evil.example, a.example"), (proto, "http,https")],
            "10.0.0.1",
            Some("https"),
            Some("a.example"),
        ),
        (&[(client, "192.0.2.1:4711")], "192.0.2.1", Some("http"), None),
        (&[(client, "2001:db8::1")], "2001:db8::1", Some("http"), None),
        (&[(client, "[2001:db8::1]:80")], "2001:db8::1", Some("http"), None),
        (&[(client, "6.6.6.6, nonsense")], "10.0.0.1", Some("http"), None),
        (&[(client, ""), (proto, ""), (host, "")], "10.0.0.1", Some("http"), None),
        (
            &[(client, "6.6.6.6, \u{e9}"), (proto, "\u{e9}"), (host, "\u{e9}.example")],
            "10.0.0.1",
            Some("http"),
            None,
        ),
        (&[(host, "a.example/x"), (proto, "javascript")], "10.0.0.1", Some("http"), None),
        // One address and several schemes: the proxies replaced the first and appended to the second.
        (&[(client, "192.0.2.1"), (proto, "https,http")], "192.0.2.1", Some("https"), None),
        (&[(client, "192.0.2.1"), (proto, "https"), (proto, "http")], "192.0.2.1", Some("https"), None),
        (&[(client, "6.6.6.6, 192.0.2.1"), (proto, "https,http")], "192.0.2.1", Some("http"), None),
        (&[(host, "a.example\t"), (proto, " HTTPS")], "10.0.0.1", Some("https"), Some("a.example")),
    ];
    for (lines, client, scheme, authority) in cases {
        let expected = (client.to_owned(), scheme, authority.map(ToOwned::to_owned));
        assert_eq!(told_by("10.0.0.1", lines), expected, "{lines:?}");
    }
}

#[test]
fn a_separate_port_is_added_to_a_host_without_one() {
    let (proto, host, port) = ("x-forwarded-proto", "x-forwarded-host", "x-forwarded-port");
    let cases: [(&[(&str, &str)], &str); 12] = [
        (&[], "http://named.example"),
        (&[(port, "8080")], "http://named.example:8080"),
        (&[(port, "80")], "http://named.example"),
        (&[(proto, "https"), (port, "443")], "https://named.example"),
        (&[(proto, "https"), (port, "8443")], "https://named.example:8443"),
        (&[(proto, "https"), (host, "a.example"), (port, "8443")], "https://a.example:8443"),
        (&[(proto, "https"), (host, "[2001:db8::1]"), (port, "8443")], "https://[2001:db8::1]:8443"),
        (&[(proto, "https"), (host, "a.example:1"), (port, "8443")], "https://a.example:1"),
        (&[("x-forwarded-for", "192.0.2.1"), (port, "8443, 80")], "http://named.example:8443"),
        (&[(port, "99999")], "http://named.example"),
        (&[(port, "80x")], "http://named.example"),
        // A proxy that sets `Forwarded` forwards the client's `X-Forwarded-Port`.
        (&[("forwarded", "for=192.0.2.1;host=a.example"), (port, "1")], "http://a.example"),
    ];
    for (lines, expected) in cases {
        let origin = told("10.0.0.1", lines).origin(|| authority("named.example"));
        assert_eq!(origin.as_deref(), Some(expected), "{lines:?}");
    }
    let lie = told("11.0.0.1", &[(port, "8443")]).origin(|| authority("named.example"));
    assert_eq!(lie.as_deref(), Some("http://named.example"), "from a peer that is no proxy of ours");
}

#[test]
fn contradicting_families_are_ignored() {
    let (forwarded, client, host) = ("forwarded", "x-forwarded-for", "x-forwarded-host");
    let cases: [Case<'_>; 4] = [
        (
            &[(forwarded, "for=192.0.2.1;host=A.example"), (client, "192.0.2.1"), (host, "a.example")],
            "192.0.2.1",
            Some("http"),
            Some("A.example"),
        ),
        (
            &[(forwarded, "for=6.6.6.6;host=evil.example"), (client, "192.0.2.1"), (host, "a.example")],
            "10.0.0.1",
            Some("http"),
            None,
        ),
        (&[(forwarded, "proto=https"), (client, "192.0.2.1")], "192.0.2.1", Some("https"), None),
        (&[(forwarded, "proto=https"), ("x-forwarded-proto", "http")], "10.0.0.1", Some("http"), None),
    ];
    for (lines, client, scheme, authority) in cases {
        let expected = (client.to_owned(), scheme, authority.map(ToOwned::to_owned));
        assert_eq!(told_by("10.0.0.1", lines), expected, "{lines:?}");
    }
}

#[test]
fn malformed_fields_do_not_panic() {
    // Every text of up to four significant characters, in every field.
    let meaning = ['f', '=', '"', '\\', ';', ',', ' ', '[', ']', ':', '1'];
    let mut texts = vec![String::new()];
    for at in 0..4 {
        let longer: Vec<_> = texts
            .iter()
            .filter(|text| text.len() == at)
            .flat_map(|text| meaning.map(|char| format!("{text}{char}")))
            .collect();
        texts.extend(longer);
    }
    for text in texts {
        for name in ["forwarded", "x-forwarded-for", "x-forwarded-proto", "x-forwarded-host"] {
            let (client, scheme, _) = told_by("10.0.0.1", &[(name, &text)]);
            assert!(!client.is_empty() && scheme.is_some(), "{text}");
        }
    }
}
