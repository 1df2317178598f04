//! The import's way through a server: merge the catalog, send the pulses, read the charges back.

use std::collections::{BTreeMap, HashMap};

use pulso_domain::position::Rank;
use pulso_domain::window::Window;
use pulso_platform::service::clock::Clock;
use pulso_proto::v1;
use serde_json::{Value, json};

use super::bill::{Bill, BillFile, Taken};
use super::catalog::Existing;
use super::costs::{self, Cost};
use super::exact::Exact;
use crate::cli::exit::{Exit, Failure};
use crate::cli::{output, progress};
use crate::client::ingest::{Answer, AnswerSink, Ingest, Outgoing};
use crate::client::rest::{self, Body, ListOf, Rest, path_part};

/// Rejections that are told one by one; the rest is counted.
const REJECTIONS_TOLD_MAX: u64 = 10;
const SECONDS_PER_DAY: i64 = 86_400;

/// Where to import to.
#[derive(Clone, Debug)]
pub struct Server {
    /// Takes the pulses.
    pub ingest: Ingest,
    /// Takes the catalog and gives the charges.
    pub rest: Rest,
}

/// What an import did.
#[derive(Clone, Debug)]
pub struct Imported {
    /// The part of the bill that was taken.
    pub bill: Bill,
    /// Pulses the server refused, by reason.
    pub rejected: BTreeMap<String, u64>,
    /// The comparison.
    pub costs: Vec<Cost>,
}

impl Imported {
    /// The summary of `--output json`.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let skipped =
            self.bill.skipped.iter().map(|(skip, rows)| json!({ "reason": skip.code(), "rows": rows }));
        let mut skus: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for (product_sku, sku) in &self.bill.skus {
            skus.entry(&sku.sku_name).or_default().push(product_sku);
        }
        json!({
            "rows": self.bill.rows,
            "pulses": self.bill.pulses(),
            "skipped": skipped.collect::<Vec<_>>(),
            "disagreeing_rows": self.bill.disagreeing_rows(),
            "tenants": self.bill.tenants,
            "skus": skus,
            "costs": self.costs.iter().map(Cost::to_json).collect::<Vec<_>>(),
        })
    }

    /// The counts as rows of a table.
    #[must_use]
    pub fn counts(&self) -> Vec<Value> {
        let line = |what: String, rows: u64| json!({ "what": what, "rows": rows });
        let mut lines =
            vec![line("in the file".into(), self.bill.rows), line("pulses".into(), self.bill.pulses())];
        lines.extend(
            self.bill.skipped.iter().map(|(skip, rows)| line(format!("skipped {}", skip.code()), *rows)),
        );
        lines.extend(self.rejected.iter().map(|(reason, rows)| line(format!("rejected {reason}"), *rows)));
        let disagreeing = "list cost in the file is not quantity x price";
        lines.push(line(disagreeing.into(), self.bill.disagreeing_rows()));
        lines
    }
}

/// Imports a bill that was read once.
///
/// # Errors
/// When the currency is not clear, the catalog refuses, or the server goes away.
pub async fn import(
    server: &Server,
    file: &BillFile,
    bill: Bill,
    currency: Option<&str>,
) -> Result<Imported, Failure> {
    let currency = choose_currency(&bill, currency)?;
    let existing = read_existing(&server.rest).await?;
    let taken = Taken { units: existing.units(&bill), currency: currency.clone() };
    let bill = bill.filtered(&taken);
    for document in existing.additions(&bill, &currency)? {
        merge(&server.rest, &document).await?;
    }
    let bar = progress::bar(Some(bill.pulses()), "importing");
    let mut tally = Tally { bar, receipts: HashMap::new(), rejected: BTreeMap::new() };
    let delivered = server.ingest.deliver(&mut file.pulses(taken)?, &mut tally).await;
    tally.bar.finish_and_clear();
    if let Some(failure) = delivered.failure {
        return Err(failure);
    }
    tell_too_old(&tally.rejected, &bill);
    let pulso = read_costs(server, &bill, &currency, &tally.receipts).await?;
    let cost = Cost::of(&bill, &currency, pulso)
        .ok_or_else(|| Failure::failed("the costs add up to more digits than fit"))?;
    let costs = if bill.groups.is_empty() { Vec::new() } else { vec![cost] };
    Ok(Imported { bill, rejected: tally.rejected, costs })
}

/// Merges a document into the catalog.
///
/// # Errors
/// When the catalog refuses it, or the server goes away.
pub async fn merge(rest: &Rest, document: &Value) -> Result<(), Failure> {
    let query = vec![("mode", "merge".to_owned())];
    let bytes = document.to_string().into_bytes();
    let body = Body { content_type: "application/json", bytes };
    rest::patiently(async || rest.post("/v1/catalog:apply", &query, body.clone()).await).await?;
    Ok(())
}

fn choose_currency(bill: &Bill, wanted: Option<&str>) -> Result<String, Failure> {
    let found: Vec<&str> = bill.currencies().into_iter().collect();
    match (wanted, found.as_slice()) {
        (Some(wanted), _) => Ok(wanted.to_owned()),
        (None, []) => Ok(String::new()),
        (None, [one]) => Ok((*one).to_owned()),
        (None, several) => {
            let several = several.join(", ");
            Err(Failure::usage(format!(
                "the file has several currencies ({several}); choose one with --currency"
            )))
        }
    }
}

async fn read_existing(rest: &Rest) -> Result<Existing, Failure> {
    let document = match rest.get("/v1/catalog", &Vec::new()).await {
        // No catalog was applied yet.
        Err(failure) if failure.exit == Exit::NotFound => Value::Null,
        other => other?,
    };
    let tenants = rest.list("/v1/tenants", &Vec::new(), ListOf::all("tenants")).await?;
    Ok(Existing::read(&document, crate::client::rest::entries(&tenants, "tenants")))
}

/// Reads the charges of every tenant-month of the bill, once its pulses are folded and rated.
async fn read_costs(
    server: &Server,
    bill: &Bill,
    currency: &str,
    receipts: &HashMap<String, v1::Receipt>,
) -> Result<Exact, Failure> {
    let months = costs::tenant_months(bill);
    let bar = progress::bar(Some(months.len() as u64), "comparing");
    let mut sum = Exact::ZERO;
    for ((tenant_id, month), skus) in months {
        let charges = read_charges(&server.rest, (tenant_id, month), receipts.get(tenant_id)).await?;
        let part = costs::list_cost(&charges, &skus, currency)?;
        sum = sum.plus(part).ok_or_else(|| Failure::failed("the charges add up to more digits than fit"))?;
        bar.inc(1);
    }
    bar.finish_and_clear();
    Ok(sum)
}

async fn read_charges(
    rest: &Rest,
    (tenant_id, month): (&str, Window),
    receipt: Option<&v1::Receipt>,
) -> Result<Value, Failure> {
    let path = format!("/v1/tenants/{}/charges", path_part(tenant_id));
    let mut query = vec![("period", month.to_string())];
    if let Some(receipt) = receipt {
        query.push(("wait_for", format!("{}:{}:{}", receipt.generation, receipt.partition, receipt.offset)));
    }
    match rest::patiently(async || rest.list(&path, &query, ListOf::all("charges")).await).await {
        // All of its pulses were refused, so that Pulso does not know the tenant.
        Err(failure) if failure.exit == Exit::NotFound && receipt.is_none() => Ok(Value::Null),
        other => other,
    }
}

/// Says which flag opens the acceptance limit.
fn tell_too_old(rejected: &BTreeMap<String, u64>, bill: &Bill) {
    let (Some(rows), Some(oldest)) = (rejected.get("TOO_OLD"), bill.oldest_seconds) else { return };
    let age = Clock::System.now().seconds() - oldest;
    let days = age.div_euclid(SECONDS_PER_DAY) + 2;
    output::note(format!(
        "{rows} rows are older than the server takes: start it with --accept-past {days}d, or move the bill with --month"
    ));
}

/// Keeps the last receipt of each tenant: when that one is folded, all of the tenant's are.
struct Tally {
    bar: indicatif::ProgressBar,
    receipts: HashMap<String, v1::Receipt>,
    rejected: BTreeMap<String, u64>,
}

impl AnswerSink for Tally {
    fn settled(&mut self, outgoing: &Outgoing, answer: Answer) {
        self.bar.inc(1);
        match answer {
            Answer::Accepted(receipt) => {
                let last = self.receipts.entry(outgoing.pulse.tenant_id.clone()).or_insert(receipt);
                if rank(last) < rank(&receipt) {
                    *last = receipt;
                }
            }
            Answer::Rejected(result) => {
                let told: u64 = self.rejected.values().sum();
                if told < REJECTIONS_TOLD_MAX {
                    let line = outgoing.line;
                    let text =
                        format!("line {line}: {}: {}: {}", result.reason, result.field, result.message);
                    self.bar.suspend(|| output::note(text));
                }
                *self.rejected.entry(result.reason).or_default() += 1;
            }
        }
    }
}

fn rank(receipt: &v1::Receipt) -> Option<Rank> {
    Rank::new(receipt.generation, receipt.offset)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_currency_is_taken_and_several_need_a_choice() {
        let mut bill = Bill::default();
        assert_eq!(choose_currency(&bill, None), Ok(String::new()));
        for currency in ["USD", "EUR"] {
            let key = super::super::bill::GroupKey {
                currency: currency.to_owned(),
                tenant_id: "t".to_owned(),
                month: pulso_domain::window::Window::parse_month("2026-01").expect("good"),
                product_sku: "s".to_owned(),
                use_unit: "u".to_owned(),
            };
            bill.groups.insert(key, super::super::bill::Group::default());
        }
        assert!(choose_currency(&bill, None).is_err_and(|failure| failure.sentence.contains("EUR, USD")));
        assert_eq!(choose_currency(&bill, Some("EUR")).as_deref(), Ok("EUR"));
    }
}
