//! `pulso log grow`: begins the next generation of a cluster's log, or of a folder that no server holds.

use pulso_platform::log::embedded::{EmbeddedGenerations, EmbeddedLogConfig};
use pulso_platform::log::generations::GrowReport;
use pulso_platform::service::clock::Clock;
use serde_json::json;

use super::GrowArgs;
use crate::cli::exit::{Exit, Failure, Outcome};
use crate::cli::output::{self, Format};
use crate::dev::folder::{log_failure, log_folder};

pub(super) fn run(args: &GrowArgs, format: Format) -> Outcome {
    let (report, since) = match args.elsewhere.grow(args.partitions)? {
        Some(report) => (report, "now"),
        None => (grow_folder(args)?, "the next start"),
    };
    let layout = report.layout;
    let done = json!({
        "generation": layout.generation, "partitions": layout.partitions, "begun": report.begun,
    });
    output::rows(format, &done, std::slice::from_ref(&done), &["generation", "partitions", "begun"])?;
    output::note(if report.begun {
        format!("the next generation takes what comes from {since} on")
    } else {
        "the newest generation has as many partitions already".to_owned()
    });
    Ok(Exit::Ok)
}

fn grow_folder(args: &GrowArgs) -> Result<GrowReport, Failure> {
    let data_dir = &args.folder.data_dir;
    if !log_folder(data_dir).is_dir() {
        let place = data_dir.display();
        return Err(Failure::usage(format!("there is no data folder at {place}; name it with --data-dir")));
    }
    let config = EmbeddedLogConfig::new(log_folder(data_dir), 1, Clock::System);
    EmbeddedGenerations::grow(&config, args.partitions).map_err(|error| log_failure(&error))
}
