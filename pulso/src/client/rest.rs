//! The REST client: one request, its problem details turned into an exit code, and lists read page by page.

use std::time::Duration;

use reqwest::{Method, StatusCode};
use serde_json::Value;

use crate::cli::exit::{Exit, Failure};

/// A read may wait for `wait_for` on the server; beyond this it is not coming.
const ANSWER_WAIT_MAX: Duration = Duration::from_secs(120);
/// A server on the same network answers a connection at once or not at all.
const CONNECT_WAIT_MAX: Duration = Duration::from_secs(5);
/// The largest page that the API gives.
const PAGE_SIZE_MAX: usize = 1000;

/// A connection to the API.
#[derive(Clone, Debug)]
pub struct Rest {
    http: reqwest::Client,
    address: String,
}

/// A query: names and values, to be escaped.
pub type Query = Vec<(&'static str, String)>;

impl Rest {
    /// Prepares a client; nothing is sent yet.
    ///
    /// # Errors
    /// When the HTTP client cannot be made.
    pub fn new(address: &str) -> Result<Self, Failure> {
        let http = reqwest::Client::builder()
            .connect_timeout(CONNECT_WAIT_MAX)
            .timeout(ANSWER_WAIT_MAX)
            .no_proxy()
            .build()
            .map_err(|error| Failure::failed(format!("cannot make an HTTP client: {error}")))?;
        Ok(Self { http, address: address.to_owned() })
    }

    /// Reads one document.
    ///
    /// # Errors
    /// [`Exit::Unavailable`] when the server is not there, else by the status of its answer.
    pub async fn get(&self, path: &str, query: &Query) -> Result<Value, Failure> {
        let request = self.http.request(Method::GET, self.url(path)?).query(query);
        self.answer(request).await
    }

    /// Sends a document with its content type and reads the answer.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub async fn post(&self, path: &str, query: &Query, body: Body) -> Result<Value, Failure> {
        let request = self
            .http
            .request(Method::POST, self.url(path)?)
            .query(query)
            .header(reqwest::header::CONTENT_TYPE, body.content_type)
            .body(body.bytes);
        self.answer(request).await
    }

    /// Reads a list to its end, or until it has `limit` entries; the document is that of the first page with the whole
    /// list in it.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub async fn list(&self, path: &str, query: &Query, list: ListOf) -> Result<Value, Failure> {
        let mut query = query.clone();
        query.push(("page_size", list.limit.clamp(1, PAGE_SIZE_MAX).to_string()));
        let mut document = self.get(path, &query).await?;
        let mut entries = take_entries(&mut document, list.name);
        let mut token = next_page_token(&document);
        while let Some(page_token) = token.filter(|_| entries.len() < list.limit) {
            let mut next = query.clone();
            next.push(("page_token", page_token));
            let mut page = self.get(path, &next).await?;
            entries.extend(take_entries(&mut page, list.name));
            token = next_page_token(&page);
        }
        entries.truncate(list.limit);
        if let Some(object) = document.as_object_mut() {
            object.remove("next_page_token");
            object.insert(list.name.to_owned(), Value::Array(entries));
        }
        Ok(document)
    }

    fn url(&self, path: &str) -> Result<reqwest::Url, Failure> {
        reqwest::Url::parse(&format!("http://{}{path}", self.address))
            .map_err(|error| Failure::usage(format!("--api {} is no HOST:PORT: {error}", self.address)))
    }

    async fn answer(&self, request: reqwest::RequestBuilder) -> Result<Value, Failure> {
        let answer = request.send().await.map_err(|error| self.not_there(&error))?;
        let status = answer.status();
        let bytes = answer.bytes().await.map_err(|error| self.not_there(&error))?;
        if !status.is_success() {
            return Err(problem(status, &bytes));
        }
        serde_json::from_slice(&bytes)
            .map_err(|error| Failure::failed(format!("{} did not answer JSON: {error}", self.address)))
    }

    fn not_there(&self, error: &reqwest::Error) -> Failure {
        let cause = root_cause(error);
        Failure::unavailable(format!(
            "no server answers at {} ({cause}); start one or set --api",
            self.address
        ))
    }
}

/// How long a server that asks for patience gets it.
const PATIENCE: Duration = Duration::from_secs(60);
const PATIENCE_STEP: Duration = Duration::from_millis(100);

/// Does a request again while the server answers that it cannot yet: it is starting, or has much to catch up on.
///
/// # Errors
/// The last failure.
pub async fn patiently<T>(request: impl AsyncFn() -> Result<T, Failure>) -> Result<T, Failure> {
    let began = tokio::time::Instant::now();
    loop {
        match request().await {
            Err(failure) if failure.is_retryable() && began.elapsed() < PATIENCE => {
                tokio::time::sleep(PATIENCE_STEP).await;
            }
            done => return done,
        }
    }
}

/// What is sent, and as what.
#[derive(Clone, Debug)]
pub struct Body {
    /// The media type.
    pub content_type: &'static str,
    /// The document.
    pub bytes: Vec<u8>,
}

/// Which list of the answer, and how many entries at most.
#[derive(Clone, Copy, Debug)]
pub struct ListOf {
    /// The name of the list in the answer.
    pub name: &'static str,
    /// Most entries wanted.
    pub limit: usize,
}

impl ListOf {
    /// All entries of the list of this name.
    #[must_use]
    pub const fn all(name: &'static str) -> Self {
        Self { name, limit: usize::MAX }
    }
}

/// The entries of a list in a document; empty when there is none.
#[must_use]
pub fn entries<'a>(document: &'a Value, name: &str) -> &'a [Value] {
    document.get(name).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// Escapes a part of a path, such as a tenant id or the id of a pulse.
#[must_use]
pub fn path_part(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~') {
            escaped.push(char::from(byte));
        } else {
            escaped.push_str(&format!("%{byte:02X}"));
        }
    }
    escaped
}

fn take_entries(document: &mut Value, name: &str) -> Vec<Value> {
    match document.get_mut(name).map(Value::take) {
        Some(Value::Array(entries)) => entries,
        _ => Vec::new(),
    }
}

fn next_page_token(document: &Value) -> Option<String> {
    let token = document.get("next_page_token")?.as_str()?;
    (!token.is_empty()).then(|| token.to_owned())
}

/// Turns problem details (RFC 9457) into a failure; the exit code follows the status.
fn problem(status: StatusCode, bytes: &[u8]) -> Failure {
    let details: Value = serde_json::from_slice(bytes).unwrap_or_default();
    let text = |name: &str| details.get(name).and_then(Value::as_str);
    let code = text("code").map_or_else(|| status.as_u16().to_string(), str::to_owned);
    let what = text("detail").or_else(|| text("title")).or_else(|| status.canonical_reason());
    let field = text("field").map_or_else(String::new, |field| format!("{field}: "));
    let mut sentence = format!("{code}: {field}{}", what.unwrap_or("the server refused"));
    for error in entries(&details, "errors") {
        let part = |name: &str| error.get(name).and_then(Value::as_str).unwrap_or_default();
        let line = error.get("line").and_then(Value::as_u64);
        let line = line.map_or_else(String::new, |line| format!(" (line {line})"));
        sentence.push_str(&format!("\n  {}{line}: {}", part("pointer"), part("detail")));
    }
    let exit = match status.as_u16() {
        404 => Exit::NotFound,
        400 | 413 | 415 | 422 => Exit::Usage,
        429 | 502..=504 => Exit::Unavailable,
        _ => Exit::Failed,
    };
    Failure { exit, sentence, try_again: exit == Exit::Unavailable }
}

fn root_cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn problem_details_become_a_sentence_with_its_code_and_places() {
        let body = br#"{"code":"INVALID_CATALOG","detail":"the catalog is wrong",
            "errors":[{"pointer":"/skus/0","line":7,"detail":"no unit"},{"pointer":"/skus/1","detail":"no unit"}]}"#;
        let failure = problem(StatusCode::UNPROCESSABLE_ENTITY, body);
        assert_eq!(failure.exit, Exit::Usage);
        assert_eq!(
            failure.sentence,
            "INVALID_CATALOG: the catalog is wrong\n  /skus/0 (line 7): no unit\n  /skus/1: no unit"
        );
        let body = br#"{"code":"INVALID_PARAMETER","field":"from","detail":"write RFC 3339"}"#;
        assert_eq!(
            problem(StatusCode::BAD_REQUEST, body).sentence,
            "INVALID_PARAMETER: from: write RFC 3339"
        );
        assert_eq!(problem(StatusCode::NOT_FOUND, b"{}").exit, Exit::NotFound);
        let later = problem(StatusCode::SERVICE_UNAVAILABLE, b"not json");
        assert!(later.exit == Exit::Unavailable && later.is_retryable());
        assert!(!Failure::unavailable("nobody listens").is_retryable());
    }

    #[test]
    fn a_part_of_a_path_cannot_leave_its_place() {
        assert_eq!(path_part("a/../b ç"), "a%2F..%2Fb%20%C3%A7");
    }
}
