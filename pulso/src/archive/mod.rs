//! `pulso archive`: reads old pulses back, as the file that `pulso send` takes. Sending them again counts none twice.

use std::collections::BTreeMap;
use std::io::{self, BufWriter, Write};

use prost::Message;
use pulso_domain::fate::Fate;
use pulso_domain::position::{Position, Rank};
use pulso_domain::time::Instant;
use pulso_ingestor_consumer::archive::{Archive, ArchivedPulse, Next, PulseFilter};
use pulso_ingestor_consumer::fold::halt::Stop;
use pulso_ingestor_consumer::lookup;
use pulso_platform::service::settings::DataSettings;
use pulso_proto::v1;
use serde::Serialize;

use crate::cli::exit::{Exit, Failure, Outcome};
use crate::cli::instant::parse_instant;
use crate::cli::output;
use crate::roles::built::Elsewhere;
use crate::roles::place::Place;

/// Records read at a time.
const RECORDS_PER_STEP: u64 = 256;

/// What to do with the archive.
#[derive(clap::Subcommand, Debug)]
#[command(
    after_help = "Examples:\n  pulso archive export --from 2026-01-01T00:00:00Z --to 2026-02-01T00:00:00Z > january.ndjson"
)]
pub enum ArchiveCommand {
    /// Writes pulses to stdout, one JSON object a line, as `pulso send` takes them.
    Export(ExportArgs),
}

/// Flags of `pulso archive export`.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Every counted pulse that occurred in the span, in the order of the log. Sending the file again changes no total: a pulse whose
id is known is a duplicate.

Examples:
  pulso archive export --from 2026-01-01T00:00:00Z --to 2026-02-01T00:00:00Z > january.ndjson
  pulso archive export --from 2026-01-01T00:00:00Z --to 2026-02-01T00:00:00Z --tenant acme | pulso send -")]
pub struct ExportArgs {
    /// Pulses that occurred at this time or later
    #[arg(long, value_name = "TIME", value_parser = parse_instant)]
    pub from: Instant,
    /// and before this
    #[arg(long, value_name = "TIME", value_parser = parse_instant)]
    pub to: Instant,
    /// Whose; everyone's when it is not given
    #[arg(long, value_name = "TENANT")]
    pub tenant: Option<String>,
    /// The data folder; no server may hold it.
    #[command(flatten)]
    pub data: DataSettings,
    /// The cluster, instead of a data folder.
    #[command(flatten)]
    pub elsewhere: Elsewhere,
}

/// Does it.
///
/// # Errors
/// When log or store cannot be read.
pub fn run(command: &ArchiveCommand) -> Outcome {
    let ArchiveCommand::Export(args) = command;
    if args.from >= args.to {
        return Err(Failure::usage("--from must lie before --to"));
    }
    let place = Place::open(&args.data, &args.elsewhere)?;
    let mut export = Export { args, out: BufWriter::new(io::stdout().lock()), written: 0, failed: None };
    let read = match &args.tenant {
        Some(tenant_id) => export.of_tenant(&place.archive(), tenant_id),
        None => export.of_all(&place.archive()),
    };
    read.map_err(|stop| Failure::failed(&stop))?;
    let Export { mut out, written, failed, .. } = export;
    let ended = failed.map_or_else(|| out.flush(), Err);
    drop(out);
    match ended {
        Ok(()) => output::note(format!("{written} pulses")),
        // A reader that has gone away, such as head, has what it wanted.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
        Err(error) => return Err(Failure::failed(format!("cannot write to stdout: {error}"))),
    }
    Ok(Exit::Ok)
}

/// An export under way.
struct Export<'a, W: Write> {
    args: &'a ExportArgs,
    out: W,
    written: u64,
    failed: Option<io::Error>,
}

/// A pulse as NDJSON has it.
#[derive(Serialize)]
struct Line<'a> {
    id: &'a str,
    tenant_id: &'a str,
    product_sku: &'a str,
    used_amount: &'a str,
    use_unit: &'a str,
    occurred_at: String,
    #[serde(skip_serializing_if = "str::is_empty")]
    region: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    resource_id: &'a str,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    tags: BTreeMap<&'a str, &'a str>,
}

impl<W: Write> Export<'_, W> {
    fn of_tenant(&mut self, archive: &Archive<'_>, tenant_id: &str) -> Result<(), Stop> {
        let hour = |instant: Instant| i32::try_from(instant.seconds().div_euclid(3600)).unwrap_or(i32::MAX);
        let hours = hour(self.args.from)..hour(self.args.to).saturating_add(1);
        let filter =
            PulseFilter { tenant_id, product_sku: None, region: None, hours, from: Position::default() };
        archive.visit(&filter, |archived| self.write(&archived))
    }

    fn of_all(&mut self, archive: &Archive<'_>) -> Result<(), Stop> {
        for partition in archive.log.partitions() {
            let Some(state) = lookup::load_state(archive.store, partition)? else { continue };
            // Behind the seal pulses are moved: they are exported where they went.
            let last = state.sealed_at.map_or(state.offset, |sealed_at| state.offset.min(sealed_at + 1));
            let mut offset = 0;
            while offset < last {
                let end = (offset + RECORDS_PER_STEP).min(last);
                let in_gap = |offset: &u64| state.gaps.iter().any(|gap| (gap.from..gap.to).contains(offset));
                let offsets = (offset..end).filter(|offset| !in_gap(offset));
                let ranks: Vec<Rank> =
                    offsets.filter_map(|offset| Rank::new(state.generation, offset)).collect();
                let write = &mut |archived: ArchivedPulse<'_>| self.write(&archived);
                if archive.visit_records(partition, &ranks, Position::default(), write)? == Next::Enough {
                    return Ok(());
                }
                offset = end;
            }
        }
        Ok(())
    }

    fn write(&mut self, archived: &ArchivedPulse<'_>) -> Next {
        let Some(pulse) = v1::Pulse::decode(archived.bytes).ok().filter(|_| archived.fate == Fate::Counted)
        else {
            return Next::More;
        };
        let at = pulse.occurred_at.and_then(|at| Instant::new(at.seconds, at.nanos));
        let Some(at) = at.filter(|at| (self.args.from..self.args.to).contains(at)) else { return Next::More };
        if self.args.tenant.as_ref().is_some_and(|tenant_id| *tenant_id != pulse.tenant_id) {
            return Next::More;
        }
        match self.write_line(&pulse, at) {
            Ok(()) => {
                self.written += 1;
                Next::More
            }
            Err(error) => {
                self.failed = Some(error);
                Next::Enough
            }
        }
    }

    fn write_line(&mut self, pulse: &v1::Pulse, at: Instant) -> io::Result<()> {
        let line = Line {
            id: &pulse.id,
            tenant_id: &pulse.tenant_id,
            product_sku: &pulse.product_sku,
            used_amount: &pulse.used_amount,
            use_unit: &pulse.use_unit,
            occurred_at: at.to_string(),
            region: &pulse.region,
            resource_id: &pulse.resource_id,
            tags: pulse.tags.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect(),
        };
        serde_json::to_writer(&mut self.out, &line)?;
        self.out.write_all(b"\n")
    }
}
