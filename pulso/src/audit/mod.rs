//! `pulso audit`: re-adds the archive of a data folder and compares it with every total, offline.
//!
//! The proof itself is `pulso_ingestor_consumer::audit`; this is the folder around it and what people read.

use pulso_ingestor_consumer::audit::{AuditReport, audit};
use pulso_ingestor_consumer::fold::halt::Stop;
use pulso_platform::log::Log;
use pulso_platform::log::embedded::{RecordedCut, list_cuts};
use pulso_platform::service::settings::DataSettings;
use serde_json::{Value, json};

use crate::cli::exit::{Exit, Failure, Outcome};
use crate::cli::output::{self, Format};
use crate::cli::progress;
use crate::dev::folder::{DataFolder, log_failure, log_folder};

/// Flags of `pulso audit`.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Exit 0 when every total is what the archive adds up to and every pulse has one fate; exit 1 with the first differences
when not, and while a cut of acknowledged data or a skipped gap has no note. Exit 2 when a server holds the folder.

Examples:
  pulso audit
  pulso audit --data-dir /var/lib/pulso --output json")]
pub struct AuditArgs {
    /// The data folder; no server may hold it.
    #[command(flatten)]
    pub data: DataSettings,
}

/// Audits the folder.
///
/// # Errors
/// When the folder is in use, or cannot be read.
pub fn run(args: &AuditArgs, format: Format) -> Outcome {
    let folder = DataFolder::open_to_look(&args.data.data_dir)?;
    let generation = folder.log.layout().generation;
    let cuts =
        list_cuts(&log_folder(&args.data.data_dir), generation).map_err(|error| log_failure(&error))?;
    let bar = progress::bar(None, "re-adding the archive");
    let told = bar.clone();
    let step = |partition: u32, offset: u64, end: u64| {
        told.set_length(end);
        told.set_position(offset);
        told.set_message(format!("partition {partition}"));
    };
    let report = audit(&*folder.log, &*folder.store, folder.hash_key, step).map_err(|stop| stopped(&stop))?;
    bar.finish_and_clear();
    let unnoted: Vec<&RecordedCut> = cuts.iter().filter(|cut| cut.noted.is_none()).collect();
    print(format, &report, &unnoted)?;
    Ok(if report.is_clean() && unnoted.is_empty() { Exit::Ok } else { Exit::Failed })
}

fn stopped(stop: &Stop) -> Failure {
    Failure::failed(format!("the audit cannot go on: {stop}"))
}

fn print(format: Format, report: &AuditReport, unnoted: &[&RecordedCut]) -> Result<(), Failure> {
    let row = json!({
        "records": report.records,
        "pulses": report.pulses,
        "rows": report.rows,
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
