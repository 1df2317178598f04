//! The speed table: each row measured, printed with its floor and goal as soon as it is known.

mod append;
mod bill;
mod consume;
pub(crate) mod figure;
mod ingest;
mod instructions;
mod memory;
mod restart;
pub(crate) mod turns;

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use self::figure::Figure;
use crate::cpu;
use crate::mix::Mix;

/// Arguments of `table`.
#[derive(clap::Args, Debug)]
pub struct TableArgs {
    /// Few rounds and small loads: shows that everything works, not how fast it is.
    #[arg(long)]
    pub quick: bool,
    /// Only these rows.
    #[arg(long, value_enum, value_delimiter = ',')]
    pub only: Vec<RowName>,
    /// Only the mix that counts, without those printed beside.
    #[arg(long)]
    pub counted: bool,
    /// Where data is kept while it runs, on the disk to be measured.
    #[arg(long, default_value = "target/benches")]
    pub folder: PathBuf,
}

/// A row of the table.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub enum RowName {
    /// Batches of 1,000 against a bare echo.
    Ingest,
    /// The embedded log against write and fdatasync.
    Append,
    /// Log bytes to totals against DuckDB.
    Consume,
    /// Instructions of a pulse.
    Instructions,
    /// Single pulses against a bare echo.
    Unary,
    /// RAM of a key and of an id.
    Memory,
    /// From kill -9 to ready.
    Restart,
    /// A bill over more and more pulses.
    Bill,
}

impl RowName {
    const ALL: [Self; 8] = [
        Self::Ingest,
        Self::Append,
        Self::Consume,
        Self::Instructions,
        Self::Unary,
        Self::Memory,
        Self::Restart,
        Self::Bill,
    ];
}

/// What all rows need to know.
pub(crate) struct Session {
    quick: bool,
    mixes: Vec<(&'static str, Mix)>,
    folder: PathBuf,
}

impl Session {
    /// A number for a run that counts, and one for a quick look.
    fn pick<T>(&self, full: T, quick: T) -> T {
        if self.quick { quick } else { full }
    }

    fn rounds(&self) -> usize {
        self.pick(5, 1)
    }

    /// A folder that is gone when the row is done.
    fn scratch(&self) -> anyhow::Result<tempfile::TempDir> {
        std::fs::create_dir_all(&self.folder)?;
        Ok(tempfile::Builder::new().prefix("pulso-").tempdir_in(&self.folder)?)
    }
}

/// Measures the rows and prints them; a row that cannot be measured is a failure, and said.
///
/// # Errors
/// When nothing can be printed.
pub fn print(args: &TableArgs) -> anyhow::Result<ExitCode> {
    let mixes = if args.counted { &Mix::ALL[..1] } else { &Mix::ALL };
    let session = Session { quick: args.quick, mixes: mixes.to_vec(), folder: args.folder.clone() };
    let rows = RowName::ALL.into_iter().filter(|row| args.only.is_empty() || args.only.contains(row));
    print_rows(args.quick, rows, |row, show| measure(row, &session, show))
}

/// Measures rows and prints their figures as soon as they are known.
///
/// # Errors
/// When nothing can be printed.
pub(crate) fn print_rows<R: Copy + std::fmt::Debug>(
    quick: bool,
    rows: impl Iterator<Item = R>,
    mut measure: impl FnMut(R, &mut dyn FnMut(Figure)) -> anyhow::Result<()>,
) -> anyhow::Result<ExitCode> {
    let mut out = std::io::stdout();
    writeln!(out, "Machine: {}\n", cpu::machine())?;
    if quick {
        writeln!(out, "Quick: one round of small loads; only a full run counts.\n")?;
    }
    writeln!(out, "{}", Figure::HEADER)?;
    let mut all_hold = true;
    for row in rows {
        let mut show = |figure: Figure| {
            all_hold &= figure.holds();
            // A figure that cannot be printed is seen by the caller as a broken pipe.
            let _ = writeln!(std::io::stdout(), "{figure}");
        };
        if let Err(error) = measure(row, &mut show) {
            all_hold = false;
            writeln!(out, "| {row:?} | **failed: {error:#}** | | | | no |")?;
        }
    }
    Ok(if all_hold { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn measure(row: RowName, session: &Session, show: &mut dyn FnMut(Figure)) -> anyhow::Result<()> {
    match row {
        RowName::Ingest => ingest::batches(session, show),
        RowName::Append => append::measure(session, show),
        RowName::Consume => consume::measure(session, show),
        RowName::Instructions => instructions::measure(session, show),
        RowName::Unary => ingest::unary(session, show),
        RowName::Memory => memory::measure(session, show),
        RowName::Restart => restart::measure(session, show),
        RowName::Bill => bill::measure(session, show),
    }
}
