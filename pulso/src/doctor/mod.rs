//! `pulso doctor`: looks for what would keep a server from starting or from telling the truth, each fault with its mend.
//!
//! It changes nothing: a folder is opened for reading, a port is bound for a moment.

mod folder;
mod machine;

use std::net::SocketAddr;

use pulso_platform::service::settings::{ApiListener, DataSettings, IngestListener};
use serde_json::{Value, json};

use crate::cli::exit::{Exit, Outcome};
use crate::cli::output::{self, Format};
use crate::roles::built::Elsewhere;

/// Flags of `pulso doctor`.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
With --kafka-brokers it looks at a cluster: brokers, topics, the generation, keyspace and tables, halted partitions.

Examples:
  pulso doctor
  pulso doctor --data-dir /var/lib/pulso --output json
  pulso doctor --kafka-brokers 127.0.0.1:9092 --cql-nodes 127.0.0.1:9042")]
pub struct DoctorArgs {
    /// The data folder.
    #[command(flatten)]
    pub data: DataSettings,
    /// Where a server would take pulses.
    #[command(flatten)]
    pub ingest: IngestListener,
    /// Where a server would have its API.
    #[command(flatten)]
    pub api: ApiListener,
    /// Address of metrics and health
    #[arg(long, env = "PULSO_ADMIN_ADDR", value_name = "IP:PORT", default_value = "127.0.0.1:7090")]
    pub admin_addr: SocketAddr,
    /// The cluster, instead of the data folder.
    #[command(flatten)]
    pub elsewhere: Elsewhere,
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
    /// Nothing is wrong.
    pub fn good(check: &str, detail: impl Into<String>) -> Self {
        Self { check: check.to_owned(), detail: detail.into(), mend: None }
    }

    /// Something is.
    pub fn fault(check: &str, detail: impl Into<String>, mend: impl Into<String>) -> Self {
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
    let data_dir = &args.data.data_dir;
    let ports = [
        machine::port("ingest", args.ingest.ingest_addr),
        machine::port("api", args.api.api_addr),
        machine::port("admin", args.admin_addr),
    ];
    let mut findings = vec![machine::clock(data_dir)];
    if let Some(cluster) = args.elsewhere.findings() {
        // A role needs no disk, and on this machine its ports may well be held by the roles themselves.
        findings.extend(cluster);
    } else {
        findings.push(machine::disk(data_dir));
        findings.extend(ports);
        findings.extend(folder::look(data_dir));
    }
    let list: Vec<Value> = findings.iter().map(Finding::to_json).collect();
    let document = json!({ "findings": list });
    output::rows(format, &document, &list, &["state", "check", "detail", "mend"])?;
    let faults = findings.iter().filter(|finding| finding.mend.is_some()).count();
    Ok(if faults > 0 { Exit::Failed } else { Exit::Ok })
}
