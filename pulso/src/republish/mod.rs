//! `pulso republish`: hands stored usage records to pricing again. Totals and charges stay what they are; what pricing never
//! got, or lost, it has then.

use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::bounded;
use pulso_domain::time::Instant;
use pulso_ingestor_consumer::fold::halt::Stop;
use pulso_ingestor_consumer::handoff::{Handoff, Handover};
use pulso_ingestor_consumer::republish::{Republished, Selection, republish};
use pulso_platform::log::LayoutBook;
use pulso_platform::service::settings::DataSettings;
use pulso_pricing::door::Intake;
use pulso_pricing::service::{PricingService, Settings as PricingSettings};
use pulso_proto::{usage, v1};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::cli::exit::{Exit, Failure, Outcome};
use crate::cli::instant::parse_instant;
use crate::cli::output::{self, Format};
use crate::roles::built::{Elsewhere, Handing};
use crate::roles::place::Place;

/// Months that wait to be rated.
const CHANGES_MAX: usize = 64;
/// Rating a folder's months again takes what it takes; this only ends a wait that would be a fault.
const SETTLED_MAX: Duration = Duration::from_secs(3600);

/// Flags of `pulso republish`.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Every record is handed over as it stands, with its rank: who has it already changes nothing.

Examples:
  pulso republish --from 2026-01-01T00:00:00Z --to 2026-02-01T00:00:00Z
  pulso republish --from 2026-01-01T00:00:00Z --to 2026-02-01T00:00:00Z --tenant acme --data-dir /var/lib/pulso")]
pub struct RepublishArgs {
    /// Records of windows that end behind this
    #[arg(long, value_name = "TIME", value_parser = parse_instant)]
    pub from: Instant,
    /// and begin before this
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
    /// How its usage goes to pricing.
    #[command(flatten)]
    pub handing: Handing,
}

/// Hands over.
///
/// # Errors
/// When log or store cannot be used, or pricing does not take the records.
pub fn run(args: &RepublishArgs, format: Format) -> Outcome {
    if args.from >= args.to {
        return Err(Failure::usage("--from must lie before --to"));
    }
    let runtime = crate::dev::runtime()?;
    let within = runtime.enter();
    let place = Place::open(&args.data, &args.elsewhere)?;
    let selection = Selection { tenant_id: args.tenant.clone(), from: args.from, to: args.to };
    let done = match args.handing.open(&args.elsewhere)? {
        Some(handoff) => hand_over(&place, &selection, &*handoff)?,
        None => rate_here(&place, &selection)?,
    };
    drop(within);
    place.close()?;
    let row = json!({ "months": done.months, "records": done.records });
    output::rows(format, &row, std::slice::from_ref(&row), &["months", "records"])?;
    Ok(Exit::Ok)
}

fn hand_over(place: &Place, selection: &Selection, handoff: &dyn Handoff) -> Result<Republished, Failure> {
    republish(&*place.store, &place.log.generations(), selection, handoff)
        .map_err(|stop| Failure::failed(&stop))
}

/// A folder that no server holds has no pricing that could be told: it is rated here.
fn rate_here(place: &Place, selection: &Selection) -> Result<Republished, Failure> {
    let layouts = LayoutBook::of(Arc::clone(&place.log));
    let settings = PricingSettings {
        store: Arc::clone(&place.store),
        log: None,
        layouts: layouts.clone(),
        fold_wait: Duration::ZERO,
        sweep_every: None,
        rates: true,
    };
    let pricing = PricingService::open(settings).map_err(Failure::failed)?;
    let (changed, changes) = bounded(CHANGES_MAX);
    let desk = Desk(Intake::new(changed, layouts));
    let stop = CancellationToken::new();
    std::thread::scope(|scope| {
        let rating = scope.spawn(|| pricing.run(&changes, &stop));
        let done = hand_over(place, selection, &desk);
        if !pricing.settled(SETTLED_MAX) {
            return Err(Failure::failed("the months are not rated yet; run it again"));
        }
        stop.cancel();
        let rated = rating.join().map_err(|_| Failure::failed("rating ended unexpectedly"))?;
        rated.map_err(Failure::failed)?;
        done
    })
}

/// Hands over to pricing in this process.
struct Desk(Intake);

impl Handoff for Desk {
    fn deliver(&self, handover: &Handover) -> Result<(), Stop> {
        let progress = Some(handover.progress());
        let records = handover.records.clone();
        let update = v1::UsageUpdate { format_version: usage::FORMAT, records, progress };
        match self.0.take_waiting(&update) {
            Ok(true) => Ok(()),
            Ok(false) => Err(Stop::Retry("rating has ended".to_owned())),
            Err(refusal) => Err(Stop::Retry(refusal.to_string())),
        }
    }
}
