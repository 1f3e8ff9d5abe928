//! An sshd of our own, with keys and known hosts of its own.

use super::until;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// An sshd for one user.
pub(crate) struct Sshd {
    child: Child,
    pub(crate) address: String,
    pub(crate) port: u16,
    folder: PathBuf,
}

impl Drop for Sshd {
    fn drop(&mut self) {
        self.stop();
    }
}

fn path() -> Option<PathBuf> {
    ["/usr/sbin/sshd", "/usr/bin/sshd"].map(PathBuf::from).into_iter().find(|path| path.exists())
}

fn key(path: &Path) {
    let mut command = Command::new("ssh-keygen");
    let made = command.args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(path).status();
    assert!(made.unwrap().success());
}

/// Writes what an sshd reads: its users are at home in the folder, where no file of theirs slows a
/// shell's start, and its shell prints a banner.
fn write_config(folder: &Path, address: &str, port: u16) {
    std::fs::create_dir_all(folder.join("home")).unwrap();
    for name in ["host", "user"] {
        key(&folder.join(name));
    }
    let public = std::fs::read_to_string(folder.join("user.pub")).unwrap();
    std::fs::write(folder.join("authorized"), public).unwrap();
    let at = folder.display();
    let config = format!(
        "Port {port}\nListenAddress {address}\nHostKey {at}/host\nPidFile none\n\
         AuthorizedKeysFile {at}/authorized\nStrictModes no\nPasswordAuthentication no\n\
         KbdInteractiveAuthentication no\nPermitRootLogin yes\nUsePAM no\n\
         SetEnv HOME={at}/home\n\
         ForceCommand echo 'Welcome! \\033[31m news'; \
         exec sh -c \"$SSH_ORIGINAL_COMMAND\"\n"
    );
    std::fs::write(folder.join("sshd_config"), config).unwrap();
}

impl Sshd {
    /// Starts one on loopback; `None` where there is no sshd.
    pub(crate) fn start(folder: &Path) -> Option<Self> {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = free.local_addr().unwrap().port();
        drop(free);
        Self::start_on(folder, ("127.0.0.1", port), &[])
    }

    /// Starts one on an address, through a command that runs others.
    pub(crate) fn start_on(
        folder: &Path,
        (address, port): (&str, u16),
        through: &[&str],
    ) -> Option<Self> {
        let sshd = path()?;
        write_config(folder, address, port);
        // Where sshd keeps the processes that look at keys apart.
        let _ = std::fs::create_dir_all("/run/sshd");
        let log = std::fs::File::create(folder.join("sshd.log")).unwrap();
        let mut words = through.iter().map(PathBuf::from).chain([sshd]);
        let mut command = Command::new(words.next().unwrap());
        command.args(words).args(["-D", "-e", "-f"]).arg(folder.join("sshd_config"));
        let child = command.stdin(Stdio::null()).stderr(log).spawn().unwrap();
        until("sshd listens", || std::net::TcpStream::connect((address, port)).is_ok());
        let address = address.to_owned();
        let sshd = Self { child, address, port, folder: folder.to_owned() };
        sshd.know_by("host.pub");
        Some(sshd)
    }

    /// Lets clients know it by a key of its folder.
    pub(crate) fn know_by(&self, public: &str) {
        let key = std::fs::read_to_string(self.folder.join(public)).unwrap();
        let line = format!("[{}]:{} {key}", self.address, self.port);
        std::fs::write(self.folder.join("known"), line).unwrap();
    }

    /// Returns the keys of a node that it serves.
    pub(crate) fn node(&self, name: &str) -> String {
        let (at, address, port) = (self.folder.display(), &self.address, self.port);
        let mut line = format!("- {{ name: {name}, owner_use: none, ");
        writeln!(
            line,
            "ssh: {{ host: {address}, port: {port}, identity_file: {at}/user, \
             known_hosts: {at}/known, connect_timeout: 5 }} }}"
        )
        .unwrap();
        line
    }

    /// Ends it; what it has begun goes on.
    pub(crate) fn stop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
