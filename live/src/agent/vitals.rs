//! How the machine as a whole is doing: what waits for what (PSI), free disk, the network.

use crate::clock::since_boot;
use crate::frame::Vitals;
use gridcore::units::{Bytes, Time};
use std::fs;
use std::path::Path;

/// What was counted at the last look.
#[derive(Debug, Default)]
pub(super) struct Meter {
    network: [u64; 2],
    at: Option<Time>,
    said: Option<Vitals>,
}

impl Meter {
    /// Looks; returns what there is to say, if it is another thing than the last time.
    pub(super) fn look(&mut self, root: &Path) -> Option<Vitals> {
        let text = |file: &str| fs::read_to_string(file).unwrap_or_default();
        let (now, network) = (since_boot(), network(&text("/proc/net/dev")));
        let passed = self.at.replace(now).map_or(0, |at| now.since(at).get());
        let before = std::mem::replace(&mut self.network, network);
        let rate = |i: usize| rate(before.get(i).copied(), network.get(i).copied(), passed);
        let stall = |of: &str| some(&text(&format!("/proc/pressure/{of}")));
        let stalls = match (stall("cpu"), stall("memory"), stall("io")) {
            (Some(cpu), Some(memory), Some(io)) => Some([cpu, memory, io]),
            _ => None,
        };
        self.say(Vitals { stalls, disk_free: free(root), network: [rate(0), rate(1)] })
    }

    fn say(&mut self, vitals: Vitals) -> Option<Vitals> {
        if self.said.as_ref() == Some(&vitals) {
            return None;
        }
        self.said = Some(vitals.clone());
        Some(vitals)
    }

    /// Says it again to whoever has come anew.
    pub(super) fn forget(&mut self) {
        self.said = None;
    }
}

/// Returns the bytes per second, in whole thousands: finer is noise.
fn rate(before: Option<u64>, now: Option<u64>, passed_ms: u64) -> u64 {
    let moved = now.unwrap_or(0).saturating_sub(before.unwrap_or(0));
    moved.saturating_mul(1_000).checked_div(passed_ms).unwrap_or(0) / 1_000 * 1_000
}

/// Returns the `some avg10` of a pressure file in basis points, in whole percent
/// (Documentation/accounting/psi.rst of Linux).
fn some(text: &str) -> Option<u16> {
    let line = text.lines().find_map(|line| line.strip_prefix("some "))?;
    let average = line.split(' ').find_map(|word| word.strip_prefix("avg10="))?;
    let whole: u16 = average.split('.').next()?.parse().ok()?;
    Some(whole.min(100) * 100)
}

/// Returns the bytes received and sent by all interfaces but the loopback (proc_net(5)).
fn network(text: &str) -> [u64; 2] {
    let interfaces = text.lines().filter_map(|line| line.split_once(':'));
    interfaces.filter(|(name, _)| name.trim() != "lo").fold(
        [0, 0],
        |[received, sent], (_, line)| {
            let field = |at: usize| line.split_ascii_whitespace().nth(at)?.parse::<u64>().ok();
            [received + field(0).unwrap_or(0), sent + field(8).unwrap_or(0)]
        },
    )
}

/// Returns what is free in a folder, in whole 64 MiB.
fn free(root: &Path) -> Bytes {
    let found = rustix::fs::statvfs(root);
    let bytes = found.map_or(0, |found| found.f_bavail.saturating_mul(found.f_frsize));
    Bytes::new(bytes >> 26 << 26)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_files_are_read_as_they_are() {
        let psi = "some avg10=12.86 avg60=1.00 avg300=0.10 total=1\nfull avg10=3.00 avg60=0 \
                   avg300=0 total=0\n";
        assert_eq!((some(psi), some(""), some("full avg10=1.00")), (Some(1_200), None, None));
        let zeros = " 0 0 0 0 0 0";
        let dev = format!(
            "Inter-|   Receive  |  Transmit\n face |bytes\n    lo: 9 1{zeros} 9 1{zeros}\n  \
             eth0: 100 2{zeros} 50 1{zeros}\n eth1:7 2{zeros} 5 1{zeros}\n"
        );
        assert_eq!(network(&dev), [107, 55]);
        assert_eq!(rate(Some(1_000), Some(41_500), 2_000), 20_000);
        // An interface that went away counts backwards; the first look has no time before it.
        assert_eq!((rate(Some(5), Some(1), 1_000), rate(Some(0), Some(9_000), 0)), (0, 0));
    }

    #[test]
    fn only_what_has_changed_is_said() {
        let (mut meter, folder) = (Meter::default(), std::env::temp_dir());
        assert!(meter.look(&folder).is_some_and(|vitals| vitals.disk_free.get() > 0));
        let same = meter.said.clone().map(|vitals| meter.say(vitals));
        assert_eq!(same, Some(None));
        meter.forget();
        assert!(meter.look(&folder).is_some());
    }
}
