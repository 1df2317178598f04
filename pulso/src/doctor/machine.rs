//! The machine: its clock, its disk, its ports.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};

use pulso_domain::time::Instant;
use pulso_platform::service::clock::Clock;

use super::Finding;

/// A clock before this has not been set: Pulso did not exist. 2025-01-01T00:00:00Z.
const CLOCK_SECONDS_MIN: i64 = 1_735_689_600;
/// What was written may lie this far ahead of the clock before the clock is told to have gone back.
const BACKWARD_SECONDS_MAX: i64 = 300;
/// With less room than this a busy server is full within minutes.
const ROOM_BYTES_MIN: u64 = 1 << 30;

/// The clock must be set, and must not lie behind what was written by it.
pub(super) fn clock(data_dir: &Path) -> Finding {
    let now = Clock::System.now();
    if now.seconds() < CLOCK_SECONDS_MIN {
        return Finding::fault("clock", format!("it says {now}"), "set the clock, for example by NTP");
    }
    match newest_seconds(data_dir) {
        Some(written) if written > now.seconds() + BACKWARD_SECONDS_MAX => {
            let written = Instant::new(written, 0).map_or_else(String::new, |instant| instant.to_string());
            let detail = format!("it says {now}, but the data folder was written at {written}");
            Finding::fault("clock", detail, "set the clock, for example by NTP, before the server starts")
        }
        _ => Finding::good("clock", now.to_string()),
    }
}

/// When the youngest file of the folder was written; `None` when there is none.
fn newest_seconds(folder: &Path) -> Option<i64> {
    let mut newest = None;
    let mut left: Vec<PathBuf> = vec![folder.to_owned()];
    while let Some(folder) = left.pop() {
        for entry in std::fs::read_dir(folder).ok()?.flatten() {
            let Ok(metadata) = entry.metadata() else { continue };
            if metadata.is_dir() {
                left.push(entry.path());
                continue;
            }
            newest = newest.max(Some(std::os::unix::fs::MetadataExt::mtime(&metadata)));
        }
    }
    newest
}

/// The disk must have room.
pub(super) fn disk(data_dir: &Path) -> Finding {
    let place = existing_parent(data_dir);
    let room = match rustix::fs::statvfs(&place) {
        Ok(stat) => stat.f_bavail.saturating_mul(stat.f_frsize),
        Err(error) => {
            let detail = format!("cannot ask for the room at {}: {error}", place.display());
            return Finding::fault("disk", detail, "choose another folder with --data-dir");
        }
    };
    let detail = format!("{} MiB free at {}", room >> 20, place.display());
    if room < ROOM_BYTES_MIN {
        return Finding::fault(
            "disk",
            detail,
            "make room, or choose a folder on another disk with --data-dir",
        );
    }
    Finding::good("disk", detail)
}

/// The nearest folder that is there.
fn existing_parent(path: &Path) -> PathBuf {
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    absolute.ancestors().find(|ancestor| ancestor.exists()).unwrap_or(Path::new("/")).to_owned()
}

/// The address must be free.
pub(super) fn port(name: &str, address: SocketAddr) -> Finding {
    let check = format!("port {name}");
    let detail = |what: &dyn std::fmt::Display| format!("{address}: {what}");
    match TcpListener::bind(address) {
        Ok(_) => Finding::good(&check, detail(&"free")),
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            let mend =
                format!("stop whoever holds it (perhaps a Pulso), or choose another with --{name}-addr");
            Finding::fault(&check, detail(&"taken"), mend)
        }
        Err(error) => {
            Finding::fault(&check, detail(&error), format!("choose another address with --{name}-addr"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_taken_port_is_a_fault_with_its_flag_and_a_free_one_is_not() {
        let holder = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = holder.local_addr().expect("bound");
        assert!(port("api", address).mend.is_some_and(|mend| mend.contains("--api-addr")));
        drop(holder);
        assert_eq!(port("api", address).mend, None);
    }

    #[test]
    fn a_folder_that_is_not_there_yet_is_judged_by_the_disk_it_will_be_on() {
        let folder = tempfile::tempdir().expect("a folder");
        assert_eq!(existing_parent(&folder.path().join("a/b")), folder.path());
    }
}
