//! `pulso log resume`: gives up records that cannot be read, and notes what was lost.

use pulso_ingestor_consumer::admin::skip;
use pulso_ingestor_consumer::halts::Halts;
use pulso_platform::log::Log;
use pulso_platform::log::embedded::note_cuts;
use serde_json::json;

use super::{ResumeArgs, actor, fold_config, partition_of, refused, shared_store};
use crate::cli::exit::{Exit, Failure, Outcome};
use crate::cli::output::{self, Format};
use crate::dev::folder::{DataFolder, log_failure, log_folder};

pub(super) fn run(args: &ResumeArgs, format: Format) -> Outcome {
    if args.note.trim().is_empty() {
        return Err(Failure::usage("say why with --note: the ledger keeps it for good"));
    }
    let folder = DataFolder::open_to_look(&args.folder.data_dir)?;
    match (args.partition, args.skip_to) {
        (Some(partition), Some(skip_to)) => skip_records(args, &folder, (partition, skip_to), format),
        _ => note_all_cuts(args, &folder, format),
    }
}

fn skip_records(args: &ResumeArgs, folder: &DataFolder, wish: (u32, u64), format: Format) -> Outcome {
    let (partition, skip_to) = wish;
    let number = partition_of(folder, args.generation, partition)?;
    let store = shared_store(folder);
    let config = fold_config(folder, number);
    let gap = skip(&*folder.log, &store, config, (skip_to, &args.note), &actor())
        .map_err(|error| refused(&error))?;
    Halts::default().clear(&*store, number);
    let done = json!({
        "partition": partition, "from": gap.from, "to": gap.to, "actor": gap.actor, "note": gap.note,
    });
    output::rows(format, &done, std::slice::from_ref(&done), &["partition", "from", "to", "actor", "note"])?;
    output::note(format!("{} records of partition {partition} are given up for good", gap.to - gap.from));
    Ok(Exit::Ok)
}

fn note_all_cuts(args: &ResumeArgs, folder: &DataFolder, format: Format) -> Outcome {
    let generation = folder.log.layout().generation;
    let note = format!("{}: {}", actor().name, args.note);
    let log = log_folder(&args.folder.data_dir);
    let mut noted = 0;
    for generation in 1..=generation {
        noted += note_cuts(&log, generation, &note).map_err(|error| log_failure(&error))?;
    }
    if noted == 0 {
        return Err(Failure::not_found(
            "no cut waits for a note; to skip records give --partition and --skip-to",
        ));
    }
    let done = json!({ "noted_cuts": noted });
    output::rows(format, &done, std::slice::from_ref(&done), &["noted_cuts"])?;
    Ok(Exit::Ok)
}
