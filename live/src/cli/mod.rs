//! The command line of the daemon, its agents and clients.

mod books;
mod demo;
mod hide;
mod input;
mod job;
mod journal;
mod list;
mod reserve;
mod run;
mod screen;
mod show;
mod ssh;
mod statement;
mod trust;
mod up;

use anyhow::Context;
use clap::{Args, CommandFactory, Parser, Subcommand};
use gridlive::agent::order::LeaseFolder;
use gridlive::client::{Client, ClientError};
use gridlive::daemon::remote::{Remote, Tokens};
use gridlive::daemon::{Place, serve};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

/// Lends idle machines over plain SSH.
#[derive(Debug, Parser)]
#[command(name = "gridlive", version, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

/// How the daemon is found, and how answers are shown.
#[derive(Clone, Debug, Args)]
pub(super) struct Asking {
    /// The daemon's socket [default: gridlive/daemon.sock in `XDG_RUNTIME_DIR` or ~/.gridlive].
    #[arg(long, env = "GRIDLIVE_SOCKET", global = true)]
    socket: Option<PathBuf>,
    /// A daemon on another machine, https://HOST:PORT, instead; it needs --ca and a token.
    #[arg(long, env = "GRIDLIVE_SERVER", global = true)]
    server: Option<String>,
    /// Its certificate, or who signs it, as PEM.
    #[arg(long, env = "GRIDLIVE_CA", global = true)]
    ca: Option<PathBuf>,
    /// The file of your token there [default: the variable `GRIDLIVE_TOKEN`].
    #[arg(long, env = "GRIDLIVE_TOKEN_FILE", global = true)]
    token_file: Option<PathBuf>,
    /// Print JSON.
    #[arg(long)]
    pub(super) json: bool,
}

impl Asking {
    pub(super) fn client(&self) -> anyhow::Result<Client> {
        // What was said here goes before what this shell has set.
        let said = |option: &str| {
            let words = std::env::args().take_while(|word| word != "--");
            words.into_iter().any(|word| word == option || word.starts_with(&format!("{option}=")))
        };
        let near = said("--socket") && !said("--server");
        let Some(server) = self.server.as_ref().filter(|_| !near) else {
            return Ok(Client::new(&socket(self.socket.clone())?));
        };
        let ca = self.ca.as_ref();
        let ca = ca.context("--server needs --ca FILE: the server's certificate")?;
        let token = match &self.token_file {
            Some(file) => {
                std::fs::read_to_string(file).with_context(|| file.display().to_string())?
            }
            None => {
                let token = std::env::var("GRIDLIVE_TOKEN");
                token.context("--server needs --token-file, or a token in GRIDLIVE_TOKEN")?
            }
        };
        Client::of_server(server, ca, &token).map_err(anyhow::Error::msg)
    }
}

/// The configuration file.
#[derive(Debug, Args)]
struct ConfigArgs {
    /// The configuration file: the nodes, how they are reached, and the rules [default:
    /// gridlive.yaml here, in gridlive/ of `XDG_CONFIG_HOME` or ~/.config, or in /etc/gridlive].
    #[arg(env = "GRIDLIVE_CONFIG")]
    config: Option<PathBuf>,
}

impl ConfigArgs {
    fn find(self) -> anyhow::Result<PathBuf> {
        if let Some(config) = self.config {
            return Ok(config);
        }
        let own = folder("XDG_CONFIG_HOME", ".config").map(|own| own.join("gridlive"));
        let folders = [Some(PathBuf::from(".")), own.ok(), Some(PathBuf::from("/etc/gridlive"))];
        let files = folders.into_iter().flatten().map(|folder| folder.join("gridlive.yaml"));
        let places: Vec<PathBuf> = files.collect();
        let found = places.iter().find(|file| file.exists()).cloned();
        found.with_context(|| {
            let names: Vec<String> = places.iter().map(|file| file.display().to_string()).collect();
            format!("there is no configuration: name one, or write {}", names.join(" or "))
        })
    }
}

/// Where a daemon is.
#[derive(Debug, Args)]
struct PlaceArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// The folder of the journal [default: gridlive in `XDG_STATE_HOME` or ~/.local/state].
    #[arg(long)]
    state: Option<PathBuf>,
    /// The socket to listen on [default: as for clients].
    #[arg(long, env = "GRIDLIVE_SOCKET")]
    socket: Option<PathBuf>,
    /// Take requests of other machines here, such as 0.0.0.0:7443: over TLS, and with a token.
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<SocketAddr>,
    /// The certificate to show them, as PEM [default: one of its own in the folder].
    #[arg(long, requires = "tls_key", requires = "listen")]
    tls_cert: Option<PathBuf>,
    /// Its key, as PEM.
    #[arg(long, requires = "tls_cert")]
    tls_key: Option<PathBuf>,
}

impl PlaceArgs {
    fn place(self) -> anyhow::Result<Place> {
        let config = std::path::absolute(self.config.find()?)?;
        let tls = match self.tls_cert.zip(self.tls_key) {
            Some((cert, key)) => Some((std::path::absolute(cert)?, std::path::absolute(key)?)),
            None => None,
        };
        let remote = self.listen.map(|listen| Remote { listen, tls });
        Ok(Place { config, state: state_folder(self.state)?, socket: socket(self.socket)?, remote })
    }
}

/// What to do.
#[derive(Debug, Subcommand)]
enum Verb {
    /// Check a configuration without starting anything.
    Check {
        #[command(flatten)]
        config: ConfigArgs,
    },
    /// Run the coordinator; it goes on with its journal where there is one.
    Daemon {
        #[command(flatten)]
        place: PlaceArgs,
        /// In a session of its own.
        #[arg(long, hide = true)]
        detached: bool,
    },
    /// Start a daemon in the background, and wait until its nodes are there.
    Up {
        #[command(flatten)]
        place: PlaceArgs,
        /// Seconds to wait for the nodes.
        #[arg(long, default_value_t = 120)]
        wait: u64,
    },
    /// Show a host's keys, and trust it from now on: nodes are only reached by keys that are known.
    Trust(trust::TrustArgs),
    /// Make a token for a user, by which other machines ask in his name; it is shown once.
    Token {
        /// The user, by name.
        user: String,
        /// Take all tokens of the user back instead.
        #[arg(long)]
        revoke: bool,
        /// The daemon's folder [default: as for the daemon].
        #[arg(long)]
        state: Option<PathBuf>,
    },
    /// Print a unit for systemd that runs the daemon; `systemctl --user` takes it, or the system's.
    Unit {
        #[command(flatten)]
        place: PlaceArgs,
    },
    /// Show a whole cluster on this machine, told as it happens; nothing of it is left.
    Demo,
    #[command(flatten)]
    Job(job::JobVerb),
    #[command(flatten)]
    Show(show::ShowVerb),
    /// Open a shell where a job runs: in its folder, on its processors, with its environment.
    ///
    /// It goes over SSH as the daemon does, with your own keys: it works only where those open the
    /// node for the user that the daemon uses there (on this machine: only for that user). Where
    /// its input is no terminal, as in `echo pwd | gridlive ssh 7`, none is asked for there. The
    /// shell is no part of the job: it is not counted, and does not end with it.
    Ssh(ssh::SshArgs),
    /// Look at a daemon's journal.
    Journal {
        #[command(subcommand)]
        verb: journal::JournalVerb,
    },
    /// Recompute every balance from the journal's transfers alone, and hold them against the
    /// ledger, and the whole against a running daemon; ends with 1 where they differ.
    Audit(journal::AuditArgs),
    /// Print completions for a shell.
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
    /// Write manual pages into a folder.
    Man {
        /// The folder.
        folder: PathBuf,
    },
    /// A node's part; started by the daemon.
    #[command(hide = true)]
    Agent {
        /// Carry bytes between the standard streams and the agent.
        #[arg(long, conflicts_with = "serve")]
        stdio: bool,
        /// Be the agent.
        #[arg(long)]
        serve: bool,
        /// Its folder.
        #[arg(long)]
        dir: PathBuf,
        /// How many descriptors it may have, where the daemon on this machine has more.
        #[arg(long)]
        files: Option<u64>,
    },
    /// Keeps one attempt; started by an agent.
    #[command(hide = true)]
    Shim { root: PathBuf, folder: PathBuf },
    /// Becomes a job; started by a shim.
    #[command(hide = true)]
    Exec { root: PathBuf, folder: PathBuf },
    /// Becomes a shell beside a job; started by `ssh`.
    #[command(hide = true)]
    Enter {
        /// The folder of the node's agent.
        #[arg(long)]
        dir: PathBuf,
        /// The job's lease.
        lease: u64,
    },
}

/// Returns a unit for systemd (systemd.service(5)).
fn unit(place: &Place) -> anyhow::Result<String> {
    let quoted = |path: &std::path::Path| -> anyhow::Result<String> {
        let text = path.to_str().filter(|text| !text.contains(['"', '\\', '\n', '%', '$']));
        let text = text.ok_or_else(|| anyhow::anyhow!("{path:?} cannot stand in a unit"))?;
        Ok(format!("\"{text}\""))
    };
    let program = quoted(&std::env::current_exe()?)?;
    let (config, state) = (quoted(&place.config)?, quoted(&place.state)?);
    let socket = quoted(&place.socket)?;
    let mut remote = String::new();
    if let Some(Remote { listen, tls }) = &place.remote {
        remote = format!(" --listen {listen}");
        if let Some((cert, key)) = tls {
            let (cert, key) = (quoted(cert)?, quoted(key)?);
            remote = format!("{remote} --tls-cert {cert} --tls-key {key}");
        }
    }
    Ok(format!(
        "[Unit]\n\
         Description=gridlive: lends idle machines\n\
         After=network-online.target\n\
         Wants=network-online.target\n\
         \n\
         [Service]\n\
         Type=notify\n\
         ExecStart={program} daemon {config} --state {state} --socket {socket}{remote}\n\
         ExecReload=/bin/kill -HUP $MAINPID\n\
         # Agents of this machine outlive the daemon, as those of other machines do.\n\
         KillMode=process\n\
         Restart=on-failure\n\
         RestartSec=1\n\
         TimeoutStopSec=30\n\
         \n\
         [Install]\n\
         WantedBy=default.target\n"
    ))
}

fn state_folder(said: Option<PathBuf>) -> anyhow::Result<PathBuf> {
    let folder = match said {
        Some(folder) => folder,
        None => folder("XDG_STATE_HOME", ".local/state")?.join("gridlive"),
    };
    Ok(std::path::absolute(folder)?)
}

/// Returns a folder of the user's, by a variable or below home.
fn folder(variable: &str, below_home: &str) -> anyhow::Result<PathBuf> {
    if let Some(folder) = std::env::var_os(variable).filter(|folder| !folder.is_empty()) {
        return Ok(PathBuf::from(folder));
    }
    let home = std::env::var_os("HOME").filter(|home| !home.is_empty());
    let home = home.ok_or_else(|| anyhow::anyhow!("neither {variable} nor HOME is set"))?;
    Ok(PathBuf::from(home).join(below_home))
}

fn socket(said: Option<PathBuf>) -> anyhow::Result<PathBuf> {
    if let Some(socket) = said {
        return Ok(socket);
    }
    Ok(folder("XDG_RUNTIME_DIR", ".gridlive")?.join("gridlive").join("daemon.sock"))
}

/// A process of a node's: exits by itself.
fn node_part(verb: &Verb) -> Option<std::io::Result<()>> {
    let absolute = |path: &PathBuf| std::path::absolute(path);
    match verb {
        Verb::Agent { stdio, dir, files, .. } => Some(absolute(dir).and_then(|dir| {
            files.iter().copied().for_each(gridlive::daemon::door::limit_files);
            if *stdio { gridlive::agent::bridge::carry(&dir) } else { gridlive::agent::serve(&dir) }
        })),
        Verb::Shim { root, folder } => {
            Some(gridlive::agent::shim::keep(root, LeaseFolder::at(folder.clone())))
        }
        Verb::Exec { root, folder } => {
            let failed = gridlive::agent::exec::exec(root, &LeaseFolder::at(folder.clone()));
            let error = failed.err().unwrap_or_else(|| std::io::Error::other("it came back"));
            eprintln!("gridlive: {error}");
            std::process::exit(gridlive::agent::exec::code_of(&error));
        }
        Verb::Enter { dir, lease } => {
            let lease = gridcore::ids::LeaseId::new(*lease);
            let entered = absolute(dir).and_then(|dir| gridlive::agent::exec::enter(&dir, lease));
            Some(entered.map(drop))
        }
        Verb::Check { .. }
        | Verb::Daemon { .. }
        | Verb::Up { .. }
        | Verb::Demo
        | Verb::Trust(_)
        | Verb::Unit { .. }
        | Verb::Token { .. }
        | Verb::Journal { .. }
        | Verb::Audit(_)
        | Verb::Ssh(_)
        | Verb::Completions { .. }
        | Verb::Man { .. }
        | Verb::Job(_)
        | Verb::Show(_) => None,
    }
}

/// Runs the command line.
pub(super) fn main() -> ExitCode {
    let cli = Cli::parse();
    if let Some(done) = node_part(&cli.verb) {
        return match done {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("gridlive: {error}");
                ExitCode::FAILURE
            }
        };
    }
    match dispatch(cli.verb) {
        Ok(code) => code,
        Err(error) => {
            let code = error.downcast_ref::<ClientError>().map_or(1, ClientError::code);
            eprintln!("error: {}", screen::lines(&format!("{error:#}")));
            ExitCode::from(code)
        }
    }
}

fn dispatch(verb: Verb) -> anyhow::Result<ExitCode> {
    let runtime = |threads: usize| {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        builder.worker_threads(threads).enable_all().build()
    };
    match verb {
        Verb::Check { config } => {
            let config = config.find()?;
            let found = gridlive::check(&config)?;
            println!(
                "{}: ok ({} nodes, {} pools, {} accounts)",
                config.display(),
                found.nodes,
                found.pools,
                found.accounts
            );
            Ok(ExitCode::SUCCESS)
        }
        Verb::Up { place, wait } => {
            runtime(1)?.block_on(up::run(&place.place()?, wait))?;
            Ok(ExitCode::SUCCESS)
        }
        Verb::Daemon { place, detached } => {
            if detached {
                gridlive::daemon::detach()?;
            }
            runtime(2)?
                .block_on(serve(&place.place()?, |line| println!("{}", screen::lines(line))))?;
            Ok(ExitCode::SUCCESS)
        }
        Verb::Trust(args) => {
            trust::run(&args)?;
            Ok(ExitCode::SUCCESS)
        }
        Verb::Token { user, revoke, state } => {
            let tokens = Tokens::of(&state_folder(state)?);
            if revoke {
                println!("{} tokens of {user} taken back", tokens.revoke(&user)?);
            } else {
                println!("{}", tokens.make(&user)?);
            }
            Ok(ExitCode::SUCCESS)
        }
        Verb::Unit { place } => {
            print!("{}", unit(&place.place()?)?);
            Ok(ExitCode::SUCCESS)
        }
        Verb::Demo => {
            runtime(1)?.block_on(demo::run())?;
            Ok(ExitCode::SUCCESS)
        }
        Verb::Journal { verb } => journal::run(verb),
        Verb::Audit(args) => runtime(1)?.block_on(journal::audit(args)),
        Verb::Completions { shell } => {
            clap_complete::generate(shell, &mut Cli::command(), "gridlive", &mut std::io::stdout());
            Ok(ExitCode::SUCCESS)
        }
        Verb::Man { folder } => {
            std::fs::create_dir_all(&folder)?;
            clap_mangen::generate_to(Cli::command(), &folder)?;
            Ok(ExitCode::SUCCESS)
        }
        Verb::Job(verb) => runtime(1)?.block_on(job::run(verb)),
        Verb::Show(verb) => runtime(1)?.block_on(show::run(verb)),
        Verb::Ssh(args) => runtime(1)?.block_on(ssh::run(&args)),
        Verb::Agent { .. } | Verb::Shim { .. } | Verb::Exec { .. } | Verb::Enter { .. } => {
            Ok(ExitCode::SUCCESS)
        }
    }
}
