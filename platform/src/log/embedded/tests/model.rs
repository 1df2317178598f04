//! Random appends, clean ends and crashes against a model: a list of what was answered, per partition (G1).

use std::os::unix::fs::FileExt as _;

use bytes::Bytes;
use proptest::prelude::*;
use tempfile::TempDir;

use super::{config, forget_the_clean_end, groups, hand_out, last_segment, open, truncate};
use crate::log::Log;
use crate::log::conformance::{PARTITIONS, append};
use crate::log::embedded::{EmbeddedLog, EmbeddedLogConfig};

#[derive(Clone, Debug)]
enum Step {
    /// Appends a burst and waits for all answers.
    Append(Vec<(u32, usize)>),
    /// Ends cleanly.
    Close,
    /// Is killed while a group is on its way to the disk; so much of that group arrives, in per mille.
    Torn(u64),
    /// The power fails meanwhile: the group has its length, but from here on not its bytes.
    Unsynced(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let burst = prop::collection::vec((0..PARTITIONS, 0_usize..700), 1..8);
    prop_oneof![
        6 => burst.prop_map(Step::Append),
        1 => Just(Step::Close),
        2 => (0_u64..1000).prop_map(Step::Torn),
        1 => (0_u64..1000).prop_map(Step::Unsynced),
    ]
}

fn value(number: u64, length: usize) -> Vec<u8> {
    (0..length).map(|at| (number as usize * 31 + at).to_le_bytes()[0]).collect()
}

/// Leaves the folder as a crash does that comes while one more group is being written.
fn crash(config: &EmbeddedLogConfig, spoil: &Step) {
    let folder = config.folder.clone();
    let log = open(config);
    append(&*log, 0, &value(77, 300)).unwrap();
    log.close();
    drop(log);
    forget_the_clean_end(&folder);
    let path = last_segment(&folder);
    let number = path.file_stem().unwrap().to_str().unwrap().parse().unwrap();
    let groups = groups(&folder, number);
    let (begins, header) = groups.iter().rfind(|(_, header)| header.entries > 0).unwrap();
    let length = header.group_bytes();
    truncate(&path, begins + length);
    match spoil {
        Step::Torn(part) => truncate(&path, begins + length * part / 1000),
        Step::Unsynced(part) => {
            let from = length * part / 1000;
            let file = std::fs::File::options().read(true).write(true).open(&path).unwrap();
            let mut bytes = vec![0; usize::try_from(length - from).unwrap()];
            file.read_exact_at(&mut bytes, begins + from).unwrap();
            bytes.iter_mut().for_each(|byte| *byte ^= 0xff);
            file.write_all_at(&bytes, begins + from).unwrap();
        }
        Step::Append(_) | Step::Close => {}
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn g01_whatever_happens_exactly_what_was_answered_is_there(
        steps in prop::collection::vec(step(), 1..25),
        segment_bytes in prop_oneof![Just(1_u64), Just(2000), Just(1 << 30)],
    ) {
        let folder = TempDir::new().unwrap();
        let config = EmbeddedLogConfig { segment_bytes, ..config(&folder) };
        let mut log = Some(open(&config));
        let mut model: Vec<Vec<Vec<u8>>> = vec![Vec::new(); PARTITIONS as usize];
        let mut number = 0;
        for step in &steps {
            match step {
                Step::Append(burst) => {
                    let open = log.as_ref().unwrap();
                    let mut replies = Vec::new();
                    for (partition, length) in burst {
                        number += 1;
                        let value = value(number, *length);
                        replies.push(open.append(*partition, vec![Bytes::from(value.clone())]));
                        model[*partition as usize].push(value);
                    }
                    for reply in replies {
                        reply.blocking_recv().unwrap().unwrap();
                    }
                }
                Step::Close => drop(log.take()),
                Step::Torn(_) | Step::Unsynced(_) => {
                    drop(log.take());
                    crash(&config, step);
                }
            }
            if log.is_none() {
                log = Some(open(&config));
            }
        }
        let held = hand_out(&**log.as_ref().unwrap());
        prop_assert!(held.1.is_empty());
        compare(&held.0, &model)?;
        drop(log);
        let (looked_at, _) = EmbeddedLog::open_read_only(&config).unwrap();
        compare(&hand_out(&looked_at).0, &model)?;
    }
}

fn compare(held: &super::Records, model: &[Vec<Vec<u8>>]) -> Result<(), TestCaseError> {
    let records: usize = model.iter().map(|values| values.len() + 1).sum();
    prop_assert_eq!(held.len(), records);
    for (partition, values) in (0..).zip(model) {
        for (offset, value) in (1..).zip(values) {
            prop_assert_eq!(&held[&(partition, offset)].value, value);
        }
    }
    Ok(())
}
