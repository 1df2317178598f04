//! `pulso audit`: re-adds the archive of a data folder that no server holds, or of a cluster, and compares it with every
//! total.
//!
//! The proof itself is `pulso_ingestor_consumer::audit`; this is the place around it and what people read.

use std::path::Path;

use pulso_domain::fingerprint::HashKey;
use pulso_domain::position::partition_place;
use pulso_ingestor_consumer::archive::Archive;
use pulso_ingestor_consumer::audit::{AuditReport, Step, audit};
use pulso_ingestor_consumer::fold::halt::Stop;
use pulso_platform::log::Log;
use pulso_platform::log::embedded::{RecordedCut, list_cuts};
use pulso_platform::service::settings::{DataSettings, parse_size};
use serde_json::{Value, json};

use crate::cli::exit::{Exit, Failure, Outcome};
use crate::cli::output::{self, Format};
use crate::cli::progress;
use crate::dev::folder::{log_failure, log_folder};
use crate::roles::built::Elsewhere;
use crate::roles::place::Place;

/// Flags of `pulso audit`.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Exit 0 when every total is what the archive adds up to and every pulse has one fate; exit 1 with the first differences
when not, and while a cut of acknowledged data or a skipped gap has no note. Exit 2 when a server holds the folder.
A cluster may go on while it is audited: rows that are written meanwhile are counted as moving and not compared.

Examples:
  pulso audit
  pulso audit --data-dir /var/lib/pulso --output json
  pulso audit --kafka-brokers 127.0.0.1:9092 --cql-nodes 127.0.0.1:9042 --memory-max 256MiB")]
pub struct AuditArgs {
    /// The data folder; no server may hold it.
    #[command(flatten)]
    pub data: DataSettings,
    /// Most memory for what is added up, about; with less the archive is read more often
    #[arg(long, env = "PULSO_MEMORY_MAX", value_name = "SIZE", default_value = "1GiB", value_parser = parse_size)]
    pub memory_max: u64,
    /// The cluster, instead of a data folder.
    #[command(flatten)]
    pub elsewhere: Elsewhere,
}

/// Audits the folder.
///
/// # Errors
/// When the folder is in use, or cannot be read.
pub fn run(args: &AuditArgs, format: Format) -> Outcome {
    let place = Place::open(&args.data, &args.elsewhere)?;
    let cuts = match place.folder() {
        Some(folder) => all_cuts(&log_folder(&args.data.data_dir), folder.log.layout().generation)?,
        None => Vec::new(),
    };
    let report = re_add(&place.archive(), place.hash_key, args.memory_max)?;
    let unnoted: Vec<&RecordedCut> = cuts.iter().filter(|cut| cut.noted.is_none()).collect();
    print(format, &report, &unnoted)?;
    Ok(if report.is_clean() && unnoted.is_empty() { Exit::Ok } else { Exit::Failed })
}

/// The cuts of every generation.
fn all_cuts(log: &Path, newest: u32) -> Result<Vec<RecordedCut>, Failure> {
    let mut cuts = Vec::new();
    for generation in 1..=newest {
        cuts.extend(list_cuts(log, generation).map_err(|error| log_failure(&error))?);
    }
    Ok(cuts)
}

/// Audits with a bar on stderr.
fn re_add(archive: &Archive<'_>, hash_key: HashKey, memory_max: u64) -> Result<AuditReport, Failure> {
    let bar = progress::bar(None, "re-adding the archive");
    let step = |step: Step| {
        bar.set_length(step.end * step.slices);
        bar.set_position(step.end * step.slice + step.offset);
        bar.set_message(format!("partition {}", partition_place(step.partition)));
    };
    let memory_max = usize::try_from(memory_max).unwrap_or(usize::MAX);
    let report = audit(archive, hash_key, memory_max, step).map_err(|stop| stopped(&stop));
    bar.finish_and_clear();
    report
}

fn stopped(stop: &Stop) -> Failure {
    Failure::failed(format!("the audit cannot go on: {stop}"))
}

fn print(format: Format, report: &AuditReport, unnoted: &[&RecordedCut]) -> Result<(), Failure> {
    let row = json!({
        "records": report.records,
        "pulses": report.pulses,
        "rows": report.rows,
        "moving_rows": report.moving_rows,
        "difference_count": report.difference_count,
        "unnoted_gaps": report.unnoted_gaps,
        "unnoted_cuts": unnoted.len(),
    });
    let mut document = row.clone();
    document["differences"] = json!(report.differences);
    document["cuts"] = unnoted.iter().map(|cut| json!(cut)).collect::<Value>();
    let columns = ["records", "pulses", "rows", "difference_count", "unnoted_gaps", "unnoted_cuts"];
    output::rows(format, &document, &[row], &columns)?;
    for difference in &report.differences {
        output::note(format!("difference: {difference}"));
    }
    for RecordedCut { cut, .. } in unnoted {
        let (file, byte, bytes, detail) = (&cut.file, cut.byte, cut.bytes, &cut.detail);
        output::note(format!(
            "cut: {bytes} bytes of {file} from byte {byte} on, perhaps acknowledged ({detail}); \
             find the senders and note it with log resume --note"
        ));
    }
    if report.unnoted_gaps > 0 {
        output::note("gap: records were skipped and nobody noted why; note it with log resume --note");
    }
    Ok(())
}
