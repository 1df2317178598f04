//! `pulso log status`: each partition's place, its counts, and what is wrong with it.

use pulso_domain::position::{partition_generation, partition_index};
use pulso_ingestor_consumer::{halts, lookup};
use pulso_platform::log::Log;
use serde_json::{Value, json};

use super::StatusArgs;
use crate::cli::exit::{Exit, Failure, Outcome};
use crate::cli::output::{self, Format};
use crate::client::rest::{Query, Rest, entries};
use crate::dev::folder::{DataFolder, log_failure, log_folder, store_failure};

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
    let data_dir = &args.folder.data_dir;
    let document = match DataFolder::open_to_look(data_dir) {
        Ok(folder) => offline(&folder)?,
        // A server holds the folder, and knows it better.
        Err(failure) if failure.exit == Exit::Usage && log_folder(data_dir).is_dir() => {
            online(&args.server.api).map_err(|_| failure)?
        }
        Err(failure) => return Err(failure),
    };
    let partitions = entries(&document, "partitions");
    output::rows(format, &document, partitions, &COLUMNS)?;
    for partition in partitions {
        if let Some(reason) = partition.get("halt_reason").and_then(Value::as_str) {
            output::note(format!("partition {} is halted: {reason}", partition["partition"]));
        }
    }
    Ok(Exit::Ok)
}

fn online(api: &str) -> Result<Value, Failure> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(Failure::failed)?;
    runtime.block_on(Rest::new(api)?.get("/v1/ledger", &Query::new()))
}

fn offline(folder: &DataFolder) -> Result<Value, Failure> {
    let partitions = folder.log.partitions().into_iter();
    let partitions = partitions.map(|partition| partition_status(folder, partition));
    Ok(json!({ "partitions": partitions.collect::<Result<Vec<_>, _>>()? }))
}

fn partition_status(folder: &DataFolder, partition: u32) -> Result<Value, Failure> {
    let marks = folder.log.watermarks(partition).map_err(|error| log_failure(&error))?;
    let halt = halts::read(&*folder.store, partition).map_err(|error| store_failure(&error))?;
    let state = lookup::load_state(&*folder.store, partition).map_err(Failure::failed)?;
    let counts = state.as_ref().map(|state| state.counts).unwrap_or_default();
    let gaps = state
        .iter()
        .flat_map(|state| &state.gaps)
        .map(|gap| json!({ "from": gap.from, "to": gap.to, "actor": gap.actor, "note": gap.note }));
    Ok(json!({
        "partition": partition_index(partition),
        "generation": partition_generation(partition),
        "start_offset": marks.start_offset,
        "end_offset": marks.end_offset,
        "folded_offset": state.as_ref().map_or(0, |state| state.offset),
        "counted": counts.counted,
        "duplicate": counts.duplicate,
        "conflict": counts.conflict,
        "dead_lettered": counts.dead_lettered,
        "moved": counts.moved,
        "state": if halt.is_some() { "halted" } else { "ok" },
        "halt_reason": halt,
        "gaps": gaps.collect::<Vec<_>>(),
    }))
}
