//! Damage to a data folder: bytes flipped, files cut, files swapped. Either it is told with its place, or the totals are
//! right; never a wrong total without complaint (G10).

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tempfile::TempDir;

use crate::bill;
use crate::record::Record;
use crate::senders::{Senders, Shared, settled};
use crate::server::{ALONE, Server, audit};

/// Flips tried. The tests of log and store flip a sample of all bytes in turn, and every byte with `PULSO_FLIP_STEP=1`.
const FLIPS: usize = 60;

/// A small folder that was left in order, and what is in it.
async fn small_folder() -> (TempDir, Record) {
    let folder = TempDir::new().expect("a folder");
    let shared = Arc::new(Shared::default());
    let server = Server::start(folder.path(), &[]);
    let senders = Senders::start(&shared, &server, [3]);
    while shared.record.lock().accepted.len() < 300 {
        tokio::task::yield_now().await;
    }
    senders.stop().await;
    let record = settled(&shared, &server).await;
    bill::drained(&server).await;
    assert!(server.terminate().success());
    (folder, record)
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.push(path);
        }
    }
    found.sort();
    found
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a folder");
    for entry in std::fs::read_dir(from).expect("a folder") {
        let entry = entry.expect("an entry");
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).expect("can be copied");
        }
    }
}

/// What became of a damaged folder.
#[derive(Debug)]
enum Ending {
    /// It did not start, or a partition halted, or the audit complained; what was said.
    Told(String),
    /// Everything is right.
    Harmless,
}

/// Starts on a damaged folder. Totals that are served without any complaint must be right.
async fn try_folder(folder: &Path, record: &Record) -> Ending {
    let server = match Server::try_start(folder, &[]) {
        Err(said) => return Ending::Told(said),
        Ok(server) => server,
    };
    for _ in 0..200 {
        let (status, ledger) = server.get("/v1/ledger").await;
        if status != 200 {
            return Ending::Told(ledger.to_string());
        }
        let partitions = ledger["partitions"].as_array().expect("partitions");
        if let Some(halted) = partitions.iter().find(|one| one["state"] == "halted") {
            return Ending::Told(halted.to_string());
        }
        if partitions.iter().all(|one| one["end_offset"] == one["folded_offset"]) {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    // A torn journal of the store is no loss: its end is folded again from the log. A cut of the log is another matter.
    let of_the_log = |line: &&String| line.contains("cut") && !line.contains("the store's journal");
    let cut = server.heard(|heard| heard.tail.iter().find(of_the_log).cloned());
    if let Some(line) = cut {
        // A cut of what was acknowledged is told at the start and keeps the audit red.
        server.terminate();
        let audit = audit(folder);
        assert!(!audit.status.success(), "a cut that nobody noted: {line}");
        return Ending::Told(line);
    }
    bill::compare(&server, record).await;
    Ending::Harmless
}

/// What is said must name a place: a file or folder of the data, a partition, or both logs.
fn assert_told(said: &str, what: &str) {
    assert!(said.len() > 20 && !said.contains("panicked"), "{what}: {said:?}");
    let names_a_place =
        ["/log", "/store", "partition", "it was made from log"].iter().any(|place| said.contains(place));
    assert!(names_a_place, "{what}: no place is named in {said:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn g10_a_flipped_byte_is_told_or_harmless() {
    let _alone = ALONE.lock().await;
    let (good, record) = small_folder().await;
    let files = files(good.path());
    let mut dice = ChaCha8Rng::seed_from_u64(10);
    let (mut told, mut harmless) = (0, 0);
    for _ in 0..FLIPS {
        let name =
            files[dice.random_range(0..files.len())].strip_prefix(good.path()).expect("inside").to_owned();
        let folder = TempDir::new().expect("a folder");
        copy(good.path(), folder.path());
        let path = folder.path().join(&name);
        let mut bytes = std::fs::read(&path).expect("readable");
        if bytes.is_empty() {
            continue;
        }
        let place = dice.random_range(0..bytes.len());
        bytes[place] ^= 1 << dice.random_range(0..8);
        std::fs::write(&path, bytes).expect("writable");
        match try_folder(folder.path(), &record).await {
            Ending::Told(said) => {
                assert_told(&said, &format!("byte {place} of {}", name.display()));
                told += 1;
            }
            Ending::Harmless => harmless += 1,
        }
    }
    println!("{told} flips were told, {harmless} harmless");
    assert!(told > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn g10_a_cut_file_is_told_or_harmless() {
    let _alone = ALONE.lock().await;
    let (good, record) = small_folder().await;
    for path in files(good.path()) {
        let name = path.strip_prefix(good.path()).expect("inside").to_owned();
        let folder = TempDir::new().expect("a folder");
        copy(good.path(), folder.path());
        let path = folder.path().join(&name);
        let bytes = std::fs::read(&path).expect("readable");
        std::fs::write(&path, &bytes[..bytes.len() / 2]).expect("writable");
        if let Ending::Told(said) = try_folder(folder.path(), &record).await {
            assert_told(&said, &format!("half of {}", name.display()));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn g10_a_log_of_another_folder_is_told() {
    let _alone = ALONE.lock().await;
    let (good, record) = small_folder().await;
    let (other, _) = small_folder().await;
    let folder = TempDir::new().expect("a folder");
    copy(good.path(), folder.path());
    std::fs::remove_dir_all(folder.path().join("log")).expect("the log is a folder");
    copy(&other.path().join("log"), &folder.path().join("log"));
    match try_folder(folder.path(), &record).await {
        Ending::Told(said) => assert_told(&said, "the log of another folder"),
        Ending::Harmless => panic!("another log was taken for its own"),
    }
}
