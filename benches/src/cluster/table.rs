//! The table of the cluster: each row measured, printed with its floor and goal as soon as it is known.

mod consume;
mod flush;
mod ingest;
mod written;

use std::ffi::OsString;
use std::process::ExitCode;

use super::place::Place;
use crate::child::{Running, Under};
use crate::table::print_rows;

/// The core of what is measured where one thread does nearly all; the servers and the load maker take what they get.
const CORE: u32 = 0;

/// librdkafka alone, with the allocator of the C library.
const LIBRDKAFKA: &str = "pulso-benches-librdkafka";

/// What librdkafka alone allocates with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Allocator {
    /// The C library's, which it has when nobody gives it another.
    OfLibc,
    /// Ours.
    Ours,
}

impl Allocator {
    const fn said(self) -> &'static str {
        match self {
            Self::OfLibc => "",
            Self::Ours => " on our allocator",
        }
    }
}

/// Arguments of `table`.
#[derive(clap::Args, Debug)]
pub struct TableArgs {
    #[command(flatten)]
    place: Place,
    /// Few rounds and small loads: shows that everything works, not how fast it is.
    #[arg(long)]
    quick: bool,
    /// Only these rows.
    #[arg(long, value_enum, value_delimiter = ',')]
    only: Vec<RowName>,
}

/// A row of the table.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
enum RowName {
    /// Batches of 1,000 to Kafka against librdkafka, one record per pulse.
    Ingest,
    /// From a topic to totals against librdkafka's polls.
    Consume,
    /// Usage rows to the nodes against the driver alone.
    Flush,
    /// Rows written by flushes against keys touched.
    Written,
    /// Two workers against one.
    Workers,
}

impl RowName {
    /// The workers first: theirs is a row by the clock, and the nodes tidy up for a while after they were written to.
    const ALL: [Self; 5] = [Self::Workers, Self::Ingest, Self::Consume, Self::Flush, Self::Written];
}

/// What all rows need to know.
struct Session {
    place: Place,
    quick: bool,
}

impl Session {
    /// A number for a run that counts, and one for a quick look.
    fn pick<T>(&self, full: T, quick: T) -> T {
        if self.quick { quick } else { full }
    }

    fn rounds(&self) -> usize {
        self.pick(5, 1)
    }

    /// Starts a role of librdkafka alone.
    fn start_librdkafka(&self, allocator: Allocator, role: &[OsString]) -> anyhow::Result<Running> {
        match allocator {
            Allocator::OfLibc => Running::start_beside(LIBRDKAFKA, role),
            Allocator::Ours => Running::start(role, &Under::Nothing),
        }
    }

    /// The arguments of a role.
    fn role(&self, name: &str, more: &[&str]) -> Vec<OsString> {
        let flags = self.place.flags();
        std::iter::once(name)
            .chain(flags.iter().map(String::as_str))
            .chain(more.iter().copied())
            .map(OsString::from)
            .collect()
    }
}

/// Measures the rows and prints them; a row that cannot be measured is a failure, and said.
///
/// # Errors
/// When nothing can be printed.
pub fn print(args: &TableArgs) -> anyhow::Result<ExitCode> {
    let session = Session { place: args.place.clone(), quick: args.quick };
    let rows = RowName::ALL.into_iter().filter(|row| args.only.is_empty() || args.only.contains(row));
    print_rows(args.quick, rows, |row, show| match row {
        RowName::Ingest => ingest::measure(&session, show),
        RowName::Consume => consume::measure(&session, show),
        RowName::Flush => flush::measure(&session, show),
        RowName::Written => written::measure(&session, show),
        RowName::Workers => consume::workers(&session, show),
    })
}
