//! What the core forgets and people ask for: jobs that have ended, their names and exit codes.
//!
//! It decides nothing. Ended jobs are appended to a file of lines; programs lie in files by number
//! for as long as a job needs them.

use crate::clock::wall_seconds;
use crate::frame::Exit;
use crate::program::{Program, load, save};
use gridcore::ids::{AccountId, Epoch, JobId};
use gridcore::jobs::Job;
use gridcore::state::State;
use gridcore::wire::EvictionReason;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::{BTreeMap, VecDeque};
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Ended jobs that are remembered; older ones are only in the file.
const KEPT: usize = 20_000;

/// Events that are remembered.
const EVENTS: usize = 1_000;

/// Something that has happened.
#[derive(Clone, Debug)]
pub struct Happening {
    /// Counts what has happened since this start.
    pub number: u64,
    /// What it was, as JSON.
    pub text: String,
}

/// How a job ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ended {
    /// Its last state.
    pub state: String,
    /// What it cost, in micro-ATP.
    pub charged: u64,
    /// What came back, in micro-ATP.
    pub refunded: u64,
}

/// What is remembered of a job.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Memory {
    /// Its number.
    pub job: u64,
    /// Its name.
    pub name: String,
    /// Its command, as a line for people.
    pub command: String,
    /// Its account's number.
    pub account: u32,
    /// Where its last attempt ran.
    pub nodes: Vec<String>,
    /// How sure it was to stay there, 0 to 1,000; `None` where this daemon did not see it start.
    #[serde(default)]
    pub confidence: Option<u16>,
    /// How often it was started.
    pub attempts: u32,
    /// When it was submitted, started last and ended, in seconds since 1970; 0 is never.
    pub submitted: u64,
    /// See there.
    pub started: u64,
    /// See there.
    pub finished: u64,
    /// How its last attempt ended.
    pub exit: Option<Exit>,
    /// Why its last attempt ended, where that was not by itself.
    #[serde(default)]
    pub reason: Option<String>,
    /// How it ended.
    pub ended: Option<Ended>,
    #[serde(skip)]
    program: u64,
}

/// All that is remembered.
pub struct History {
    folder: PathBuf,
    file: Option<File>,
    jobs: BTreeMap<JobId, Memory>,
    /// What has happened lately since this start.
    events: VecDeque<Happening>,
    told: u64,
    /// How many live jobs run each program.
    users: BTreeMap<u64, u32>,
    next_program: u64,
}

impl History {
    /// Reads what is remembered, and forgets programs that no job needs.
    ///
    /// # Errors
    /// When a folder or file cannot be used.
    pub fn open(folder: &Path, state: &State) -> io::Result<Self> {
        let programs = folder.join("programs");
        crate::agent::order::make_folder(&programs)?;
        let path = folder.join("history.jsonl");
        let mut options = OpenOptions::new();
        let file = options.read(true).append(true).create(true).mode(0o600).open(&path)?;
        let mut history = Self {
            folder: programs,
            file: None,
            jobs: BTreeMap::new(),
            events: VecDeque::new(),
            told: 0,
            users: BTreeMap::new(),
            next_program: 1,
        };
        for line in BufReader::new(&file).lines() {
            // A line that was cut by a crash is one that is missing.
            if let Ok(memory) = serde_json::from_str::<Memory>(&line?) {
                history.jobs.insert(JobId::new(memory.job), memory);
                history.shrink();
            }
        }
        history.file = Some(file);
        for job in state.jobs.values() {
            history.submitted(job);
            if let gridcore::jobs::JobState::Running(lease) = job.state {
                let nodes = super::views::places(state, lease);
                history.started(job.id, job.epoch, &nodes, None);
            }
        }
        history.collect()?;
        Ok(history)
    }

    /// Deletes the programs that no job needs.
    fn collect(&mut self) -> io::Result<()> {
        for entry in std::fs::read_dir(&self.folder)? {
            let path = entry?.path();
            let number = path.file_name().and_then(|name| name.to_str()?.parse::<u64>().ok());
            match number {
                Some(number) if self.users.contains_key(&number) => {
                    self.next_program = self.next_program.max(number + 1);
                }
                _ => std::fs::remove_file(&path)?,
            }
        }
        let used = self.users.keys().next_back().copied().unwrap_or(0);
        self.next_program = self.next_program.max(used + 1);
        Ok(())
    }

    fn shrink(&mut self) {
        while self.jobs.len() > KEPT {
            let oldest = self.jobs.iter().find(|(_, memory)| memory.ended.is_some());
            let Some(id) = oldest.map(|(id, _)| *id) else { return };
            self.jobs.remove(&id);
        }
    }

    /// Remembers something that has happened for a while.
    pub fn happened(&mut self, mut about: Value) -> Happening {
        self.told += 1;
        if let Some(about) = about.as_object_mut() {
            about.insert("number".to_owned(), json!(self.told));
        }
        let happening = Happening { number: self.told, text: about.to_string() };
        self.events.push_back(happening.clone());
        if self.events.len() > EVENTS {
            self.events.pop_front();
        }
        happening
    }

    /// Returns what has happened lately.
    #[must_use]
    pub fn events(&self) -> Vec<Happening> {
        self.events.iter().cloned().collect()
    }

    /// Returns a number for a program that none has had, and the folder of programs. The program
    /// stays until [`History::leave_program`] and the last job that runs it.
    pub fn new_program(&mut self) -> (u64, PathBuf) {
        let number = self.next_program;
        self.next_program += 1;
        self.users.insert(number, 1);
        (number, self.folder.clone())
    }

    /// Deletes a program once nobody needs it any more.
    pub fn leave_program(&mut self, number: u64) {
        let Some(users) = self.users.get_mut(&number) else { return };
        *users -= 1;
        if *users == 0 {
            self.users.remove(&number);
            let _ = std::fs::remove_file(program_file(&self.folder, number));
        }
    }

    /// Notes that the core has accepted a job.
    pub fn submitted(&mut self, job: &Job) {
        let known = self.jobs.get(&job.id);
        if known.is_some_and(|known| known.ended.is_none() && known.program == job.task.program) {
            // Asked again, and answered again.
            return;
        }
        let program = job.task.program;
        let kept: Option<Program> = load(&program_file(&self.folder, program)).ok().flatten();
        let known = kept.unwrap_or_default();
        *self.users.entry(program).or_insert(0) += 1;
        let memory = Memory {
            job: job.id.get(),
            name: known.name,
            command: known.command.join(" "),
            account: job.account.get(),
            attempts: job.epoch.get(),
            submitted: wall_seconds(),
            program,
            ..Memory::default()
        };
        self.jobs.insert(job.id, memory);
        self.shrink();
    }

    /// Notes that an attempt was granted.
    pub fn started(&mut self, job: JobId, epoch: Epoch, nodes: &[String], sure: Option<u16>) {
        if let Some(memory) = self.jobs.get_mut(&job) {
            (memory.attempts, memory.started) = (epoch.get(), wall_seconds());
            (memory.nodes, memory.confidence) = (nodes.to_vec(), sure);
            (memory.exit, memory.reason) = (None, None);
        }
    }

    /// Notes that an attempt is over, and why, where it did not end by itself.
    pub fn closed(&mut self, job: JobId, reason: Option<EvictionReason>) {
        if let Some(memory) = self.jobs.get_mut(&job) {
            memory.reason = reason.map(|reason| reason.name().to_owned());
        }
    }

    /// Notes that a job waits again.
    pub fn requeued(&mut self, job: JobId) {
        if let Some(memory) = self.jobs.get_mut(&job) {
            memory.started = 0;
        }
    }

    /// Notes how an attempt ended.
    pub fn exited(&mut self, job: JobId, epoch: Epoch, exit: Exit) {
        if let Some(memory) = self.jobs.get_mut(&job)
            && memory.attempts == epoch.get()
            && memory.exit.is_none()
        {
            memory.exit = Some(exit);
            if memory.ended.is_some() {
                // The core heard of the end first.
                let memory = memory.clone();
                self.write(&memory);
            }
        }
    }

    /// Notes that a job is over.
    pub fn finished(&mut self, job: JobId, ended: Ended) {
        let Some(memory) = self.jobs.get_mut(&job) else { return };
        (memory.ended, memory.finished) = (Some(ended), wall_seconds());
        let (memory, program) = (memory.clone(), memory.program);
        self.write(&memory);
        self.leave_program(program);
    }

    /// Appends a line; what a full disk does not take is forgotten at the next start.
    fn write(&mut self, memory: &Memory) {
        if let (Some(file), Ok(line)) = (&mut self.file, serde_json::to_string(memory)) {
            let _ = writeln!(file, "{line}");
        }
    }

    /// Returns what is remembered of a job.
    #[must_use]
    pub fn get(&self, job: JobId) -> Option<&Memory> {
        self.jobs.get(&job)
    }

    /// Returns a job's name.
    #[must_use]
    pub fn name(&self, job: JobId) -> String {
        self.jobs.get(&job).map(|memory| memory.name.clone()).unwrap_or_default()
    }

    /// Walks the jobs of an account, the newest first.
    pub fn of(&self, account: AccountId) -> impl Iterator<Item = &Memory> {
        self.jobs.values().rev().filter(move |memory| memory.account == account.get())
    }

    /// Walks the jobs that have ended, the newest first.
    pub fn ended(&self) -> impl Iterator<Item = &Memory> {
        self.jobs.values().rev().filter(|memory| memory.ended.is_some())
    }
}

/// Returns the file of a program.
#[must_use]
pub fn program_file(folder: &Path, number: u64) -> PathBuf {
    folder.join(number.to_string())
}

/// Keeps a program on disk, synced: the journal may name it from now on.
///
/// # Errors
/// When the disk does not take it.
pub fn keep_program(folder: &Path, number: u64, program: &Program) -> io::Result<()> {
    save(&program_file(folder, number), program)
}
