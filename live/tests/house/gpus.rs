//! GPUs that are lines of a file (crate `fake-nvml`), and who uses them.

use super::{Cluster, until};
use std::process::{Child, Command};

/// A device: its flags, and who uses it, `pid:MiB`.
pub(crate) fn gpu(name: &str, used: u64, flags: &str, processes: &str) -> String {
    format!("GPU-{name}|Fake 9000|24576|{used}|0|{flags}|{processes}")
}

/// The same device, busy to so many percent.
pub(crate) fn busy(line: &str, percent: u8) -> String {
    line.replacen("|0|", &format!("|{percent}|"), 1)
}

/// Two devices that nobody uses.
pub(crate) fn two() -> [String; 2] {
    [gpu("a", 10, "", ""), gpu("b", 10, "", "")]
}

/// Waits until so many GPUs are on offer.
pub(crate) fn until_offered(cluster: &Cluster, count: u64) {
    until(&format!("{count} GPUs are on offer"), || {
        let offered = cluster.ask(&["status"]).map(|status| status["offered"]["gpus"].to_string());
        offered.is_some_and(|gpus| gpus == format!("{count}.0"))
    });
}

/// A process that is nobody's job.
pub(crate) fn stranger() -> Child {
    Command::new("sleep").arg("600").spawn().unwrap()
}

/// Ends one.
pub(crate) fn end(mut child: Child) {
    child.kill().unwrap();
    child.wait().unwrap();
}
