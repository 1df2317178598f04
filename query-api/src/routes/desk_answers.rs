//! What the desk answers: what replays would change, which letters were sent again or given up, and which were not.

use pulso_domain::position::Position;
use pulso_ingestor_consumer::desk::{Accepted, Case, Refusal};
use pulso_platform::store::keys::ActionPlace;
use serde::Serialize;
use utoipa::ToSchema;

use super::charges::UnpricedReasonWord;
use super::letter_view::letter_id;
use crate::read::position::written;
use crate::read::preview::{MoneyChange, MoneyChanges, UnpricedChange, UsageChange};

/// Refusals that one preview shows.
const REFUSED_SHOWN_MAX: usize = 1000;
/// Why nothing more can be done about a letter.
pub(super) const WAS_REPLAYED: &str = "it was sent again before; what became of it is the new copy's";

/// What replays would change.
#[derive(Serialize, ToSchema)]
pub(crate) struct Preview {
    /// Dead letters that were looked at.
    letters: usize,
    /// Those that would be counted.
    would_count: usize,
    /// Those that would be refused.
    would_refuse: usize,
    /// Whether the filter has more than were looked at.
    more: bool,
    /// What would be added to usage, by tenant, month, SKU, unit, region.
    usage: Vec<UsageDifference>,
    /// What that changes in money, by tenant, month, currency.
    money: Vec<MoneyDifference>,
    /// What would be there without a price.
    unpriced: Vec<UnpricedDifference>,
    /// What would be refused and why; the first 1000.
    refused: Vec<Refused>,
}

/// The parts of a preview while letters are looked at.
#[derive(Default)]
pub(super) struct PreviewParts {
    pub(super) letters: usize,
    pub(super) more: bool,
    refused: Vec<Refused>,
    refused_count: usize,
}

impl PreviewParts {
    /// Notes a letter that would be refused.
    pub(super) fn refuse(&mut self, refused: Refused) {
        self.refused_count += 1;
        if self.refused.len() < REFUSED_SHOWN_MAX {
            self.refused.push(refused);
        }
    }
}

impl Preview {
    pub(super) fn new(parts: PreviewParts, usage: &[UsageChange], money: MoneyChanges) -> Self {
        Self {
            letters: parts.letters,
            would_count: parts.letters - parts.refused_count,
            would_refuse: parts.refused_count,
            more: parts.more,
            usage: usage.iter().map(UsageDifference::of).collect(),
            money: money.money.into_iter().map(MoneyDifference::of).collect(),
            unpriced: money.unpriced.into_iter().map(UnpricedDifference::of).collect(),
            refused: parts.refused,
        }
    }
}

/// What would be added to a row of a tenant's month.
#[derive(Serialize, ToSchema)]
pub(crate) struct UsageDifference {
    /// Whose.
    #[schema(example = "acme")]
    tenant_id: String,
    /// The month.
    #[schema(example = "2026-01")]
    period: String,
    /// The SKU.
    #[schema(example = "block-storage")]
    product_sku: String,
    /// The unit, as the pulses have it.
    #[schema(example = "GiB-Hours")]
    use_unit: String,
    /// The region; empty where pulses have none.
    #[schema(example = "br-se1")]
    region: String,
    /// How much more.
    #[schema(example = "1.5")]
    quantity: String,
    /// How many pulses more.
    count: u64,
}

/// The billed cost of a tenant's month in one currency, unrounded.
#[derive(Serialize, ToSchema)]
pub(crate) struct MoneyDifference {
    /// Whose.
    #[schema(example = "acme")]
    tenant_id: String,
    /// The month.
    #[schema(example = "2026-01")]
    period: String,
    /// The currency.
    #[schema(example = "BRL")]
    currency: String,
    /// As it is.
    #[schema(example = "10")]
    before: String,
    /// As it would be.
    #[schema(example = "10.75")]
    after: String,
    /// What would be added.
    #[schema(example = "0.75")]
    difference: String,
}

/// Usage that would be there without a price.
#[derive(Serialize, ToSchema)]
pub(crate) struct UnpricedDifference {
    /// Whose.
    #[schema(example = "acme")]
    tenant_id: String,
    /// The month.
    #[schema(example = "2026-01")]
    period: String,
    /// The SKU.
    #[schema(example = "gpu")]
    product_sku: String,
    /// The unit.
    #[schema(example = "GPU-Hours")]
    use_unit: String,
    /// The region; empty where pulses have none.
    #[schema(example = "br-se1")]
    region: String,
    /// How much more.
    #[schema(example = "12")]
    quantity: String,
    /// Why it has none.
    #[schema(value_type = UnpricedReasonWord, example = "UNKNOWN_SKU")]
    reason: &'static str,
}

/// A dead letter that was not done as asked.
#[derive(Serialize, ToSchema)]
#[schema(as = RefusedDeadLetter)]
pub(crate) struct Refused {
    /// Which.
    #[schema(example = "1:3:1024:17")]
    id: String,
    /// Why: a reason of dead letters, or `DUPLICATE`, `ALREADY_REPLAYED`, `PARTITION_HALTED`; of a replay that the log did
    /// not take also `NOT_STORED` and `UNKNOWN`, both safe to ask again.
    #[schema(example = "ID_CONFLICT")]
    code: &'static str,
    /// The pulse's field at fault.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "id", nullable = false)]
    field: Option<&'static str>,
    /// What is wrong and how to go on.
    detail: String,
    /// Where the pulse stands that is counted, or that was sent again before.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "1:3:980:2", nullable = false)]
    position: Option<String>,
}

impl Refused {
    /// A letter that would not count.
    pub(super) fn new(letter: (u32, Position), refusal: Refusal) -> Self {
        Self {
            id: letter_id(letter),
            code: refusal.code,
            field: refusal.field,
            detail: refusal.detail,
            position: refusal.position.map(|(partition, position)| written(partition, position)),
        }
    }

    /// A letter that is not in the log.
    pub(super) fn not_stored(letter: (u32, Position), detail: String) -> Self {
        Self { id: letter_id(letter), code: "NOT_STORED", field: None, detail, position: None }
    }

    /// A letter that may be in the log.
    pub(super) fn unknown(letter: (u32, Position), detail: String) -> Self {
        Self { id: letter_id(letter), code: "UNKNOWN", field: None, detail, position: None }
    }

    /// A letter that cannot be given up any more.
    pub(super) fn replayed(case: &Case) -> Self {
        Self {
            id: letter_id((case.partition, case.position)),
            code: "ALREADY_REPLAYED",
            field: None,
            detail: WAS_REPLAYED.to_owned(),
            position: case.replay().map(|place| written(place.partition, place.position)),
        }
    }
}

/// What became of each dead letter that was to be sent again.
#[derive(Default, Serialize, ToSchema)]
pub(crate) struct ReplayAnswer {
    /// Those that are durable in the log; they count as soon as they are folded.
    pub(super) replayed: Vec<Replayed>,
    /// Those that were not sent, and why.
    pub(super) refused: Vec<Refused>,
    /// Asks for the rest of the filter; absent when there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub(super) next_page_token: Option<String>,
}

/// A dead letter that was sent again.
#[derive(Serialize, ToSchema)]
#[schema(as = ReplayedDeadLetter)]
pub(crate) struct Replayed {
    /// Which.
    #[schema(example = "1:3:1024:17")]
    id: String,
    /// Where it stands now; `?wait_for=` takes it without its index.
    #[schema(example = "1:3:2048:0")]
    position: String,
    /// Whose use it is.
    #[schema(example = "acme")]
    tenant_id: String,
}

impl Replayed {
    pub(super) fn new(letter: (u32, Position), accepted: &Accepted, place: ActionPlace) -> Self {
        Self {
            id: letter_id(letter),
            position: written(place.partition, place.position),
            tenant_id: accepted.tenant_id.clone(),
        }
    }
}

/// Which dead letters were given up.
#[derive(Default, Serialize, ToSchema)]
pub(crate) struct DropAnswer {
    /// The ids of those that are given up now, or were before.
    pub(super) dropped: Vec<String>,
    /// Those that were not, and why.
    pub(super) refused: Vec<Refused>,
    /// Asks for the rest of the filter; absent when there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub(super) next_page_token: Option<String>,
}

impl UsageDifference {
    fn of(change: &UsageChange) -> Self {
        let row = change.row.clone();
        Self {
            tenant_id: row.tenant_id,
            period: row.month.to_string(),
            product_sku: row.product_sku,
            use_unit: row.use_unit,
            region: row.region,
            quantity: change.quantity.to_string(),
            count: change.count,
        }
    }
}

impl MoneyDifference {
    fn of(change: MoneyChange) -> Self {
        Self {
            tenant_id: change.tenant_id,
            period: change.month.to_string(),
            currency: change.currency,
            before: change.before.to_string(),
            after: change.after.to_string(),
            difference: change.difference.to_string(),
        }
    }
}

impl UnpricedDifference {
    fn of(change: UnpricedChange) -> Self {
        Self {
            tenant_id: change.tenant_id,
            period: change.month.to_string(),
            product_sku: change.more.product_sku,
            use_unit: change.more.use_unit,
            region: change.more.region,
            quantity: change.more.quantity.to_string(),
            reason: change.more.reason.as_str(),
        }
    }
}
