//! A client of the daemon: requests over its Unix socket.

use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use std::path::{Path, PathBuf};
use tokio::net::UnixStream;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody listens there.
    #[error("no daemon answers on {0} ({1}): start one with `gridlive daemon CONFIG`")]
    Unreachable(PathBuf, std::io::Error),
    /// The connection broke.
    #[error("the daemon went away: {0}")]
    Broken(String),
    /// The daemon says no.
    #[error("{1}")]
    Refused(StatusCode, String),
}

impl ClientError {
    /// Returns the exit code that scripts may rely on (NAMES.md).
    #[must_use]
    pub fn code(&self) -> u8 {
        match self {
            Self::Unreachable(..) => 3,
            Self::Broken(_) => 1,
            Self::Refused(status, _) => match *status {
                StatusCode::NOT_FOUND => 4,
                StatusCode::CONFLICT | StatusCode::INSUFFICIENT_STORAGE => 5,
                StatusCode::GATEWAY_TIMEOUT => 6,
                StatusCode::FORBIDDEN => 7,
                _ => 1,
            },
        }
    }
}

/// A client of the daemon behind a socket.
#[derive(Clone, Debug)]
pub struct Client {
    socket: PathBuf,
}

/// A part of what a job printed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogPart {
    /// The bytes.
    pub bytes: Vec<u8>,
    /// Whether nothing more will come.
    pub over: bool,
}

impl Client {
    /// Makes a client of the daemon behind a socket.
    #[must_use]
    pub fn new(socket: &Path) -> Self {
        Self { socket: socket.to_owned() }
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        body: Vec<u8>,
    ) -> Result<Response<Incoming>, ClientError> {
        let stream = UnixStream::connect(&self.socket).await;
        let stream = stream.map_err(|e| ClientError::Unreachable(self.socket.clone(), e))?;
        let broken = |e: hyper::Error| ClientError::Broken(e.to_string());
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
        tokio::spawn(connection);
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", "gridlive")
            .header("content-type", "application/json")
            .body(Full::new(Bytes::from(body)));
        let request = request.map_err(|e| ClientError::Broken(e.to_string()))?;
        let response = sender.send_request(request).await.map_err(broken)?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let bytes = response.into_body().collect().await.map_err(broken)?.to_bytes();
        let said: Value = serde_json::from_slice(&bytes).unwrap_or_default();
        let what = said["error"]
            .as_str()
            .map_or_else(|| String::from_utf8_lossy(&bytes).into_owned(), ToOwned::to_owned);
        Err(ClientError::Refused(status, what))
    }

    async fn json(&self, method: Method, path: &str, body: Vec<u8>) -> Result<Value, ClientError> {
        let response = self.send(method, path, body).await?;
        let broken = |e: String| ClientError::Broken(e);
        let bytes = response.into_body().collect().await.map_err(|e| broken(e.to_string()))?;
        serde_json::from_slice(&bytes.to_bytes()).map_err(|e| broken(e.to_string()))
    }

    /// Asks for something that changes nothing.
    ///
    /// # Errors
    /// When there is no answer, or it is a refusal.
    pub async fn get(&self, path: &str) -> Result<Value, ClientError> {
        self.json(Method::GET, path, Vec::new()).await
    }

    /// Asks for a change.
    ///
    /// # Errors
    /// When there is no answer, or it is a refusal.
    pub async fn post(&self, path: &str, body: &Value) -> Result<Value, ClientError> {
        self.json(Method::POST, path, body.to_string().into_bytes()).await
    }

    /// Sends bytes.
    ///
    /// # Errors
    /// When there is no answer, or it is a refusal.
    pub async fn put(&self, path: &str, bytes: &[u8]) -> Result<Value, ClientError> {
        self.json(Method::POST, path, bytes.to_vec()).await
    }

    /// Takes something away.
    ///
    /// # Errors
    /// When there is no answer, or it is a refusal.
    pub async fn delete(&self, path: &str) -> Result<Value, ClientError> {
        self.json(Method::DELETE, path, Vec::new()).await
    }

    /// Asks for text.
    ///
    /// # Errors
    /// When there is no answer, or it is a refusal.
    pub async fn text(&self, path: &str) -> Result<String, ClientError> {
        let body = self.send(Method::GET, path, Vec::new()).await?.into_body().collect().await;
        let bytes = body.map_err(|e| ClientError::Broken(e.to_string()))?.to_bytes();
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// Reads a part of what a job printed.
    ///
    /// # Errors
    /// When there is no answer, or it is a refusal.
    pub async fn log(&self, path: &str) -> Result<LogPart, ClientError> {
        let response = self.send(Method::GET, path, Vec::new()).await?;
        let over = response.headers().get("x-grid-over").is_some_and(|over| over == "1");
        let bytes = response.into_body().collect().await;
        let bytes = bytes.map_err(|e| ClientError::Broken(e.to_string()))?.to_bytes();
        Ok(LogPart { bytes: bytes.to_vec(), over })
    }

    /// Hands every event to `each` from now on, as long as the daemon is there.
    ///
    /// # Errors
    /// When there is no answer.
    pub async fn events(&self, mut each: impl FnMut(&str)) -> Result<(), ClientError> {
        let mut body = self.send(Method::GET, "/v1/events", Vec::new()).await?.into_body();
        let mut text = String::new();
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|e| ClientError::Broken(e.to_string()))?;
            let Ok(bytes) = frame.into_data() else { continue };
            text.push_str(&String::from_utf8_lossy(&bytes));
            while let Some((line, rest)) = text.split_once('\n') {
                if let Some(event) = line.strip_prefix("data:") {
                    each(event.trim());
                }
                text = rest.to_owned();
            }
        }
        Ok(())
    }
}
