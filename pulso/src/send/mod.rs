//! `pulso send`: pulses from a file to the ingest listener, each rejection with its line, and a summary.
//!
//! The file decides the ids, so sending it again changes nothing.

mod follow;
mod ndjson;
mod spreadsheet;

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use indicatif::ProgressBar;
use pulso_ingestor_api::formats::Unreadable;
use pulso_proto::v1;
use serde_json::json;

use crate::cli::exit::{Exit, Failure, Outcome};
use crate::cli::output::{self, Format};
use crate::cli::progress;
use crate::client::IngestAddress;
use crate::client::ingest::{Answer, AnswerSink, Ingest, Outgoing, PulseSource};

/// Flags of `pulso send`.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
NDJSON has one object a line with the fields id, tenant_id, product_sku, used_amount, use_unit, occurred_at (RFC 3339),
region, resource_id and tags; CSV has the same names as header, tags as tags.KEY. Sending a file again changes nothing.

With --follow it sends what is appended to the file, also when that is rotated or emptied, until Ctrl-C or SIGTERM. It keeps
its position in FILE.pulso-position (or --position), written only after the answers, and goes on there.

Examples:
  pulso send pulses.ndjson
  pulso send --follow /var/log/meter/pulses.ndjson
  pulso send pulses.csv --output json
  zcat pulses.ndjson.gz | pulso send -
  pulso send --ingest metering.internal:7070 pulses.ndjson")]
pub struct SendArgs {
    /// The file; `-` is stdin.
    pub file: PathBuf,
    /// What the file is; by default what its name ends with, else NDJSON.
    #[arg(long, env = "PULSO_FORMAT", value_enum)]
    pub format: Option<InputFormat>,
    /// Goes on with what is appended to the file (NDJSON) until it is told to stop
    #[arg(long, env = "PULSO_FOLLOW")]
    pub follow: bool,
    /// Where a followed file's position is kept; by default in FILE.pulso-position
    #[arg(long, env = "PULSO_POSITION", value_name = "FILE", requires = "follow")]
    pub position: Option<PathBuf>,
    /// Where the server is.
    #[command(flatten)]
    pub server: IngestAddress,
}

/// What became of the pulses of a file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Counts {
    accepted: u64,
    rejected: u64,
    unknown: u64,
}

/// What a file of pulses is written in.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub enum InputFormat {
    /// One JSON object a line.
    Ndjson,
    /// A header and one line per pulse.
    Csv,
}

/// Sends the file.
///
/// # Errors
/// When the file is not there or the server is not.
pub async fn run(args: &SendArgs, format: Format) -> Outcome {
    if args.follow {
        return run_following(args, format).await;
    }
    let input = open(&args.file)?;
    let mut source = Source::new(input_format(args), input)?;
    let ingest = Ingest::connect(&args.server.ingest).await?;
    let bar = progress::bar(None, "sending");
    let mut tally = Tally { bar: bar.clone(), accepted: 0, rejected: 0 };
    let delivered = ingest.deliver(&mut source, &mut tally).await;
    bar.finish_and_clear();
    let rejected = tally.rejected + source.unreadable;
    summary(format, Counts { accepted: tally.accepted, rejected, unknown: delivered.unknown })?;
    match delivered.failure {
        Some(failure) => Err(failure),
        None => Ok(exit(rejected)),
    }
}

async fn run_following(args: &SendArgs, format: Format) -> Outcome {
    if args.file == Path::new("-") || input_format(args) == InputFormat::Csv {
        // A later run would begin behind the header.
        return Err(Failure::usage("only a file of NDJSON can be followed; leave --follow out"));
    }
    // Looked at first, as a file that is not there is the caller's mistake whether or not a server runs.
    open(&args.file)?;
    let ingest = Ingest::connect(&args.server.ingest).await?;
    let counts = follow::run(&args.file, args.position.as_deref(), &ingest).await?;
    summary(format, counts)?;
    Ok(exit(counts.rejected))
}

const fn exit(rejected: u64) -> Exit {
    if rejected > 0 { Exit::Rejected } else { Exit::Ok }
}

fn summary(format: Format, counts: Counts) -> Result<(), Failure> {
    let Counts { accepted, rejected, unknown } = counts;
    let sent = accepted + rejected + unknown;
    let summary = json!({ "sent": sent, "accepted": accepted, "rejected": rejected, "unknown": unknown });
    match format {
        // One line, so that whoever reads stdout line by line finds it.
        Format::Json => output::data(summary),
        _ => {
            let columns = ["sent", "accepted", "rejected", "unknown"];
            output::rows(format, &summary, std::slice::from_ref(&summary), &columns)
        }
    }
}

fn open(path: &Path) -> Result<Box<dyn Read>, Failure> {
    if path == Path::new("-") {
        return Ok(Box::new(std::io::stdin()));
    }
    let unreadable = |error| Failure::usage(format!("cannot read {}: {error}", path.display()));
    let file = File::open(path).map_err(unreadable)?;
    if file.metadata().map_err(unreadable)?.is_dir() {
        return Err(Failure::usage(format!("{} is a folder; name a file or - for stdin", path.display())));
    }
    Ok(Box::new(file))
}

fn input_format(args: &SendArgs) -> InputFormat {
    let by_name = || match args.file.extension().and_then(|extension| extension.to_str()) {
        Some(extension) if extension.eq_ignore_ascii_case("csv") => InputFormat::Csv,
        _ => InputFormat::Ndjson,
    };
    args.format.unwrap_or_else(by_name)
}

/// A line's number and what it holds.
type Numbered = (u64, Result<v1::Pulse, Unreadable>);

enum Lines {
    Ndjson(ndjson::Reader<Box<dyn Read>>),
    Csv(spreadsheet::Reader<Box<dyn Read>>),
}

/// The pulses of the file; a line that is none is told at once and counted.
struct Source {
    lines: Lines,
    unreadable: u64,
}

impl Source {
    fn new(format: InputFormat, input: Box<dyn Read>) -> Result<Self, Failure> {
        let lines = match format {
            InputFormat::Ndjson => Lines::Ndjson(ndjson::Reader::new(input)),
            InputFormat::Csv => Lines::Csv(spreadsheet::Reader::new(input)?),
        };
        Ok(Self { lines, unreadable: 0 })
    }
}

impl PulseSource for Source {
    fn next_pulse(&mut self) -> Result<Option<Outgoing>, Failure> {
        loop {
            let next = match &mut self.lines {
                Lines::Ndjson(reader) => reader.next_line()?,
                Lines::Csv(reader) => reader.next_line()?,
            };
            match next {
                None => return Ok(None),
                Some((line, Ok(pulse))) => return Ok(Some(Outgoing { line, pulse })),
                Some((line, Err(bad))) => {
                    self.unreadable += 1;
                    output::note(format!("line {line}: {bad}"));
                }
            }
        }
    }
}

struct Tally {
    bar: ProgressBar,
    accepted: u64,
    rejected: u64,
}

impl AnswerSink for Tally {
    fn settled(&mut self, outgoing: &Outgoing, answer: Answer) {
        self.bar.inc(1);
        match answer {
            Answer::Accepted(_) => self.accepted += 1,
            Answer::Rejected(result) => {
                self.rejected += 1;
                self.bar.suspend(|| output::note(rejection(outgoing.line, &result)));
            }
        }
    }
}

fn rejection(line: u64, result: &v1::PulseResult) -> String {
    format!("line {line}: {}: {}: {}", result.reason, result.field, result.message)
}
