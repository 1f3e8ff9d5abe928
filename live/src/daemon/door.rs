//! The daemon's socket: who may open it, and how many at once.

use super::access::Access;
use anyhow::Context;
use axum::serve::Listener;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context as Waker, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Most connections at once: whoever comes then waits until another goes.
const CONNECTIONS_MAX: usize = 4_096;
/// Most descriptors that are asked for: three a machine, one a connection, and some.
const FILES_MAX: u64 = 65_536;

/// The daemon's socket.
pub struct Door {
    listener: UnixListener,
    room: Arc<Semaphore>,
}

/// A connection of this machine; it counts while it is there.
pub struct Visitor {
    stream: UnixStream,
    _place: OwnedSemaphorePermit,
}

impl Door {
    /// Takes the socket, unless another daemon answers on it.
    ///
    /// # Errors
    /// When it cannot be taken.
    pub fn open(path: &Path, access: &Access) -> anyhow::Result<Self> {
        if let Some(folder) = path.parent() {
            crate::agent::order::make_folder(folder)?;
        }
        if std::os::unix::net::UnixStream::connect(path).is_ok() {
            anyhow::bail!("another daemon answers on {}: stop that one first", path.display());
        }
        let _ = std::fs::remove_file(path);
        let listener = UnixListener::bind(path)
            .with_context(|| format!("cannot listen on {}", path.display()))?;
        let door = Self { listener, room: Arc::new(Semaphore::new(CONNECTIONS_MAX)) };
        let_in(path, access)?;
        Ok(door)
    }
}

/// Lets the daemon's own user come in, or everybody: who is listed nowhere is turned away then.
///
/// # Errors
/// When the socket is not this user's any more.
pub fn let_in(socket: &Path, access: &Access) -> io::Result<()> {
    let mode = if access.is_shared() { 0o666 } else { 0o600 };
    std::fs::set_permissions(socket, std::fs::Permissions::from_mode(mode))
}

/// How many descriptors this process might have before it took more.
static FILES_BEFORE: OnceLock<u64> = OnceLock::new();

/// Takes as many descriptors as this process may have.
pub fn take_files() {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let more = maximum.unwrap_or(FILES_MAX).min(FILES_MAX);
    if let Some(current) = current.filter(|current| *current < more) {
        let _ = FILES_BEFORE.set(current);
        let _ = setrlimit(Resource::Nofile, Rlimit { current: Some(more), maximum });
    }
}

/// Returns how many it might have before: so many are for what runs jobs on this machine.
#[must_use]
pub fn files_before() -> Option<u64> {
    FILES_BEFORE.get().copied()
}

/// Goes back to so many descriptors.
pub fn limit_files(current: u64) {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: Some(current), maximum });
}

impl Visitor {
    /// Returns the user at the other end, by the kernel's word.
    #[must_use]
    pub fn user(&self) -> Option<u32> {
        self.stream.peer_cred().ok().map(|cred| cred.uid())
    }
}

impl Listener for Door {
    type Io = Visitor;
    type Addr = tokio::net::unix::SocketAddr;

    async fn accept(&mut self) -> (Visitor, Self::Addr) {
        let place = match Arc::clone(&self.room).acquire_owned().await {
            Ok(place) => place,
            Err(_) => std::future::pending().await,
        };
        // Too many descriptors, say, pass: this waits and tries again.
        let (stream, from) = Listener::accept(&mut self.listener).await;
        (Visitor { stream, _place: place }, from)
    }

    fn local_addr(&self) -> io::Result<Self::Addr> {
        self.listener.local_addr()
    }
}

impl AsyncRead for Visitor {
    fn poll_read(
        mut self: Pin<&mut Self>,
        waker: &mut Waker<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(waker, buffer)
    }
}

impl AsyncWrite for Visitor {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_comes_when_all_places_are_taken_waits_until_one_goes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sock");
        let mut door = Door::open(&path, &Access::default()).unwrap();
        door.room = Arc::new(Semaphore::new(1));
        let _first = UnixStream::connect(&path).await.unwrap();
        let (visitor, _) = door.accept().await;
        assert_eq!(visitor.user(), Some(rustix::process::geteuid().as_raw()));
        let _second = UnixStream::connect(&path).await.unwrap();
        let short = std::time::Duration::from_millis(50);
        assert!(tokio::time::timeout(short, door.accept()).await.is_err());
        drop(visitor);
        let _ = door.accept().await;
        assert!(Door::open(&path, &Access::default()).is_err(), "another daemon is there");
    }
}
