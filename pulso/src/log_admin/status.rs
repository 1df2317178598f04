//! `pulso log status`: each partition's place, its counts, and what is wrong with it.

use pulso_domain::position::{partition_generation, partition_index};
use pulso_ingestor_consumer::{halts, lookup};
use pulso_platform::log::Watermarks;
use serde_json::{Value, json};

use super::StatusArgs;
use crate::cli::exit::{Exit, Failure, Outcome};
use crate::cli::output::{self, Format};
use crate::client::rest::{Query, Rest, entries};
use crate::dev::folder::{log_folder, store_failure};
use crate::roles::place::Place;

const COLUMNS: [&str; 10] = [
    "partition",
    "generation",
    "start_offset",
    "end_offset",
    "folded_offset",
    "counted",
    "duplicate",
    "conflict",
    "dead_lettered",
    "state",
];

pub(super) fn run(args: &StatusArgs, format: Format) -> Outcome {
    let document = match Place::open_to_mend(&args.folder, &args.elsewhere) {
        Ok(place) => offline(&place)?,
        // A server holds the folder, and knows it better.
        Err(failure) if failure.exit == Exit::Usage && args.is_about_folder() => {
            online(&args.server.api).map_err(|_| failure)?
        }
        Err(failure) => return Err(failure),
    };
    let partitions = entries(&document, "partitions");
    output::rows(format, &document, partitions, &COLUMNS)?;
    for partition in partitions {
        let place = format!("partition {} of generation {}", partition["partition"], partition["generation"]);
        if let Some(reason) = partition.get("halt_reason").and_then(Value::as_str) {
            output::note(format!("{place} is halted: {reason}"));
        }
        if let Some(error) = partition.get("log_error").and_then(Value::as_str) {
            output::note(format!("{place} cannot be looked at: {error}"));
        }
    }
    Ok(Exit::Ok)
}

impl StatusArgs {
    fn is_about_folder(&self) -> bool {
        !self.elsewhere.is_meant() && log_folder(&self.folder.data_dir).is_dir()
    }
}

fn online(api: &str) -> Result<Value, Failure> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(Failure::failed)?;
    runtime.block_on(Rest::new(api)?.get("/v1/ledger", &Query::new()))
}

fn offline(place: &Place) -> Result<Value, Failure> {
    let partitions = place.log.partitions().into_iter();
    let partitions = partitions.map(|partition| partition_status(place, partition));
    Ok(json!({ "partitions": partitions.collect::<Result<Vec<_>, _>>()? }))
}

fn partition_status(place: &Place, partition: u32) -> Result<Value, Failure> {
    let state = lookup::load_state(&*place.store, partition).map_err(Failure::failed)?;
    let halt = halts::read(&*place.store, partition).map_err(|error| store_failure(&error))?;
    // Asked after the state, so that it is never below what is folded. Where the rest is given up, what there is is no matter.
    let marks = match &state {
        Some(state) if state.is_given_up() => Ok(Watermarks { start_offset: 0, end_offset: state.offset }),
        _ => place.log.watermarks(partition),
    };
    let counts = state.as_ref().map(|state| state.counts).unwrap_or_default();
    let gaps = state
        .iter()
        .flat_map(|state| &state.gaps)
        .map(|gap| json!({ "from": gap.from, "to": gap.to, "actor": gap.actor, "note": gap.note, "rest": gap.rest }));
    let mut status = json!({
        "partition": partition_index(partition),
        "generation": partition_generation(partition),
        "start_offset": marks.as_ref().ok().map(|marks| marks.start_offset),
        "end_offset": marks.as_ref().ok().map(|marks| marks.end_offset),
        "folded_offset": state.as_ref().map_or(0, |state| state.offset),
        "counted": counts.counted,
        "duplicate": counts.duplicate,
        "conflict": counts.conflict,
        "dead_lettered": counts.dead_lettered,
        "moved": counts.moved,
        "state": if halt.is_some() { "halted" } else { "ok" },
        "halt_reason": halt,
        "gaps": gaps.collect::<Vec<_>>(),
    });
    if let Err(error) = marks {
        status["log_error"] = json!(error.to_string());
    }
    Ok(status)
}
