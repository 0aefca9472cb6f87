//! Runs the job given as argument with tus-uploader, and prints a JSON line with the result and each request with its
//! response.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Map, Value, json};
use tus_uploader::http::HeaderMap;
use tus_uploader::url::Url;
use tus_uploader::{
    ChecksumAlgorithm, ChecksumMode, Client, Error, FileSource, NewUpload, ParallelUpload, ReqwestTransport,
    Result, Transport, TransportRequest, TransportResponse, UploadMetadata, async_trait::async_trait,
};

const SENT: [&str; 5] = ["Upload-Offset", "Upload-Length", "Upload-Concat", "Upload-Checksum", "Trailer"];
const GOT: [&str; 4] = ["Upload-Offset", "Upload-Length", "Location", "Tus-Resumable"];

type Log = Arc<Mutex<Vec<Value>>>;

/// The library's HTTP client, recording each request.
#[derive(Clone)]
struct Logged {
    inner: ReqwestTransport,
    log: Log,
}

#[async_trait]
impl Transport for Logged {
    async fn send(&self, request: TransportRequest) -> Result<TransportResponse> {
        let entry = json!({
            "method": request.method().as_str(),
            "url": request.uri().path(),
            "sent": present(&SENT, request.headers()),
            "status": null,
            "got": {},
        });
        let at = {
            let mut log = self.log.lock().expect("unlocked");
            log.push(entry);
            log.len() - 1
        };
        let answer = self.inner.send(request).await?;
        let mut log = self.log.lock().expect("unlocked");
        log[at]["status"] = answer.status().as_u16().into();
        log[at]["got"] = present(&GOT, answer.headers()).into();
        Ok(answer)
    }
}

fn present(names: &[&str], fields: &HeaderMap) -> Map<String, Value> {
    let value =
        |name: &str| fields.get(name).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
    names.iter().filter_map(|name| Some(((*name).to_owned(), value(name)?.into()))).collect()
}

fn client(job: &Value, log: Log) -> Client<Logged> {
    let endpoint = Url::parse(job["endpoint"].as_str().expect("an endpoint")).expect("a URL");
    let mut http = reqwest::Client::builder();
    if job["wire"] == "h2" {
        http = http.http2_prior_knowledge();
    }
    let inner = ReqwestTransport::from(http.build().expect("a client"));
    let mut client = Client::with_transport(endpoint, Logged { inner, log })
        .with_max_retries(retries(job))
        .with_retry_delay(Duration::from_millis(10));
    if let Some(chunk) = job["chunk"].as_u64() {
        client = client.with_max_chunk_size(chunk as usize);
    }
    if let Some(most) = job["initial"].as_u64() {
        client = client.with_max_initial_upload_size(most as usize);
    }
    match job["checksum"].as_str() {
        None => client,
        Some("header") => client.with_checksum(ChecksumMode::Header(ChecksumAlgorithm::Sha256)),
        Some(_) => client.with_checksum(ChecksumMode::Trailer(ChecksumAlgorithm::Sha1)),
    }
}

fn retries(job: &Value) -> usize {
    job["retries"].as_u64().unwrap_or(0) as usize
}

async fn act(job: &Value, client: &Client<Logged>) -> Result<Url> {
    let file = || FileSource::open(job["file"].as_str().expect("a file"));
    let mut metadata = UploadMetadata::new();
    metadata.insert("filename", "content.bin");
    if let Some(part) = job["part"].as_u64() {
        let options = ParallelUpload::new(part as usize).with_max_concurrency(3);
        return Ok(client.upload_parallel(file().await?, metadata, options).await?.url().clone());
    }
    if job["steps"] != true {
        return Ok(client.upload_from(file().await?, metadata).await?.url().clone());
    }
    let source = file().await?;
    let length = tus_uploader::UploadSource::len(&source);
    let (upload, _) = client.create_upload(NewUpload::new(length, metadata)).await?;
    if job["terminate"] == true {
        upload.terminate().await?;
    } else {
        upload.upload(source).await?;
    }
    Ok(upload.url().clone())
}

/// The library retries appends only.
async fn act_again(job: &Value, client: &Client<Logged>) -> Result<Url> {
    for _ in 0..retries(job) {
        match act(job, client).await {
            Err(error) if error.is_retryable() => {}
            ended => return ended,
        }
    }
    act(job, client).await
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let job = std::env::args().nth(1).expect("a job");
    let job: Value = serde_json::from_str(&job).expect("JSON");
    let log = Log::default();
    let ended: std::result::Result<Url, Error> = act_again(&job, &client(&job, log.clone())).await;
    let (outcome, message, url) = match ended {
        Ok(url) => ("success", None, Some(url.to_string())),
        Err(error) => ("error", Some(error.to_string()), None),
    };
    let requests = log.lock().expect("unlocked").clone();
    println!("{}", json!({ "outcome": outcome, "message": message, "url": url, "requests": requests }));
}
