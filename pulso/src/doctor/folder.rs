//! The data folder: who holds it, whether log and store can be read, and what of them waits for a note.

use std::path::Path;

use pulso_ingestor_consumer::lookup::load_state;
use pulso_platform::log::embedded::list_cuts;
use pulso_platform::log::{Log, LogError};
use pulso_platform::store::{Store, keys};

use super::Finding;
use crate::cli::exit::Exit;
use crate::dev::folder::{DataFolder, log_folder, store_folder};

/// Looks at log and store, when there are any and nobody holds them.
pub(super) fn look(data_dir: &Path) -> Vec<Finding> {
    if !log_folder(data_dir).is_dir() {
        return vec![absent(data_dir)];
    }
    if !store_folder(data_dir).is_dir() {
        let detail = "there is a log and no store";
        return vec![Finding::good("data folder", format!("{detail}: the next start folds the log again"))];
    }
    match DataFolder::open_to_look(data_dir) {
        Ok(folder) => opened(&folder, data_dir),
        Err(failure) if failure.exit == Exit::Usage => {
            vec![Finding::fault(
                "data folder",
                failure.sentence,
                "stop that process, or choose another --data-dir",
            )]
        }
        Err(failure) => {
            let mend = "restore log/ from a backup when it is damaged; a damaged store/ can be removed, it is folded again";
            vec![Finding::fault("data folder", failure.sentence, mend)]
        }
    }
}

fn absent(data_dir: &Path) -> Finding {
    let place = data_dir.display();
    match std::fs::metadata(data_dir) {
        Ok(metadata) if !metadata.is_dir() => {
            Finding::fault("data folder", format!("{place} is no folder"), "choose another with --data-dir")
        }
        Ok(metadata) if metadata.permissions().readonly() => {
            Finding::fault("data folder", format!("{place} cannot be written"), "change its permissions")
        }
        _ => Finding::good("data folder", format!("{place} holds nothing yet")),
    }
}

fn opened(folder: &DataFolder, data_dir: &Path) -> Vec<Finding> {
    let layout = folder.log.layout();
    let mut findings = vec![Finding::good(
        "log",
        format!(
            "generation {}, {} partitions, {} segments",
            layout.generation, layout.partitions, folder.report.segments
        ),
    )];
    findings.extend((1..=layout.generation).filter_map(|generation| cuts(data_dir, generation)));
    let partitions = folder.log.partitions().into_iter();
    findings.extend(partitions.filter_map(|partition| halted(&*folder.store, partition)));
    if findings.len() == 1 {
        findings.push(Finding::good("store", "can be read, no partition is halted"));
    }
    findings
}

fn cuts(data_dir: &Path, generation: u32) -> Option<Finding> {
    let unnoted = match list_cuts(&log_folder(data_dir), generation) {
        Ok(cuts) => cuts.iter().filter(|cut| cut.noted.is_none()).count(),
        Err(error) => return Some(damaged(&error)),
    };
    (unnoted > 0).then(|| {
        let mend = "find out whose pulses they were, then pulso log resume --note TEXT";
        Finding::fault("log", format!("{unnoted} cuts of perhaps acknowledged records have no note"), mend)
    })
}

fn damaged(error: &LogError) -> Finding {
    Finding::fault("log", error.to_string(), "restore it from a backup")
}

fn halted(store: &dyn Store, partition: u32) -> Option<Finding> {
    let check = format!("partition {partition}");
    let mend = "pulso log status says more; pulso log resume goes on";
    if let Err(stop) = load_state(store, partition) {
        return Some(Finding::fault(&check, stop.to_string(), mend));
    }
    match store.get(&[keys::halt(partition)]) {
        Ok(found) => {
            let cell = found.into_iter().flatten().find(|cell| !cell.value.is_empty())?;
            Some(Finding::fault(&check, format!("halted: {}", String::from_utf8_lossy(&cell.value)), mend))
        }
        Err(error) => Some(Finding::fault(&check, error.to_string(), mend)),
    }
}
