//! Python's HTTP client, which supports no interim response but 100 and would take any other for the final one.

use serde_json::{Value, json};
use tokio::process::Command;

use crate::harness::{Server, ServerDir, bytes, print_note, within_timeout};

/// Sends content with each method and set of fields on one connection, and prints the responses.
const SCRIPT: &str = r#"
import http.client, json, sys

address, path, asks = sys.argv[1], "/uploads", json.loads(sys.argv[2])
connection = http.client.HTTPConnection(address)
for method, fields, chunked in asks:
    content = open(sys.argv[3], "rb").read()
    body = iter([content[:70000], content[70000:]]) if chunked else content
    connection.request(method, path, body, fields, encode_chunked=chunked)
    answer = connection.getresponse()
    answer.read()
    print(json.dumps([answer.status, answer.getheader("Location"), answer.getheader("Upload-Complete")]))
"#;

// proves: IETF-INT-07, IETF-VER-02, IETF-VER-06, IETF-SF-04
#[tokio::test]
async fn a_client_that_does_not_ask_for_interim_responses_gets_none() {
    let home = ServerDir::new();
    let server = Server::start(&home, &[]);
    let content = bytes(5, 3_000_000);
    let film = home.text("film");
    std::fs::write(&film, &content).expect("written");
    let number = |number: &str| json!({ "Upload-Complete": "?1", "Upload-Draft-Interop-Version": number });
    let chunked = json!({ "Transfer-Encoding": "chunked" });
    let asks = json!([
        ["POST", {}, false],
        ["PUT", {}, false],
        ["POST", chunked, true],
        ["POST", { "Upload-Complete": "?1" }, false],
        ["PUT", { "Upload-Complete": "?1", "Transfer-Encoding": "chunked" }, true],
        ["POST", number("11"), false],
        ["POST", number("eight"), false],
        ["PUT", { "Upload-Complete": "yes" }, false],
    ]);
    let mut python = Command::new("python3");
    python.args(["-c", SCRIPT, &server.addr.to_string(), &asks.to_string(), &film]).kill_on_drop(true);
    let output = match within_timeout("Python", python.output()).await {
        Ok(output) => output,
        Err(error) => return print_note(format_args!("not tested: there is no python3: {error}")),
    };
    let (said, wrong) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{wrong}");
    let answers: Vec<Value> = said.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    for (answer, request) in answers.iter().zip(asks.as_array().expect("a list")) {
        let is_creation =
            request[1]["Upload-Complete"] == "?1" && request[1].get("Upload-Draft-Interop-Version").is_none();
        assert_eq!(answer[0], 201, "{request}: {answer}");
        assert!(answer[1].is_string(), "{request}: {answer}");
        assert_eq!(answer[2] == "?1", is_creation, "{request}: {answer}");
    }
    let done = home.done();
    assert_eq!((answers.len(), done.len(), home.uploads("open")), (8, 8, 0));
    assert!(done.iter().all(|done| *done == content), "other bytes");
}
