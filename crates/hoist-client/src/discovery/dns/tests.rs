//! Records from a name server on the loopback interface.

use std::net::{Ipv4Addr, SocketAddr};

use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolverConfig};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use tokio::net::UdpSocket;

use super::*;

const HTTPS: [u8; 2] = [0, 65];
const TTL: u32 = 300;

/// Encodes a parameter.
fn parameter(key: u16, value: &[u8]) -> Vec<u8> {
    let length = u16::try_from(value.len()).expect("short");
    [&key.to_be_bytes()[..], &length.to_be_bytes(), value].concat()
}

/// Encodes the data of a record.
fn record(priority: u16, target: &[&str], parameters: &[Vec<u8>]) -> Vec<u8> {
    let mut data = priority.to_be_bytes().to_vec();
    for label in target {
        data.push(u8::try_from(label.len()).expect("short"));
        data.extend_from_slice(label.as_bytes());
    }
    data.push(0);
    data.extend(parameters.concat());
    data
}

/// Answers one query with these records, and returns the queried name.
async fn answer(server: &UdpSocket, records: &[Vec<u8>]) -> String {
    let mut query = [0; 1500];
    let (bytes, peer) = server.recv_from(&mut query).await.expect("a query");
    let mut name = String::new();
    let mut at = 12;
    while query[at] != 0 {
        let end = at + 1 + usize::from(query[at]);
        name.push_str(std::str::from_utf8(&query[at + 1..end]).expect("ASCII"));
        name.push('.');
        at = end;
    }
    let question = &query[12..at + 5];
    assert!(bytes >= at + 5);
    let count = u16::try_from(records.len()).expect("few").to_be_bytes();
    let mut response = [&query[..2], &[0x81, 0x80, 0, 1], &count, &[0, 0, 0, 0], question].concat();
    for data in records {
        let length = u16::try_from(data.len()).expect("short").to_be_bytes();
        response.extend([&[0xc0, 12][..], &HTTPS, &[0, 1], &TTL.to_be_bytes(), &length, data].concat());
    }
    server.send_to(&response, peer).await.expect("sent");
    name
}

async fn name_server() -> (UdpSocket, TokioResolver) {
    let server = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
    let SocketAddr::V4(address) = server.local_addr().expect("bound") else { panic!("bound to IPv4") };
    let mut connection = ConnectionConfig::udp();
    connection.port = address.port();
    let name_server = NameServerConfig::new((*address.ip()).into(), true, vec![connection]);
    let config = ResolverConfig::from_parts(None, Vec::new(), vec![name_server]);
    let resolver = Resolver::builder_with_config(config, TokioRuntimeProvider::default());
    (server, resolver.build().expect("a resolver"))
}

// proves: TOK-DISC-04
#[tokio::test]
async fn a_record_names_the_path_and_the_alternative_service() {
    let age = Duration::from_secs(TTL.into());
    let alternative =
        |host: Option<&str>, port| Some((Alternative { host: host.map(str::to_owned), port }, age));
    let path = || parameter(PATH, b"/files");
    let found = |path: Option<&str>, alternative| HttpsRecord { path: path.map(str::to_owned), alternative };
    let nothing = || Some(HttpsRecord::default());
    let table = [
        (vec![], None),
        (vec![record(0, &["alias", "example"], &[])], None),
        (vec![record(1, &[], &[])], nothing()),
        (vec![record(1, &[], &[path()])], Some(found(Some("/files"), None))),
        (vec![record(1, &[], &[parameter(PATH, b"files")])], nothing()),
        (vec![record(1, &[], &[parameter(PATH, b"\xff")])], nothing()),
        (
            vec![record(1, &[], &[parameter(3, &[0x20, 0xfb]), path()])],
            Some(found(Some("/files"), alternative(None, 8443))),
        ),
        (
            vec![record(1, &["cdn", "example"], &[path()])],
            Some(found(Some("/files"), alternative(Some("cdn.example"), 443))),
        ),
        // The alternative is only for HTTP/3. The path counts all the same.
        (
            vec![record(1, &["cdn", "example"], &[parameter(1, b"\x02h3"), parameter(2, b""), path()])],
            Some(found(Some("/files"), None)),
        ),
        // Another parameter is mandatory.
        (vec![record(1, &[], &[parameter(0, &[0, 5]), parameter(5, b"x"), path()])], nothing()),
        (vec![record(2, &[], &[]), record(1, &[], &[path()])], Some(found(Some("/files"), None))),
    ];
    for (records, expected) in table {
        let (server, resolver) = name_server().await;
        let (name, found) = tokio::join!(answer(&server, &records), lookup(&resolver, "up.example", 443));
        assert_eq!((name.as_str(), found), ("up.example.", expected), "{records:?}");
    }
}

#[tokio::test]
async fn a_port_other_than_443_is_part_of_the_name() {
    let (server, resolver) = name_server().await;
    let records = [record(1, &[], &[parameter(PATH, b"/files")])];
    let (name, found) = tokio::join!(answer(&server, &records), lookup(&resolver, "up.example", 8443));
    assert_eq!(name, "_8443._https.up.example.");
    assert_eq!(found.and_then(|record| record.path).as_deref(), Some("/files"));
}
