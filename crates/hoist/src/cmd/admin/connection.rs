//! A connection to a server's admin listener: requests over TCP or a unix socket, one after the other.

use std::path::Path;
use std::pin::Pin;
use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Collected, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

use crate::cli::AdminPlace;
use crate::config::{self, ListenAt};
use crate::exit::{Exit, Failure};

/// The time to connect.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// The time until a response begins. A sweep or a redelivery answers when it is done.
const ANSWER_TIMEOUT: Duration = Duration::from_mins(10);

/// The largest response that is kept in memory.
const ANSWER_BYTES_MAX: usize = 16 << 20;

/// An open connection.
pub(super) struct Connection {
    sender: http1::SendRequest<Full<Bytes>>,
    /// Moves the bytes of the connection while it is polled. `None` once it has ended.
    driver: Option<Pin<Box<dyn Future<Output = ()>>>>,
    place: String,
    authorization: Option<HeaderValue>,
}

impl Connection {
    /// Connects to the place that flags or variables name.
    pub(super) async fn open(given: &AdminPlace) -> Result<Self, Failure> {
        let named = given.place.clone().or_else(|| text_of("HOIST_ADMIN"));
        let place = named.ok_or_else(|| {
            let next = "which server? give its admin listener with --admin unix:PATH or --admin HOST:PORT, or set HOIST_ADMIN";
            Failure::message(Exit::Usage, next)
        })?;
        let token_file =
            given.token_file.clone().or_else(|| text_of("HOIST_ADMIN_TOKEN_FILE").map(Into::into));
        let authorization = token_file.as_deref().map(authorization).transpose()?;
        let (sender, driver) = match parsed(&place)? {
            ListenAt::Unix(path) => handshake(connected(&place, UnixStream::connect(path)).await?).await?,
            ListenAt::Address(mut address) => {
                // As in the variable of a server that listens on all addresses.
                if address.ip().is_unspecified() {
                    let is_v4 = address.is_ipv4();
                    address.set_ip(if is_v4 {
                        [127, 0, 0, 1].into()
                    } else {
                        std::net::Ipv6Addr::LOCALHOST.into()
                    });
                }
                handshake(connected(&place, TcpStream::connect(address)).await?).await?
            }
            ListenAt::Host(name, port) => {
                handshake(connected(&place, TcpStream::connect((name, port))).await?).await?
            }
        };
        Ok(Self { sender, driver: Some(driver), place, authorization })
    }

    /// Sends a request and returns its JSON; `Null` if the response has no content.
    pub(super) async fn request(&mut self, method: Method, path: &str) -> Result<Value, Failure> {
        self.request_with(method, path, None).await
    }

    /// Sends a request with a JSON document.
    pub(super) async fn request_with(
        &mut self,
        method: Method,
        path: &str,
        document: Option<&Value>,
    ) -> Result<Value, Failure> {
        let response = self.send(method, path, document).await?;
        let content = self.content(response).await?;
        if content.is_empty() {
            return Ok(Value::Null);
        }
        serde_json::from_slice(&content).map_err(|_| self.strange("it answers with something else than JSON"))
    }

    /// Sends a request and returns its response, whose content is read by [`next`](Self::next).
    pub(super) async fn send(
        &mut self,
        method: Method,
        path: &str,
        document: Option<&Value>,
    ) -> Result<Response<Incoming>, Failure> {
        let is_of_upload = path.starts_with("/v1/uploads/");
        let mut request = Request::builder().method(method).uri(path).header(header::HOST, "admin");
        if let Some(authorization) = &self.authorization {
            request = request.header(header::AUTHORIZATION, authorization);
        }
        let body = match document {
            None => Bytes::new(),
            Some(document) => {
                request = request.header(header::CONTENT_TYPE, "application/json");
                document.to_string().into()
            }
        };
        let request = request.body(Full::new(body)).context("building a request")?;
        let sending = self.sender.send_request(request);
        let answered = tokio::time::timeout(ANSWER_TIMEOUT, driven(&mut self.driver, sending)).await;
        let response = match answered {
            Ok(Ok(response)) => response,
            Ok(Err(error)) => return Err(self.lost(&error)),
            Err(_) => return Err(self.strange("it does not answer")),
        };
        if response.status().is_success() {
            return Ok(response);
        }
        let (head, is_authorized) = (response.status(), self.authorization.is_some());
        if head == StatusCode::NOT_FOUND && !is_of_upload {
            return Err(self.strange("it has no such path"));
        }
        let content = self.content(response).await.unwrap_or_default();
        let problem: Value = serde_json::from_slice(&content).unwrap_or_default();
        Err(refused(head, &problem, is_authorized, &self.place))
    }

    /// Returns the next piece of content of a response; `None` at its end.
    pub(super) async fn next(&mut self, response: &mut Response<Incoming>) -> Result<Option<Bytes>, Failure> {
        while let Some(frame) = driven(&mut self.driver, response.body_mut().frame()).await {
            let frame = frame.map_err(|error| self.lost(&error))?;
            if let Ok(data) = frame.into_data() {
                return Ok(Some(data));
            }
        }
        Ok(None)
    }

    async fn content(&mut self, response: Response<Incoming>) -> Result<Bytes, Failure> {
        let content = Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect();
        let collected = driven(&mut self.driver, content).await;
        collected.map(Collected::to_bytes).map_err(|error| self.lost(&*error))
    }

    fn lost(&self, error: &dyn std::error::Error) -> Failure {
        let text = format!(
            "the connection to the admin listener at {} broke: {error}; is it one of hoist?",
            self.place
        );
        Failure::message(Exit::Unreachable, text)
    }

    fn strange(&self, what: &str) -> Failure {
        Failure::message(
            Exit::Refused,
            format_args!("{} is no admin listener of hoist, or of another version: {what}", self.place),
        )
    }
}

/// Returns the failure that a problem document tells.
fn refused(status: StatusCode, problem: &Value, is_authorized: bool, place: &str) -> Failure {
    let exit = match status {
        StatusCode::NOT_FOUND => Exit::NotFound,
        StatusCode::SERVICE_UNAVAILABLE | StatusCode::INTERNAL_SERVER_ERROR => Exit::Failed,
        _ => Exit::Refused,
    };
    let next = match (status, is_authorized) {
        (StatusCode::UNAUTHORIZED, false) => "; give the file of a token with --admin-token-file",
        (StatusCode::UNAUTHORIZED, true) => "; give a file with a valid token with --admin-token-file",
        _ => "",
    };
    let Some(detail) = problem["detail"].as_str() else {
        let text = format!(
            "{place} answers {status}, and is no admin listener of hoist; see --admin of `hoist serve`"
        );
        return Failure::message(exit, text);
    };
    let detail = if status == StatusCode::UNAUTHORIZED { "the server wants a valid token" } else { detail };
    let problems = problem["problems"].as_array().map(Vec::as_slice).unwrap_or_default();
    let texts: Vec<_> = [detail].into_iter().chain(problems.iter().filter_map(Value::as_str)).collect();
    Failure::message(exit, format_args!("{}{next}", texts.join("; ")))
}

type Handshake = (http1::SendRequest<Full<Bytes>>, Pin<Box<dyn Future<Output = ()>>>);

async fn handshake(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
) -> Result<Handshake, Failure> {
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.context("starting HTTP")?;
    // Its errors are those of the requests too.
    Ok((sender, Box::pin(async move { drop(connection.await) })))
}

async fn connected<T>(
    place: &str,
    connecting: impl Future<Output = std::io::Result<T>>,
) -> Result<T, Failure> {
    let failed = |why: String| {
        let text = format!(
            "cannot connect to the admin listener at {place}: {why}; does the server run with this --admin?"
        );
        Failure::message(Exit::Unreachable, text)
    };
    match tokio::time::timeout(CONNECT_TIMEOUT, connecting).await {
        Ok(connected) => connected.map_err(|error| failed(error.to_string())),
        Err(_) => Err(failed(format!("no answer in {} s", CONNECT_TIMEOUT.as_secs()))),
    }
}

/// Waits for a future while the connection moves its bytes.
async fn driven<T>(
    driver: &mut Option<Pin<Box<dyn Future<Output = ()>>>>,
    work: impl Future<Output = T>,
) -> T {
    let mut work = std::pin::pin!(work);
    if let Some(running) = driver {
        tokio::select! {
            biased;
            done = &mut work => return done,
            () = running => *driver = None,
        }
    }
    work.await
}

fn parsed(place: &str) -> Result<ListenAt, Failure> {
    let rest = place.strip_prefix("http://").unwrap_or(place).trim_end_matches('/');
    if place.starts_with("https://") {
        let next = "the admin listener serves no TLS; use its unix socket or a tunnel, such as `ssh -L`";
        return Err(Failure::message(Exit::Usage, next));
    }
    rest.parse().map_err(|wrong| Failure::message(Exit::Usage, format_args!("--admin: `{place}` {wrong}")))
}

fn text_of(variable: &str) -> Option<String> {
    config::variable(variable).map(|text| text.to_string_lossy().into_owned()).filter(|text| !text.is_empty())
}

/// Returns the credentials: the first token in a file, in the format of the server's.
fn authorization(file: &Path) -> Result<HeaderValue, Failure> {
    let failed = |why: &str| {
        let file = file.display();
        Failure::message(Exit::File, format_args!("--admin-token-file: {file}: {why}"))
    };
    let text = std::fs::read_to_string(file).map_err(|error| failed(&error.to_string()))?;
    let mut tokens = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    let token = tokens.next().ok_or_else(|| failed("it has no token; put one on a line"))?;
    let value = HeaderValue::from_str(&format!("Bearer {token}"));
    let mut value = value.map_err(|_| failed("a token has visible ASCII characters only"))?;
    value.set_sensitive(true);
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_that_of_the_server_or_a_url() {
        for (text, expected) in [
            ("unix:/run/hoist/admin", "unix:/run/hoist/admin"),
            ("127.0.0.1:9090", "127.0.0.1:9090"),
            ("http://127.0.0.1:9090/", "127.0.0.1:9090"),
            ("http://localhost:9090", "localhost:9090"),
        ] {
            assert_eq!(parsed(text).expect("a place"), expected.parse().expect("a place"), "{text}");
        }
        for text in ["https://localhost:9090", "9090", "/run/hoist/admin", "http://"] {
            assert_eq!(parsed(text).expect_err("no place").exit, Exit::Usage, "{text}");
        }
    }

    #[test]
    fn a_problem_becomes_one_line_with_the_next_step() {
        let problem = |detail: &str| serde_json::json!({ "detail": detail });
        for (status, problem, exit, expected) in [
            (
                401,
                problem("?"),
                Exit::Refused,
                "the server wants a valid token; give the file of a token with --admin-token-file",
            ),
            (404, problem("there is no such upload"), Exit::NotFound, "there is no such upload"),
            (409, serde_json::json!({ "detail": "a", "problems": ["b", "c"] }), Exit::Refused, "a; b; c"),
            (
                503,
                problem("another sweep is running; try again"),
                Exit::Failed,
                "another sweep is running; try again",
            ),
        ] {
            let status = StatusCode::from_u16(status).expect("a status");
            let failure = refused(status, &problem, false, "unix:x");
            assert_eq!((failure.exit, failure.to_string().as_str()), (exit, expected));
        }
        let strange = refused(StatusCode::NOT_FOUND, &Value::Null, false, "localhost:80");
        assert!(strange.to_string().contains("is no admin listener of hoist"), "{strange}");
    }
}
