//! Damage to the files: what is served afterwards is right, or an older state that was, or an error; never a wrong value.

use std::path::PathBuf;

use super::*;

/// Writes what is in memory into table files.
pub(super) fn write_tables(store: &EmbeddedStore) {
    for (_, keyspace) in store.opened().unwrap().as_ref().unwrap().keyspaces() {
        keyspace.rotate_memtable_and_wait().unwrap();
    }
}

fn partitions() -> Vec<(Table, Vec<u8>)> {
    vec![(Table::Usage, b"t".to_vec()), (Table::Runs, b"r".to_vec()), (Table::Progress, b"p".to_vec())]
}

/// A small store with table files and a journal, and every state it was in, the empty one first.
fn build(path: &Path) -> Vec<State> {
    let store = open(path).unwrap();
    let mut states = vec![State::new()];
    for round in 1..=6_u64 {
        let row = |n: u64| Key::new(Table::Usage, "t", n.to_be_bytes());
        let run = |n: u64| Key::new(Table::Runs, "r", n.to_be_bytes());
        let flush = Flush {
            cells: vec![
                (row(round % 3), cell(round, format!("row {round}"))),
                (row(9), cell(round, format!("nine {round}"))),
                (run(round), cell(round, format!("run {round}"))),
            ],
            checkpoint: vec![(
                Key::new(Table::Progress, "p", "progress"),
                cell(round, format!("at {round}")),
            )],
            removals: vec![(run(round.saturating_sub(2)), round)],
            ..Flush::default()
        };
        assert_eq!(store.flush(flush).unwrap(), Flushed::Done);
        states.push(read_all(&store, &partitions()).unwrap());
        if round == 2 || round == 4 {
            write_tables(&store);
        }
    }
    drop(store);
    // The journal's preallocated rest goes with the next start, so that the folder is small.
    drop(open(path).unwrap());
    states
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found.sort();
    found
}

/// What came of a damaged store: the index of the state it is in, or that an error said so.
fn judge(path: &Path, states: &[State], what: &str) -> Option<usize> {
    let store = open(path).ok()?;
    let found = read_all(&store, &partitions()).ok()?;
    let state = states.iter().position(|state| *state == found);
    assert!(state.is_some(), "{what}: a wrong state is served: {found:#?}");
    state
}

/// Damages a copy of the folder in one file and judges it.
fn damaged(folder: &Path, states: &[State], file: &Path, damage: &dyn Fn(&mut Vec<u8>)) -> Option<usize> {
    let copy = tempfile::tempdir().unwrap();
    copy_folder(folder, copy.path());
    let target = copy.path().join(file);
    let mut bytes = fs::read(&target).unwrap();
    damage(&mut bytes);
    fs::write(&target, &bytes).unwrap();
    judge(copy.path(), states, &file.display().to_string())
}

#[test]
fn g10_a_flipped_byte_anywhere_serves_no_wrong_value() {
    let folder = tempfile::tempdir().unwrap();
    let states = build(folder.path());
    // A prime step takes another byte of each structure in each file; PULSO_FLIP_STEP=1 flips every byte.
    let step = std::env::var("PULSO_FLIP_STEP").map_or(31, |step| step.parse().unwrap());
    let (mut flips, mut told, mut older) = (0, 0, 0);
    for path in files(folder.path()) {
        let file = path.strip_prefix(folder.path()).unwrap();
        for offset in (0..fs::read(&path).unwrap().len()).step_by(step) {
            let flip = |bytes: &mut Vec<u8>| bytes[offset] ^= 1 << (offset % 8);
            let state = damaged(folder.path(), &states, file, &flip);
            flips += 1;
            told += usize::from(state.is_none());
            older += usize::from(state.is_some_and(|state| state + 1 < states.len()));
        }
    }
    println!("{flips} flips: {told} told, {older} served an older state, the rest the right one");
    assert!(flips > 50 && told > 0 && older > 0);
}

#[test]
fn g10_a_file_cut_anywhere_serves_no_wrong_value() {
    let folder = tempfile::tempdir().unwrap();
    let states = build(folder.path());
    for path in files(folder.path()) {
        let file = path.strip_prefix(folder.path()).unwrap();
        let length = fs::read(&path).unwrap().len();
        for cut in [0, 1, length / 4, length / 2, length.saturating_sub(1)] {
            damaged(folder.path(), &states, file, &|bytes| bytes.truncate(cut));
        }
    }
}

#[test]
fn g10_swapped_files_serve_no_wrong_value() {
    let folder = tempfile::tempdir().unwrap();
    let states = build(folder.path());
    let files = files(folder.path());
    for (n, left) in files.iter().enumerate() {
        for right in &files[n + 1..] {
            let copy = tempfile::tempdir().unwrap();
            copy_folder(folder.path(), copy.path());
            let at = |path: &Path| copy.path().join(path.strip_prefix(folder.path()).unwrap());
            fs::copy(left, at(right)).unwrap();
            fs::copy(right, at(left)).unwrap();
            judge(copy.path(), &states, &format!("{} for {}", left.display(), right.display()));
        }
    }
}

fn newest_journal(folder: &Path) -> PathBuf {
    let mut journals = files(folder);
    journals.retain(|path| path.extension().is_some_and(|extension| extension == "jnl"));
    journals.pop().unwrap()
}

#[test]
fn g09_a_torn_tail_of_the_journal_gives_an_older_state_and_no_error() {
    let folder = tempfile::tempdir().unwrap();
    let states = build(folder.path());
    let path = newest_journal(folder.path());
    let file = path.strip_prefix(folder.path()).unwrap();
    let length = fs::read(&path).unwrap().len();
    // The first four flushes are in table files, so that no cut can go below the state of the fourth.
    let mut seen = Vec::new();
    for lost in (0..length).step_by(5) {
        let tail = length - lost;
        // A page that never got to the disk is zero, also with later pages there.
        let zeroed = damaged(folder.path(), &states, file, &|bytes| {
            let end = (tail + 40).min(bytes.len());
            bytes[tail..end].fill(0);
        });
        let cut = damaged(folder.path(), &states, file, &|bytes| bytes.truncate(tail));
        if cut.is_none() {
            break;
        }
        seen.extend(cut);
        seen.extend(zeroed);
    }
    seen.sort_unstable();
    seen.dedup();
    assert_eq!(seen, [4, 5, 6], "the states that were seen");
}

#[test]
fn g10_a_sequence_number_that_was_changed_is_found() {
    let folder = tempfile::tempdir().unwrap();
    let states = build(folder.path());
    let path = newest_journal(folder.path());
    let bytes = fs::read(&path).unwrap();
    let starts: Vec<usize> = (5..bytes.len() - 9)
        .filter(|offset| bytes[*offset..].starts_with(b"FJL\x03\x01"))
        .map(|trailer| trailer + 4)
        .collect();
    assert!(starts.len() >= 4, "{starts:?}");
    let file = path.strip_prefix(folder.path()).unwrap();
    for start in starts {
        for bit in 0..64 {
            damaged(folder.path(), &states, file, &|bytes| bytes[start + 5 + bit / 8] ^= 1 << (bit % 8));
        }
    }
}

#[test]
fn g10_a_damaged_older_journal_is_told_and_not_skipped() {
    let folder = tempfile::tempdir().unwrap();
    build(folder.path());
    let path = newest_journal(folder.path());
    let bytes = fs::read(&path).unwrap();
    let half = bytes.windows(5).position(|window| window == b"FJL\x03\x01").unwrap() + 4;
    // The same flushes, cut into two journals at the border of a flush.
    let next = folder.path().join("7.jnl");
    fs::write(&next, &bytes[half..]).unwrap();
    fs::write(&path, &bytes[..half]).unwrap();
    journal::check(folder.path()).unwrap();
    for damage in [&bytes[..half - 1], &bytes[..0]] {
        fs::write(&path, damage).unwrap();
        let error = journal::check(folder.path()).unwrap_err();
        assert!(
            matches!(&error, StoreError::Damaged { place, .. } if *place == path.display().to_string()),
            "{error}"
        );
        assert!(error.to_string().contains(REBUILD), "{error}");
    }
}
