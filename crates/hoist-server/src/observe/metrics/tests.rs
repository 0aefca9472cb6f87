//! Tests of the formats.

use std::time::Duration;

use http::HeaderValue;

use super::*;
use crate::observe::HookEvent;

fn scrape(format: Format) -> String {
    let sample = Sample { uploads_open: 3, free_bytes: Some(7), connections_open: 2, sinks: Vec::new() };
    Metrics::new("1.2.3").encode(format, sample)
}

#[test]
fn the_format_is_the_one_that_the_client_names() {
    let prometheus = "application/openmetrics-text;version=1.0.0;q=0.5,application/openmetrics-text;version=0.0.1;q=0.4,\
                      text/plain;version=0.0.4;q=0.3,*/*;q=0.2";
    let cases: [(&[&str], Format); 5] = [
        (&[], Format::Prometheus),
        (&["*/*"], Format::Prometheus),
        (&["text/plain;version=0.0.4"], Format::Prometheus),
        (&[prometheus], Format::OpenMetrics),
        (&["text/plain", "application/openmetrics-text"], Format::OpenMetrics),
    ];
    for (lines, expected) in cases {
        let mut fields = HeaderMap::new();
        for line in lines {
            fields.append(header::ACCEPT, HeaderValue::from_static(line));
        }
        assert_eq!(Format::accepted(&fields), expected, "{lines:?}");
    }
}

#[test]
fn both_formats_have_the_same_samples() {
    let samples = |format| -> Vec<String> {
        let text = scrape(format);
        // The formats write the numbers and the labels of histograms differently.
        let is_plain = |line: &&str| {
            !line.starts_with('#') && !line.contains("_seconds") && !line.contains("_upload_bytes")
        };
        let samples = text.lines().filter(is_plain);
        samples.map(ToOwned::to_owned).collect()
    };
    let open = samples(Format::OpenMetrics);
    assert_eq!(open, samples(Format::Prometheus));
    for expected in [
        "hoist_uploads_open 3",
        "hoist_uploads_created_total{dialect=\"tus\"} 0",
        "hoist_uploads_ended_total{dialect=\"upload-token\",outcome=\"expired\"} 0",
        "hoist_build_info{version=\"1.2.3\"} 1",
        "hoist_config_reload_ok 1",
        "hoist_store_free_bytes 7",
        "hoist_transfers_active{transport=\"h2\"} 0",
    ] {
        assert!(open.iter().any(|sample| sample == expected), "{expected}: {open:#?}");
    }
    assert!(scrape(Format::OpenMetrics).ends_with("# EOF\n"));
}

#[test]
fn a_histogram_counts_each_observation_in_the_bucket_of_its_bound() {
    let metrics = Metrics::new("1");
    for millis in [1, 2, 2, 10_000, 10_001] {
        metrics.observe(&Event::Synced(Duration::from_millis(millis)));
    }
    for format in [Format::OpenMetrics, Format::Prometheus] {
        let text = metrics.encode(
            format,
            Sample { uploads_open: 0, free_bytes: None, connections_open: 0, sinks: Vec::new() },
        );
        let of = |suffix: &str| {
            let series = format!("hoist_sync_seconds_{suffix} ");
            let line = text.lines().find(|line| line.starts_with(&series)).expect("a sample");
            line[series.len()..].parse::<f64>().expect("a number")
        };
        let ten = if format == Format::Prometheus { "10" } else { "10.0" };
        let expected = [
            ("bucket{le=\"0.0005\"}", 0.0),
            ("bucket{le=\"0.001\"}", 1.0),
            ("bucket{le=\"0.0025\"}", 3.0),
            (&format!("bucket{{le=\"{ten}\"}}"), 4.0),
            ("bucket{le=\"+Inf\"}", 5.0),
            ("count", 5.0),
            ("sum", 20.006),
        ];
        for (suffix, expected) in expected {
            assert!((of(suffix) - expected).abs() < 1e-9, "{suffix}: {text}");
        }
        assert!(!text.contains("hoist_store_free_bytes"), "an unknown number has no sample: {text}");
    }
}

#[test]
fn the_metrics_of_tusd_have_its_names() {
    let names = |text: &str| -> Vec<String> {
        let typed = text.lines().filter_map(|line| line.strip_prefix("# TYPE "));
        typed.filter(|line| line.starts_with("tusd_")).map(ToOwned::to_owned).collect()
    };
    let text = scrape(Format::Tusd);
    let expected = [
        "tusd_requests_total counter",
        "tusd_errors_total counter",
        "tusd_bytes_received counter",
        "tusd_uploads_created counter",
        "tusd_uploads_finished counter",
        "tusd_uploads_terminated counter",
        "tusd_connections_open gauge",
        "tusd_hook_invocations_total counter",
        "tusd_hook_errors_total counter",
    ];
    assert_eq!(names(&text), expected, "{text}");
    assert!(text.contains("tusd_connections_open 2\n") && text.contains("hoist_uploads_open 3\n"), "{text}");
    assert!(names(&scrape(Format::Prometheus)).is_empty());
}

#[test]
fn calls_of_hooks_count_by_hook_and_outcome() {
    let metrics = Metrics::new("1");
    for is_success in [true, false, true] {
        let (hook, duration) = ("pre-finish", Duration::from_millis(3));
        metrics.observe(&Event::HookCalled(&HookEvent { hook, is_success, duration }));
    }
    let sample = Sample { uploads_open: 0, free_bytes: None, connections_open: 0, sinks: Vec::new() };
    let text = metrics.encode(Format::Tusd, sample);
    for expected in [
        "hoist_hook_seconds_count{hook=\"pre-finish\",outcome=\"answered\"} 2\n",
        "hoist_hook_seconds_count{hook=\"pre-finish\",outcome=\"failed\"} 1\n",
        "hoist_hook_seconds_count{hook=\"pre-create\",outcome=\"answered\"} 0\n",
        "tusd_hook_invocations_total{hooktype=\"pre-finish\"} 3\n",
        "tusd_hook_errors_total{hooktype=\"pre-finish\"} 1\n",
    ] {
        assert!(text.contains(expected), "{expected}: {text}");
    }
}
