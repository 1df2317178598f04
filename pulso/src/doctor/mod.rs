//! `pulso doctor`: looks for what would keep a server from starting or from telling the truth, each fault with its mend.
//!
//! It changes nothing: a folder is opened for reading, a port is bound for a moment.

mod folder;
mod machine;

use std::path::PathBuf;

use serde_json::{Value, json};

use crate::cli::exit::{Exit, Outcome};
use crate::cli::output::{self, Format};
use crate::dev::settings::Listeners;

/// Flags of `pulso doctor`.
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:\n  pulso doctor\n  pulso doctor --data-dir /var/lib/pulso --output json")]
pub struct DoctorArgs {
    /// The data folder.
    #[arg(long, env = "PULSO_DATA_DIR", value_name = "FOLDER", default_value = "./pulso-data")]
    pub data_dir: PathBuf,
    /// The addresses that a server would listen on.
    #[command(flatten)]
    pub listeners: Listeners,
}

/// What a look at one thing found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Finding {
    /// What was looked at.
    pub check: String,
    /// What was found.
    pub detail: String,
    /// How to mend it; none when nothing is wrong.
    pub mend: Option<String>,
}

impl Finding {
    fn good(check: &str, detail: impl Into<String>) -> Self {
        Self { check: check.to_owned(), detail: detail.into(), mend: None }
    }

    fn fault(check: &str, detail: impl Into<String>, mend: impl Into<String>) -> Self {
        Self { check: check.to_owned(), detail: detail.into(), mend: Some(mend.into()) }
    }

    fn to_json(&self) -> Value {
        let state = if self.mend.is_none() { "ok" } else { "fault" };
        json!({ "check": self.check, "state": state, "detail": self.detail, "mend": self.mend })
    }
}

/// Looks at everything; a fault is exit 1.
///
/// # Errors
/// When stdout cannot be written.
pub fn run(args: &DoctorArgs, format: Format) -> Outcome {
    let mut findings = vec![machine::clock(&args.data_dir), machine::disk(&args.data_dir)];
    findings.extend(machine::ports(&args.listeners));
    findings.extend(folder::look(&args.data_dir));
    let list: Vec<Value> = findings.iter().map(Finding::to_json).collect();
    let document = json!({ "findings": list });
    output::rows(format, &document, &list, &["state", "check", "detail", "mend"])?;
    let faults = findings.iter().filter(|finding| finding.mend.is_some()).count();
    Ok(if faults > 0 { Exit::Failed } else { Exit::Ok })
}
