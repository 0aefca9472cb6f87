//! The corpus of `conformance/` against the real server: every case, in every version, over every transport.

use hoist::check::{Corpus, Options, Report};

use crate::process::{Place, Server};

#[tokio::test]
async fn the_server_is_as_the_corpus_has_it() {
    let corpus = Corpus::built_in().unwrap_or_else(|bad| panic!("{bad}"));
    let only = std::env::var("HOIST_CASE").ok();
    let mut report = Report::default();
    for limits in corpus.servers() {
        let place = Place::new();
        let flags = limits.iter().flat_map(|(key, number)| [format!("--{key}"), number.to_string()]);
        let flags: Vec<String> = flags.collect();
        let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
        let server = Server::start(&place.path("data"), &flags);
        let options = Options { limits, only: only.clone(), ..Options::default() };
        let found = hoist::check::run(&server.url, &corpus, &options).await.expect("a URL of ours");
        report.merge(found);
        server.stop();
    }
    println!("{report}");
    let (passed, failed, skipped) = report.counts();
    assert_eq!((failed, skipped), (0, 0), "{report}");
    assert!(passed > 0, "nothing was run");
}
