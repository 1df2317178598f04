//! A full disk: acks stop, reads go on, service resumes by itself when space returns, nothing is lost (G12).

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::bill;
use crate::senders::{Senders, Shared, settled};
use crate::server::{ALONE, SOON, Server, audit};

/// A small disk in memory, unmounted with the test.
struct SmallDisk {
    folder: TempDir,
}

impl SmallDisk {
    fn mount() -> Self {
        let folder = TempDir::new().expect("a folder");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=192m", "tmpfs"])
            .arg(folder.path())
            .status()
            .expect("mount can be run");
        assert!(mounted.success(), "this test mounts a small tmpfs: run it by `make test`, or as root");
        Self { folder }
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// Takes nearly all space that is left.
    fn fill(&self) -> PathBuf {
        let ballast = self.folder.path().join("ballast");
        let disk = rustix::fs::statvfs(self.folder.path()).expect("a mount");
        let free = disk.f_bavail * disk.f_frsize;
        let mut file = std::fs::File::create(&ballast).expect("there is space");
        let block = vec![1_u8; 64 << 10];
        for _ in 0..free.saturating_sub(256 << 10) / (64 << 10) {
            if std::io::Write::write_all(&mut file, &block).is_err() {
                break;
            }
        }
        ballast
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.folder.path()).status();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn g12_a_full_disk_stops_acks_and_loses_nothing() {
    let _alone = ALONE.lock().await;
    let disk = SmallDisk::mount();
    let shared = Arc::new(Shared::default());
    let server = Server::start(&disk.data(), &[]);
    let senders = Senders::start(&shared, &server, [1]);
    wait_until("some pulses are accepted", || shared.record.lock().accepted.len() > 500);
    let ballast = disk.fill();
    wait_until("acks stop", || stalled(&shared));
    assert_eq!(server.ready_status().await, 503, "not ready while the disk is full");
    let (status, body) = server.get("/v1/tenants/tenant-0/usage?granularity=month").await;
    assert_eq!(status, 200, "reads go on: {body}");
    std::fs::remove_file(ballast).expect("the ballast can go");
    let before = shared.record.lock().accepted.len();
    wait_until("acks resume", || shared.record.lock().accepted.len() > before + 100);
    senders.stop().await;
    bill::compare(&server, &settled(&shared, &server).await).await;
    assert_eq!(server.ready_status().await, 200, "ready again");
    assert!(server.terminate().success());
    assert_audit(&disk.data());
}

/// Nothing was accepted for a while, and sendings fail.
fn stalled(shared: &Shared) -> bool {
    let look = || {
        let record = shared.record.lock();
        (record.accepted.len(), record.unanswered)
    };
    let (accepted, unanswered) = look();
    std::thread::sleep(Duration::from_millis(500));
    let (accepted_later, unanswered_later) = look();
    accepted_later == accepted && unanswered_later > unanswered
}

fn wait_until(what: &str, mut happened: impl FnMut() -> bool) {
    let since = Instant::now();
    while !happened() {
        assert!(since.elapsed() < SOON, "{what}: not within {SOON:?}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn assert_audit(folder: &Path) {
    let audit = audit(folder);
    assert!(audit.status.success(), "{audit:?}");
}
