//! A client of the daemon: requests over its Unix socket, or over TLS from another machine.

pub mod types;

use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};
use types::{
    Allocation, Job, Jobs, Nodes, ResourceRequest, Status, Submission, Submitted, TaskRequest, Word,
};

/// How long another machine may take to answer at all.
const CONNECTS: Duration = Duration::from_secs(10);

/// How often a request is made that comes too soon, once a second.
const TURNS_MAX: u32 = 300;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody listens there.
    #[error("no daemon answers on {0} ({1}): start one with `gridlive daemon CONFIG`")]
    Unreachable(String, std::io::Error),
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
                StatusCode::CONFLICT
                | StatusCode::INSUFFICIENT_STORAGE
                | StatusCode::TOO_MANY_REQUESTS => 5,
                StatusCode::GATEWAY_TIMEOUT => 6,
                StatusCode::FORBIDDEN => 7,
                _ => 1,
            },
        }
    }
}

/// A client of a daemon.
#[derive(Clone, Debug)]
pub struct Client(To);

/// The way to a daemon.
#[derive(Clone, Debug)]
enum To {
    Socket(PathBuf),
    Tls(Arc<Server>),
}

/// A daemon on another machine.
struct Server {
    host: String,
    port: u16,
    name: ServerName<'static>,
    tls: TlsConnector,
    token: String,
}

/// Without its token.
impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "https://{}:{}", self.host, self.port)
    }
}

/// A connection of either kind.
trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

impl To {
    async fn connect(&self) -> std::io::Result<Box<dyn Stream>> {
        match self {
            Self::Socket(path) => Ok(Box::new(UnixStream::connect(path).await?)),
            Self::Tls(server) => {
                let place = (server.host.as_str(), server.port);
                let stream = timeout(CONNECTS, TcpStream::connect(place)).await;
                let stream = stream.map_err(|_| std::io::ErrorKind::TimedOut)??;
                let stream = timeout(CONNECTS, server.tls.connect(server.name.clone(), stream));
                Ok(Box::new(stream.await.map_err(|_| std::io::ErrorKind::TimedOut)??))
            }
        }
    }

    fn name(&self) -> String {
        match self {
            Self::Socket(path) => path.display().to_string(),
            Self::Tls(server) => format!("{server:?}"),
        }
    }
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
        Self(To::Socket(socket.to_owned()))
    }

    /// Makes a client of a daemon on another machine: `https://HOST:PORT`, whose certificate is
    /// one of those in a file, or signed by one.
    ///
    /// # Errors
    /// When the address is none, or the file holds no certificate.
    pub fn of_server(url: &str, authority: &Path, token: &str) -> Result<Self, String> {
        let wrong = || format!("{url:?} is no server: write https://HOST:PORT");
        let place = url.strip_prefix("https://").map(|rest| rest.trim_end_matches('/'));
        let (host, port) = place.and_then(|place| place.rsplit_once(':')).ok_or_else(wrong)?;
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let name = ServerName::try_from(host.clone()).map_err(|_| wrong())?;
        let port = port.parse().map_err(|_| wrong())?;
        let none = |why: &dyn std::fmt::Display| {
            format!("{} holds no certificate ({why}): copy the server's", authority.display())
        };
        let mut roots = RootCertStore::empty();
        for found in CertificateDer::pem_file_iter(authority).map_err(|e| none(&e))? {
            roots.add(found.map_err(|e| none(&e))?).map_err(|e| none(&e))?;
        }
        if roots.is_empty() {
            return Err(none(&"it is empty"));
        }
        let config = ClientConfig::builder().with_root_certificates(roots);
        let tls = TlsConnector::from(Arc::new(config.with_no_client_auth()));
        let token = token.trim().to_owned();
        Ok(Self(To::Tls(Arc::new(Server { host, port, name, tls, token }))))
    }

    /// Asks, and asks again where the daemon says that the account asks too often.
    async fn send(
        &self,
        method: Method,
        path: &str,
        body: Vec<u8>,
    ) -> Result<Response<Incoming>, ClientError> {
        for _ in 0..TURNS_MAX {
            let answer = self.send_once(method.clone(), path, body.clone()).await;
            let early = StatusCode::TOO_MANY_REQUESTS;
            if !matches!(&answer, Err(ClientError::Refused(status, _)) if *status == early) {
                return answer;
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        self.send_once(method, path, body).await
    }

    async fn send_once(
        &self,
        method: Method,
        path: &str,
        body: Vec<u8>,
    ) -> Result<Response<Incoming>, ClientError> {
        let stream = self.0.connect().await;
        let stream = stream.map_err(|e| ClientError::Unreachable(self.0.name(), e))?;
        let broken = |e: hyper::Error| ClientError::Broken(e.to_string());
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
        tokio::spawn(connection);
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", "gridlive")
            .header("content-type", "application/json");
        if let To::Tls(server) = &self.0 {
            request = request.header("authorization", format!("Bearer {}", server.token));
        }
        let request = request.body(Full::new(Bytes::from(body)));
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

    async fn typed<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        let found = self.get(path).await?;
        serde_json::from_value(found).map_err(|e| ClientError::Broken(e.to_string()))
    }

    /// Posts one type and takes another back.
    async fn exchange<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, ClientError> {
        let broken = |e: serde_json::Error| ClientError::Broken(e.to_string());
        let body = serde_json::to_value(body).map_err(broken)?;
        serde_json::from_value(self.post(path, &body).await?).map_err(broken)
    }

    /// Submits a job, or an array; its program comes with it.
    ///
    /// # Errors
    /// When there is no answer, or none of it was accepted.
    pub async fn submit(&self, submission: &Submission) -> Result<Submitted, ClientError> {
        self.exchange("/v1/jobs", submission).await
    }

    /// Takes capacity of one kind without running anything; it may have to wait for it.
    ///
    /// # Errors
    /// When there is no answer, or it is refused.
    pub async fn request_resources(
        &self,
        request: &ResourceRequest,
    ) -> Result<Allocation, ClientError> {
        self.exchange("/v1/allocations", request).await
    }

    /// Gives capacity back that was taken without a command.
    ///
    /// # Errors
    /// When there is no answer, or it is a job that runs something.
    pub async fn release_resources(&self, allocation: u64) -> Result<(), ClientError> {
        self.delete(&format!("/v1/allocations/{allocation}")).await.map(drop)
    }

    /// Takes what a task needs that somebody runs himself; it may have to wait for it.
    ///
    /// # Errors
    /// When there is no answer, or it is refused.
    pub async fn schedule_task(&self, request: &TaskRequest) -> Result<Allocation, ClientError> {
        self.exchange("/v1/tasks", request).await
    }

    /// Says that such a task is done: what it held is free.
    ///
    /// # Errors
    /// When there is no answer, or it is a job that runs something.
    pub async fn complete_task(&self, task: u64) -> Result<(), ClientError> {
        self.post(&format!("/v1/tasks/{task}/complete"), &Value::Null).await.map(drop)
    }

    /// Looks at a job.
    ///
    /// # Errors
    /// When there is no answer, or no such job.
    pub async fn job(&self, job: u64) -> Result<Job, ClientError> {
        self.typed(&format!("/v1/jobs/{job}")).await
    }

    /// Waits until a job has ended.
    ///
    /// # Errors
    /// When there is no answer, or no such job.
    pub async fn wait(&self, job: u64) -> Result<Job, ClientError> {
        loop {
            let found: Job = self.typed(&format!("/v1/jobs/{job}/wait")).await?;
            if found.finished.is_some() {
                return Ok(found);
            }
        }
    }

    /// Says a word about a job.
    ///
    /// # Errors
    /// When there is no answer, or it is a refusal.
    pub async fn tell(&self, job: u64, word: Word) -> Result<(), ClientError> {
        let path = format!("/v1/jobs/{job}/{}", word.name());
        self.post(&path, &Value::Null).await.map(drop)
    }

    /// Takes a job back, waiting or running.
    ///
    /// # Errors
    /// When there is no answer, or it is a refusal.
    pub async fn cancel(&self, job: u64) -> Result<(), ClientError> {
        self.delete(&format!("/v1/jobs/{job}")).await.map(drop)
    }

    /// Lists the jobs that wait or run.
    ///
    /// # Errors
    /// When there is no answer.
    pub async fn queue(&self, most: usize) -> Result<Jobs, ClientError> {
        self.typed(&format!("/v1/jobs?most={most}")).await
    }

    /// Lists the jobs that have ended, the newest first.
    ///
    /// # Errors
    /// When there is no answer.
    pub async fn history(&self, most: usize) -> Result<Jobs, ClientError> {
        self.typed(&format!("/v1/history?most={most}")).await
    }

    /// Looks at the cluster.
    ///
    /// # Errors
    /// When there is no answer.
    pub async fn status(&self) -> Result<Status, ClientError> {
        self.typed("/v1/status").await
    }

    /// Lists the nodes.
    ///
    /// # Errors
    /// When there is no answer.
    pub async fn nodes(&self) -> Result<Nodes, ClientError> {
        self.typed("/v1/nodes").await
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

    /// Hands the last events and every one from now on to `each`, as long as the daemon is there.
    ///
    /// # Errors
    /// When there is no answer.
    pub async fn events(&self, mut each: impl FnMut(&str)) -> Result<(), ClientError> {
        let mut body =
            self.send(Method::GET, "/v1/events?recent=true", Vec::new()).await?.into_body();
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
