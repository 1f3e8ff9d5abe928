//! The daemon's socket: who may open it, and how many at once.

use super::access::Access;
use anyhow::Context;
use axum::serve::Listener;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::collections::BTreeMap;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::pin::Pin;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::task::{Context as Waker, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Most connections at once: whoever comes then waits until another goes.
const CONNECTIONS_MAX: usize = 4_096;
/// The part of them that one user may have who is neither the daemon's nor root: nobody keeps the
/// administrators out.
const PART_OF_ONE: usize = 4;
/// Most descriptors that are asked for: three a machine, one a connection, and some.
const FILES_MAX: u64 = 65_536;

/// The daemon's socket.
pub struct Door {
    listener: UnixListener,
    room: Arc<Semaphore>,
    /// Most connections of one user, and how many each has.
    most: usize,
    here: Arc<Mutex<BTreeMap<u32, usize>>>,
}

/// A connection of this machine; it counts while it is there.
pub struct Visitor {
    stream: UnixStream,
    user: Option<u32>,
    here: Arc<Mutex<BTreeMap<u32, usize>>>,
    _place: OwnedSemaphorePermit,
}

impl Drop for Visitor {
    fn drop(&mut self) {
        let mut here = self.here.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = self.user.and_then(|user| here.get_mut(&user)) {
            *count = count.saturating_sub(1);
        }
    }
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
        let files = getrlimit(Resource::Nofile).current.unwrap_or(FILES_MAX);
        let all = usize::try_from(files / 2).unwrap_or(CONNECTIONS_MAX).min(CONNECTIONS_MAX);
        let door = Self::of(listener, all);
        let_in(path, access)?;
        Ok(door)
    }

    fn of(listener: UnixListener, all: usize) -> Self {
        let (room, most) = (Arc::new(Semaphore::new(all)), all / PART_OF_ONE);
        Self { listener, room, most, here: Arc::default() }
    }

    /// Counts a connection in; `None` where its user has as many as one may.
    fn count_in(&self, stream: UnixStream, place: OwnedSemaphorePermit) -> Option<Visitor> {
        let user = stream.peer_cred().ok().map(|cred| cred.uid());
        let free = [rustix::process::geteuid().as_raw(), 0];
        let mut here = self.here.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(user) = user {
            let count = here.entry(user).or_insert(0);
            if *count >= self.most && !free.contains(&user) {
                return None;
            }
            *count += 1;
        }
        Some(Visitor { stream, user, here: Arc::clone(&self.here), _place: place })
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
        self.user
    }
}

impl Listener for Door {
    type Io = Visitor;
    type Addr = tokio::net::unix::SocketAddr;

    async fn accept(&mut self) -> (Visitor, Self::Addr) {
        loop {
            let place = match Arc::clone(&self.room).acquire_owned().await {
                Ok(place) => place,
                Err(_) => std::future::pending().await,
            };
            // Too many descriptors, say, pass: this waits and tries again.
            let (stream, from) = Listener::accept(&mut self.listener).await;
            if let Some(visitor) = self.count_in(stream, place) {
                return (visitor, from);
            }
        }
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
        (door.room, door.most) = (Arc::new(Semaphore::new(1)), 0);
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
