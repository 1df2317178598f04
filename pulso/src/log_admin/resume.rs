//! `pulso log resume`: gives up records that cannot be read, and notes what was lost.

use pulso_ingestor_consumer::admin::skip;
use pulso_ingestor_consumer::halts::Halts;
use pulso_platform::log::embedded::note_cuts;
use serde_json::json;

use super::{ResumeArgs, actor, fold_config, partition_of, refused};
use crate::cli::exit::{Exit, Failure, Outcome};
use crate::cli::output::{self, Format};
use crate::dev::folder::{log_failure, log_folder};
use crate::roles::place::Place;

pub(super) fn run(args: &ResumeArgs, format: Format) -> Outcome {
    if args.note.trim().is_empty() {
        return Err(Failure::usage("say why with --note: the ledger keeps it for good"));
    }
    let place = Place::open_to_mend(&args.folder, &args.elsewhere)?;
    match (args.partition, args.skip_to) {
        (Some(partition), Some(skip_to)) => skip_records(args, &place, (partition, skip_to), format)?,
        _ => note_all_cuts(args, &place, format)?,
    }
    place.close()?;
    Ok(Exit::Ok)
}

fn skip_records(args: &ResumeArgs, place: &Place, wish: (u32, u64), format: Format) -> Result<(), Failure> {
    let (partition, skip_to) = wish;
    let number = partition_of(place, args.generation, partition)?;
    let store = &place.store;
    let config = fold_config(place, number);
    let gap =
        skip(&*place.log, store, config, (skip_to, &args.note), &actor()).map_err(|error| refused(&error))?;
    Halts::default().clear(&**store, number);
    let done = json!({
        "partition": partition, "from": gap.from, "to": gap.to, "actor": gap.actor, "note": gap.note,
    });
    output::rows(format, &done, std::slice::from_ref(&done), &["partition", "from", "to", "actor", "note"])?;
    output::note(format!("{} records of partition {partition} are given up for good", gap.to - gap.from));
    Ok(())
}

fn note_all_cuts(args: &ResumeArgs, place: &Place, format: Format) -> Result<(), Failure> {
    let generation = place.log.layout().generation;
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
    output::rows(format, &done, std::slice::from_ref(&done), &["noted_cuts"])
}
