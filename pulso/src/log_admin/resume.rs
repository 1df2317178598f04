//! `pulso log resume`: gives up records that cannot be read, and notes what was lost.

use pulso_domain::position::partition_place;
use pulso_ingestor_consumer::admin::skip;
use pulso_ingestor_consumer::halts::{self, Halts};
use pulso_platform::log::embedded::note_cuts;
use serde_json::{Value, json};

use super::{ResumeArgs, actor, fold_config, partition_of, refused};
use crate::cli::exit::{Exit, Failure, Outcome};
use crate::cli::output::{self, Format};
use crate::client::rest::entries;
use crate::dev::folder::{log_failure, log_folder};
use crate::roles::place::Place;

pub(super) fn run(args: &ResumeArgs, format: Format) -> Outcome {
    if args.note.trim().is_empty() {
        return Err(Failure::usage("say why with --note: the ledger keeps it for good"));
    }
    if args.partition.is_none()
        && let Some(mended) = args.elsewhere.mend(&args.note)?
    {
        return tell_mended(&mended, format);
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
    if place.folder().is_none() {
        must_be_halted(place, number)?;
    }
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

/// In a cluster someone may fold the partition right now: only one that has halted it does not.
fn must_be_halted(place: &Place, partition: u32) -> Result<(), Failure> {
    let halted = halts::read(&*place.store, partition).map_err(Failure::failed)?;
    let name = partition_place(partition);
    halted.map(drop).ok_or_else(|| {
        Failure::usage(format!(
            "partition {name} is not halted; nothing of it has to be given up, or start its consumer"
        ))
    })
}

/// What was given up and where the log goes on.
fn tell_mended(mended: &Value, format: Format) -> Outcome {
    let columns = ["partition", "generation", "from", "actor", "note", "reason"];
    output::rows(format, mended, entries(mended, "given_up"), &columns)?;
    let (generation, partitions) = (&mended["generation"], &mended["partitions"]);
    output::note(format!("the log goes on in generation {generation}, with {partitions} partitions"));
    output::note("start the consumers again: those that have halted say so until then");
    Ok(Exit::Ok)
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
