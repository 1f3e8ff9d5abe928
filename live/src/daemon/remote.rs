//! Requests from other machines: over TCP, always with TLS and a token.
//!
//! A token stands for a user of this machine. It is shown once, when it is made; the daemon's
//! folder holds its SHA-256 only, which is enough for 256 random bits.

use crate::program::write_whole;
use anyhow::Context;
use axum::serve::Listener;
use rcgen::{CertifiedKey, generate_simple_self_signed};
use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context as Waker, Poll};
use std::time::Duration;
use subtle::ConstantTimeEq;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::Sleep;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::server::TlsStream;

/// Most connections at once.
const CONNECTIONS_MAX: usize = 512;
/// How long somebody may take to say hello, and then to show a token.
const GREETS: Duration = Duration::from_secs(10);
/// Most tokens.
const TOKENS_MAX: usize = 10_000;

/// Where requests of other machines are taken, and as whom.
#[derive(Clone, Debug)]
pub struct Remote {
    /// The address.
    pub listen: SocketAddr,
    /// The certificate and its key, as PEM; without them one of its own is made.
    pub tls: Option<(PathBuf, PathBuf)>,
}

/// A connection from another machine; it counts while it is there.
pub struct Guest {
    stream: TlsStream<TcpStream>,
    known: Arc<AtomicBool>,
    /// Until when it must have shown a token.
    until: Pin<Box<Sleep>>,
    _place: OwnedSemaphorePermit,
}

impl AsyncRead for Guest {
    fn poll_read(
        mut self: Pin<&mut Self>,
        waker: &mut Waker<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.known.load(Ordering::Relaxed) && self.until.as_mut().poll(waker).is_ready() {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        Pin::new(&mut self.stream).poll_read(waker, buffer)
    }
}

impl Guest {
    /// Returns what says that it has shown a token that is known: from then on it may stay.
    #[must_use]
    pub fn known(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.known)
    }
}

impl AsyncWrite for Guest {
    fn poll_write(
        mut self: Pin<&mut Self>,
        waker: &mut Waker<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(waker, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, waker: &mut Waker<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(waker)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, waker: &mut Waker<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(waker)
    }
}

/// Connections whose hello is done: a slow one keeps no other waiting.
pub struct Guests {
    ready: mpsc::Receiver<(Guest, SocketAddr)>,
    here: SocketAddr,
}

impl Listener for Guests {
    type Io = Guest;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Guest, SocketAddr) {
        match self.ready.recv().await {
            Some(guest) => guest,
            None => std::future::pending().await,
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.here)
    }
}

impl Remote {
    /// Listens; a certificate that nobody gave is made once, beside the journal.
    ///
    /// # Errors
    /// When the address or the certificate cannot be used.
    pub async fn listen(&self, state: &Path) -> anyhow::Result<Guests> {
        let (cert, key) = match &self.tls {
            Some((cert, key)) => (cert.clone(), key.clone()),
            None => make_certificate(state, self.listen)?,
        };
        let chain = CertificateDer::pem_file_iter(&cert)
            .and_then(Iterator::collect::<Result<Vec<_>, _>>)
            .with_context(|| format!("{} holds no certificate", cert.display()))?;
        let secret = PrivateKeyDer::from_pem_file(&key)
            .with_context(|| format!("{} holds no key", key.display()))?;
        let config = ServerConfig::builder().with_no_client_auth();
        let config = config.with_single_cert(chain, secret).with_context(|| {
            format!("{} and {} do not belong together", cert.display(), key.display())
        })?;
        let tcp = TcpListener::bind(self.listen).await;
        let tcp = tcp.with_context(|| format!("cannot listen on {}", self.listen))?;
        let here = tcp.local_addr()?;
        let (send, ready) = mpsc::channel(16);
        tokio::spawn(greet(tcp, TlsAcceptor::from(Arc::new(config)), send));
        Ok(Guests { ready, here })
    }
}

/// Lets connections in, as many as there is room for.
async fn greet(tcp: TcpListener, tls: TlsAcceptor, ready: mpsc::Sender<(Guest, SocketAddr)>) {
    let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let Ok(place) = Arc::clone(&room).acquire_owned().await else { return };
        let Ok((stream, from)) = tcp.accept().await else {
            // Too many descriptors, say: it passes.
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let (tls, ready) = (tls.clone(), ready.clone());
        tokio::spawn(async move {
            if let Ok(Ok(stream)) = tokio::time::timeout(GREETS, tls.accept(stream)).await {
                let (known, until) = (Arc::default(), Box::pin(tokio::time::sleep(GREETS)));
                let _ = ready.send((Guest { stream, known, until, _place: place }, from)).await;
            }
        });
    }
}

/// Makes a certificate for this machine's names, unless one was made before.
fn make_certificate(state: &Path, listen: SocketAddr) -> anyhow::Result<(PathBuf, PathBuf)> {
    let (cert, key) = (state.join("tls-cert.pem"), state.join("tls-key.pem"));
    if !cert.exists() {
        let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
        let mut names = vec!["localhost".to_owned(), "127.0.0.1".to_owned(), host];
        if !listen.ip().is_unspecified() {
            names.push(listen.ip().to_string());
        }
        let CertifiedKey { cert: made, signing_key } = generate_simple_self_signed(names)?;
        write_whole(&key, signing_key.serialize_pem().as_bytes())?;
        write_whole(&cert, made.pem().as_bytes())?;
    }
    Ok((cert, key))
}

/// The tokens of a daemon's folder: the user and the hash of each, a line each.
#[derive(Clone, Debug)]
pub struct Tokens(PathBuf);

impl Tokens {
    /// Names the tokens of a daemon's folder.
    #[must_use]
    pub fn of(state: &Path) -> Self {
        Self(state.join("tokens"))
    }

    /// Reads them, by a number that stays: a hash, and whose.
    ///
    /// # Errors
    /// When the file cannot be read, or holds something else.
    pub fn all(&self) -> io::Result<BTreeMap<String, String>> {
        let text = match std::fs::read_to_string(&self.0) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            read => read?,
        };
        let line = |line: &str| {
            let (hash, user) = line.split_once(' ')?;
            (hash.len() == 64).then(|| (hash.to_owned(), user.to_owned()))
        };
        let wrong = || io::Error::other(format!("{} is no list of tokens", self.0.display()));
        text.lines().map(|text| line(text).ok_or_else(wrong)).collect()
    }

    /// Makes a token for a user, and returns it: nobody can show it again.
    ///
    /// # Errors
    /// When there are too many, or the disk does not take it.
    pub fn make(&self, user: &str) -> io::Result<String> {
        let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        if user.is_empty() || !user.chars().all(plain) {
            return Err(io::Error::other(format!("{user:?} is no name of a user")));
        }
        let _alone = self.lock()?;
        let mut all = self.all()?;
        if all.len() >= TOKENS_MAX {
            return Err(io::Error::other(format!("there are {TOKENS_MAX} tokens: revoke some")));
        }
        let mut token = String::from("grid_");
        for _ in 0..4 {
            token.push_str(&format!("{:016x}", crate::clock::unique()?));
        }
        all.insert(hash(&token), user.to_owned());
        self.write(&all)?;
        Ok(token)
    }

    /// Takes the tokens of a user back; returns how many.
    ///
    /// # Errors
    /// When the disk does not take it.
    pub fn revoke(&self, user: &str) -> io::Result<usize> {
        let _alone = self.lock()?;
        let mut all = self.all()?;
        let before = all.len();
        all.retain(|_, whose| whose != user);
        self.write(&all)?;
        Ok(before - all.len())
    }

    /// Keeps others from changing the list meanwhile.
    fn lock(&self) -> io::Result<std::fs::File> {
        let mut options = std::fs::File::options();
        let path = self.0.with_extension("lock");
        let file = options.write(true).create(true).truncate(false).mode(0o600).open(path)?;
        rustix::fs::flock(&file, rustix::fs::FlockOperation::LockExclusive)?;
        Ok(file)
    }

    fn write(&self, all: &BTreeMap<String, String>) -> io::Result<()> {
        let lines = all.iter().map(|(hash, user)| format!("{hash} {user}\n"));
        write_whole(&self.0, lines.collect::<String>().as_bytes())
    }

    /// Returns whose a token is. How long it takes says nothing of the tokens there are.
    #[must_use]
    pub fn user(&self, token: &str) -> Option<String> {
        let wanted = hash(token);
        let mut found = None;
        for (hash, user) in self.all().unwrap_or_default() {
            if bool::from(hash.as_bytes().ct_eq(wanted.as_bytes())) {
                found = Some(user);
            }
        }
        found
    }
}

fn hash(token: &str) -> String {
    Sha256::digest(token.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_known_until_they_are_revoked_and_lie_nowhere() {
        let folder = tempfile::tempdir().unwrap();
        let tokens = Tokens::of(folder.path());
        assert_eq!(tokens.user("grid_"), None);
        let (ada, bo) = (tokens.make("ada").unwrap(), tokens.make("bo").unwrap());
        assert_eq!((tokens.user(&ada), tokens.user(&bo)), (Some("ada".into()), Some("bo".into())));
        assert_eq!(tokens.user(&ada[..ada.len() - 1]), None);
        let kept = std::fs::read_to_string(folder.path().join("tokens")).unwrap();
        assert!(!kept.contains(&ada) && kept.contains("ada"));
        assert_eq!(tokens.revoke("ada").unwrap(), 1);
        assert_eq!((tokens.user(&ada), tokens.user(&bo).is_some()), (None, true));
        assert!(tokens.make("a b").is_err() && tokens.make("").is_err());
        std::fs::write(folder.path().join("tokens"), "nonsense\n").unwrap();
        assert!(tokens.make("cy").is_err(), "a damaged list is not written over");
        assert_eq!(tokens.user(&bo), None);
    }
}
