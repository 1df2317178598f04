//! Verifying a load through REST: what the ledger and the tenants' usage grew by must be what was sent.

use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use pulso_domain::quantity::Quantity;
use serde_json::Value;

use crate::mix::Totals;

/// How long the fold may take to come to the end of the log after the last answer.
const DRAIN_MAX: Duration = Duration::from_secs(120);

/// The API of a running server.
pub struct Api {
    base: String,
    client: reqwest::Client,
}

impl Api {
    /// The API at HOST:PORT.
    #[must_use]
    pub fn new(address: &str) -> Self {
        Self { base: format!("http://{address}"), client: reqwest::Client::new() }
    }

    async fn get(&self, path: &str) -> anyhow::Result<Value> {
        let response = self.client.get(format!("{}{path}", self.base)).send().await?.error_for_status()?;
        Ok(serde_json::from_str(&response.text().await?)?)
    }

    /// Waits until all that is in the log is folded.
    ///
    /// # Errors
    /// When it is not within two minutes.
    pub async fn drained(&self) -> anyhow::Result<()> {
        let since = Instant::now();
        loop {
            let ledger = self.get("/v1/ledger").await?;
            let partitions = ledger["partitions"].as_array().context("a ledger has partitions")?;
            if partitions.iter().all(|one| one["end_offset"] == one["folded_offset"]) {
                return Ok(());
            }
            if since.elapsed() > DRAIN_MAX {
                bail!("the log is not folded after {DRAIN_MAX:?}: {ledger}");
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// What all tenants used from this time on, until now.
    ///
    /// # Errors
    /// When the API does not answer as it should.
    pub async fn totals(&self) -> anyhow::Result<Totals> {
        let mut totals = Totals::default();
        let mut page = String::new();
        loop {
            let tenants = self.get(&format!("/v1/tenants?page_size=1000{page}")).await?;
            for tenant in tenants["tenants"].as_array().context("a list of tenants")? {
                let tenant = tenant["tenant_id"].as_str().context("a tenant has an id")?;
                totals = totals.plus(self.tenant_totals(tenant).await?);
            }
            match tenants["next_page_token"].as_str() {
                Some(token) if !token.is_empty() => page = format!("&page_token={token}"),
                _ => return Ok(totals),
            }
        }
    }

    async fn tenant_totals(&self, tenant: &str) -> anyhow::Result<Totals> {
        let mut totals = Totals::default();
        let mut page = String::new();
        loop {
            let path = format!("/v1/tenants/{tenant}/usage?granularity=month&page_size=1000{page}");
            let usage = self.get(&path).await?;
            for row in usage["usage"].as_array().context("a list of usage rows")? {
                let quantity = row["quantity"].as_str().context("a quantity is a string")?;
                totals.steps += Quantity::parse(quantity.as_bytes())?.steps();
                totals.pulses += row["count"].as_u64().context("a count is a number")?;
            }
            match usage["next_page_token"].as_str() {
                Some(token) if !token.is_empty() => page = format!("&page_token={token}"),
                _ => return Ok(totals),
            }
        }
    }
}
