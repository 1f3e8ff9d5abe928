//! What a job in the foreground reads: the standard input of this command, sent after it.

use gridlive::client::{Client, ClientError};
use std::io::Read;
use std::time::Duration;
use tokio::sync::{mpsc, watch};

/// Bytes of one part.
const PART: usize = 64 << 10;

/// Returns whether there is anything to read here: not where standard input is the null device.
pub(super) fn is_there() -> bool {
    let (null, here) = (std::fs::metadata("/dev/null"), std::fs::metadata("/dev/stdin"));
    use std::os::unix::fs::{FileTypeExt, MetadataExt};
    let (Ok(null), Ok(here)) = (null, here) else { return false };
    !(here.file_type().is_char_device() && here.rdev() == null.rdev())
}

/// Reads in a thread of its own, which may wait for ever; no part follows the end.
fn parts() -> mpsc::Receiver<Vec<u8>> {
    let (send, parts) = mpsc::channel(1);
    std::thread::spawn(move || {
        let mut bytes = vec![0; PART];
        loop {
            match std::io::stdin().lock().read(&mut bytes) {
                Ok(count) if count > 0 => {
                    let part = bytes.get(..count).unwrap_or_default().to_vec();
                    if send.blocking_send(part).is_err() {
                        return;
                    }
                }
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Ok(_) | Err(_) => return,
            }
        }
    });
    parts
}

/// Sends all that comes to the running attempt of a job, from when there is one.
///
/// # Errors
/// When what was sent is lost: another attempt, or another agent, cannot have it.
pub(super) async fn feed(
    client: Client,
    job: u64,
    mut attempt: watch::Receiver<u32>,
) -> anyhow::Result<()> {
    let mut parts = parts();
    let (mut at, mut of) = (0, 0);
    loop {
        let part = parts.recv().await;
        let last = part.is_none();
        let part = part.unwrap_or_default();
        let end = at + part.len() as u64;
        let mut rest = Duration::from_millis(5);
        loop {
            let now = *attempt.wait_for(|attempt| *attempt > 0).await?;
            anyhow::ensure!(at == 0 || now == of, "it was started anew, and has read a part");
            of = now;
            let left = usize::try_from(end - at).unwrap_or(0);
            let bytes = part.get(part.len() - left..).unwrap_or_default();
            let path = format!("/v1/jobs/{job}/input?attempt={of}&from={at}&last={last}");
            match client.put(&path, bytes).await {
                // Nobody reads yet, or any more: then it soon ends.
                Ok(answer) if answer["over"] == true => {}
                Ok(answer) => {
                    let taken = answer["at"].as_u64().unwrap_or(at);
                    anyhow::ensure!(taken >= at, "its node lost count of what it has read");
                    if last {
                        // The next attempt, if there is one, is to hear of the end, too.
                        attempt.wait_for(|attempt| *attempt > of).await?;
                        continue;
                    }
                    if taken > at {
                        rest = Duration::from_millis(5);
                    }
                    at = taken.min(end);
                }
                // Its node is away for a while.
                Err(ClientError::Refused(status, _)) if status.as_u16() == 504 => {}
                Err(error) => return Err(error.into()),
            }
            if at == end && !last {
                break;
            }
            tokio::time::sleep(rest).await;
            rest = (rest * 2).min(Duration::from_millis(500));
        }
    }
}
