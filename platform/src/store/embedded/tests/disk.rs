//! A full disk: flushes fail, reads go on, and when there is room again flushes do too.

use std::io::Write;
use std::process::Command;

use super::*;

/// A small file system in memory. It is mounted, so this needs root, or a name space whose root it is; without it the test fails.
struct SmallDisk {
    folder: tempfile::TempDir,
}

impl SmallDisk {
    fn mount(mebibytes: u32) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mount = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={mebibytes}m"), "tmpfs"])
            .arg(folder.path())
            .status()
            .unwrap();
        assert!(mount.success(), "this test mounts a small tmpfs: run it by `make test`, or as root");
        Self { folder }
    }

    fn fill(&self) {
        let mut filler = fs::File::create(self.folder.path().join("filler")).unwrap();
        for size in [1 << 20, 4096, 1] {
            while filler.write_all(&vec![1; size]).is_ok() {}
        }
    }

    fn free(&self) {
        fs::remove_file(self.folder.path().join("filler")).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let unmounted = Command::new("umount").arg(self.folder.path()).status().unwrap();
        assert!(unmounted.success(), "the file system can be unmounted");
    }
}

fn flush_of(round: u64) -> Flush {
    let row = (Key::new(Table::Usage, "t", (round % 7).to_be_bytes()), cell(round, vec![round as u8; 900]));
    let progress = (Key::new(Table::Progress, "p", "progress"), cell(round, round.to_be_bytes()));
    Flush { cells: vec![row], checkpoint: vec![progress], ..Flush::default() }
}

#[test]
fn g12_on_a_full_disk_flushes_fail_and_reads_go_on_until_there_is_room_again() {
    let disk = SmallDisk::mount(24);
    let path = disk.folder.path().join("store");
    let store = open(&path).unwrap();
    let progress = Key::new(Table::Progress, "p", "progress");
    let reads = |store: &EmbeddedStore| {
        let cell = store.get(std::slice::from_ref(&progress)).unwrap().remove(0);
        cell.map_or(0, |cell| cell.version)
    };
    let mut done = 0;
    for cycle in 1..=3_u64 {
        for round in done + 1..=done + 20 {
            assert_eq!(store.flush(flush_of(round)).unwrap(), Flushed::Done);
        }
        done += 20;
        disk.fill();
        let refused = (done + 1..done + 100_000).find_map(|round| store.flush(flush_of(round)).err());
        let error = refused.expect("a full disk refuses a flush");
        assert!(matches!(error, StoreError::Unavailable(_)), "{error}");
        let last = reads(&store);
        assert!(last >= done, "what was flushed is read: {last} and {done}");
        for _ in 0..3 {
            let error = store.flush(flush_of(last + 1)).unwrap_err();
            assert!(error.is_retryable() && error.to_string().contains("full"), "{error}");
            assert_eq!(reads(&store), last, "in cycle {cycle}");
        }
        disk.free();
        assert_eq!(store.flush(flush_of(last + 1)).unwrap(), Flushed::Done);
        done = last + 1;
        assert_eq!(reads(&store), done);
    }
    drop(store);
    assert_eq!(reads(&open(&path).unwrap()), done);
}

/// Bytes that do not compress.
fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    };
    (0..length).map(|_| next()).collect()
}

#[test]
fn g12_a_table_that_finds_no_room_loses_nothing() {
    // Room for the journal of 40 MiB, and not for the table that is made of it behind the writer's back.
    let disk = SmallDisk::mount(110);
    fs::write(disk.folder.path().join("filler"), vec![1; 55 << 20]).unwrap();
    let path = disk.folder.path().join("store");
    let store = open(&path).unwrap();
    let key = |round: u64| Key::new(Table::Usage, "t", round.to_be_bytes());
    let flush =
        |round: u64| Flush { cells: vec![(key(round), cell(1, noise(round, 32 << 10)))], ..Flush::default() };
    let mut done = 0;
    let mut refused = false;
    for round in 1..=100_000 {
        match store.flush(flush(round)) {
            Ok(_) => done = round,
            Err(error) => {
                assert!(error.is_retryable(), "{error}");
                refused = true;
                break;
            }
        }
    }
    assert!(refused && done > 800, "refused after {done}");
    let all_there = |store: &EmbeddedStore| {
        for round in 1..=done {
            let expected = cell(1, noise(round, 32 << 10));
            assert!(store.get(&[key(round)]).unwrap() == [Some(expected)], "row {round} of {done}");
        }
    };
    all_there(&store);
    disk.free();
    let again = (0..1000).any(|_| store.flush(flush(done + 1)).is_ok());
    assert!(again, "flushes go on when there is room");
    all_there(&store);
    drop(store);
    all_there(&open(&path).unwrap());
}
