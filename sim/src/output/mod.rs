//! The files a run leaves (NAMES.md): written whole or not at all.
//!
//! Everything goes into a folder of its own beside the target first; only when the last byte is
//! written are the files moved into place. Whatever goes wrong before that leaves nothing behind.

pub mod tables;

use crate::json::Json;
use crate::record::RunRecord;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

/// Why results could not be written.
#[derive(Debug, thiserror::Error)]
pub enum OutputError {
    /// The folder cannot be made or written to.
    #[error("cannot write results into {0}: {1}; choose another folder with --out")]
    Folder(PathBuf, io::Error),
    /// One file cannot be written.
    #[error("cannot write {0}: {1}; nothing was left behind")]
    File(PathBuf, io::Error),
    /// A picture cannot be turned into a PNG.
    #[error("cannot draw {0}: {1}")]
    Picture(String, String),
}

/// A set of files on its way.
pub struct Staging {
    target: PathBuf,
    folder: PathBuf,
    names: Vec<String>,
    /// Folders that were not there before, the innermost first.
    made: Vec<PathBuf>,
}

impl Staging {
    /// Makes the folder of a set of files that will end in `target`.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn begin(target: &Path) -> Result<Self, OutputError> {
        let failed = |error| OutputError::Folder(target.to_owned(), error);
        let is_new = |path: &&Path| !path.as_os_str().is_empty() && !path.exists();
        let made = target.ancestors().take_while(is_new).map(Path::to_owned).collect();
        let folder = target.join(format!(".partial-{}", std::process::id()));
        // From here on a failure takes back what was made.
        let staging = Self { target: target.to_owned(), folder, names: Vec::new(), made };
        std::fs::create_dir_all(&staging.folder).map_err(failed)?;
        Ok(staging)
    }

    /// Checks that a folder can be made and written to, before a long run begins.
    ///
    /// # Errors
    /// When it cannot.
    pub fn try_out(target: &Path) -> Result<(), OutputError> {
        Self::begin(target).map(drop)
    }

    /// Writes one file.
    ///
    /// # Errors
    /// When it cannot be written whole.
    pub fn write(
        &mut self,
        name: &str,
        fill: impl FnOnce(&mut dyn Write) -> io::Result<()>,
    ) -> Result<(), OutputError> {
        let path = self.folder.join(name);
        let write = || -> io::Result<()> {
            let mut out = BufWriter::with_capacity(1 << 18, std::fs::File::create(&path)?);
            fill(&mut out)?;
            out.flush()
        };
        write().map_err(|error| OutputError::File(self.target.join(name), error))?;
        self.names.push(name.to_owned());
        Ok(())
    }

    /// Returns the path of a folder among the files, for the caller to make and fill.
    pub fn folder(&mut self, name: &str) -> PathBuf {
        self.names.push(name.to_owned());
        self.folder.join(name)
    }

    /// Moves all files into place; a folder replaces the one of an earlier run.
    ///
    /// # Errors
    /// When one cannot be moved.
    pub fn finish(self) -> Result<(), OutputError> {
        for name in &self.names {
            let to = self.target.join(name);
            if to.is_dir() {
                let removed = std::fs::remove_dir_all(&to);
                removed.map_err(|error| OutputError::File(to.clone(), error))?;
            }
            let moved = std::fs::rename(self.folder.join(name), &to);
            moved.map_err(|error| OutputError::File(to, error))?;
        }
        Ok(())
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        // Best effort: what cannot be removed is a hidden folder without results.
        let _removed = std::fs::remove_dir_all(&self.folder);
        // Succeeds only when nothing is there: a failed run leaves no empty folder of its own.
        for folder in &self.made {
            let _removed = std::fs::remove_dir(folder);
        }
    }
}

/// Which files to leave beside the summary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Pictures and the page.
    pub pictures: bool,
    /// `decisions.csv`.
    pub decisions: bool,
}

/// Writes everything that one run leaves, except `speed.json`, which depends on this.
///
/// # Errors
/// When a file cannot be written.
pub fn write_run(
    staging: &mut Staging,
    run: &RunRecord,
    summary: &Json,
    wanted: Wanted,
) -> Result<(), OutputError> {
    let text = summary.text();
    staging.write("summary.json", |out| out.write_all(text.as_bytes()))?;
    staging.write("jobs.csv", |out| tables::jobs(run, out))?;
    staging.write("leases.csv", |out| tables::leases(run, out))?;
    staging.write("nodes.csv", |out| tables::nodes(run, out))?;
    staging.write("timeline.csv", |out| tables::timeline(run, out))?;
    staging.write("ledger.csv", |out| tables::ledger(run, out))?;
    if wanted.decisions {
        staging.write("decisions.csv", |out| tables::decisions(run, out))?;
    }
    if wanted.pictures {
        let pictures: Vec<_> = crate::picture::ALL
            .iter()
            .filter_map(|(stem, draw)| draw(run).map(|svg| (*stem, svg)))
            .collect();
        write_pictures(staging, &pictures)?;
        let svgs: Vec<_> = pictures.into_iter().map(|(_, svg)| svg).collect();
        let value = serde_json::from_str(&text).unwrap_or_default();
        let page = crate::page::render(run, &value, &crate::metrics::table(summary), &svgs);
        staging.write("report.html", |out| out.write_all(page.as_bytes()))?;
    }
    Ok(())
}

/// Writes pictures as SVG, and as PNG where the feature is built in.
///
/// # Errors
/// When a file cannot be written.
pub fn write_pictures(
    staging: &mut Staging,
    pictures: &[(&str, crate::picture::Svg)],
) -> Result<(), OutputError> {
    #[cfg(feature = "png")]
    let drawn = {
        use rayon::prelude::*;
        let letters = crate::picture::Letters::default();
        let draw = |(stem, svg): &(&str, crate::picture::Svg)| {
            svg.png(&letters).map_err(|e| OutputError::Picture((*stem).to_owned(), e.to_string()))
        };
        pictures.par_iter().map(draw).collect::<Result<Vec<_>, _>>()?
    };
    for (stem, svg) in pictures {
        let text = svg.document();
        staging.write(&format!("{stem}.svg"), |out| out.write_all(text.as_bytes()))?;
    }
    #[cfg(feature = "png")]
    for ((stem, _), bytes) in pictures.iter().zip(drawn) {
        staging.write(&format!("{stem}.png"), |out| out.write_all(&bytes))?;
    }
    Ok(())
}
