//! Which tenants there are: those with usage, and those that the catalog names.

use std::collections::{BTreeMap, BTreeSet};

use pulso_domain::ids::TenantId;
use pulso_domain::window::Window;
use pulso_platform::store::{Range, Table, after_prefix, keys};

use super::sources::Sources;
use crate::problem::{Code, Problem};

/// Tenant-months read at a time.
const MONTHS_PER_READ: usize = 256;

impl Sources {
    /// The tenants with usage that come behind this one, in order, at least `most` of them if there are.
    pub(crate) fn tenants_after(&self, after: &str, most: usize) -> Result<BTreeSet<String>, Problem> {
        let mut all = BTreeSet::new();
        for partition in self.log.partitions() {
            let mut here: usize = 0;
            let mut from = after_tenant(after);
            while here < most {
                let range = Range { from, ..Range::all() };
                let name = keys::months_partition(partition);
                let found = self.store.scan(Table::Tenants, &name, &range, MONTHS_PER_READ)?;
                let Some((last, _)) = found.last() else { break };
                let last = keys::decode_month_clustering(last).map(|(tenant, _)| tenant.to_owned());
                let last = last.ok_or_else(|| Problem::internal(&"the key of a tenant-month is damaged"))?;
                for (key, _) in &found {
                    if let Some((tenant, _)) = keys::decode_month_clustering(key) {
                        here += usize::from(all.insert(tenant.to_owned()));
                    }
                }
                from = after_tenant(&last);
            }
        }
        Ok(all)
    }

    /// Whether the tenant has usage.
    pub(crate) fn has_usage(&self, tenant_id: &str) -> Result<bool, Problem> {
        Ok(!self.months_of(tenant_id, 1)?.is_empty())
    }

    /// The months of a tenant that have usage, oldest first.
    pub(crate) fn months_of(&self, tenant_id: &str, most: usize) -> Result<Vec<Window>, Problem> {
        let prefix = [tenant_id.as_bytes(), &[0]].concat();
        let mut months = BTreeSet::new();
        for partition in self.partitions_of(tenant_id) {
            let name = keys::months_partition(partition);
            let found = self.store.scan(Table::Tenants, &name, &Range::prefix(&prefix), most)?;
            let here = found.iter().filter_map(|(key, _)| keys::decode_month_clustering(key));
            months.extend(here.filter(|(tenant, _)| *tenant == tenant_id).map(|(_, month)| month));
        }
        Ok(months.into_iter().take(most).collect())
    }

    /// The original names of tenants that an importer mapped, where there are any.
    pub(crate) fn sources_of(&self, tenants: &[String]) -> Result<BTreeMap<String, String>, Problem> {
        let names: Vec<_> = tenants.iter().map(|tenant| keys::tenant_source(tenant)).collect();
        let found = self.store.get(&names)?.into_iter().zip(tenants);
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Ok(found.filter_map(|(cell, tenant)| Some((tenant.clone(), text(&cell?.value)))).collect())
    }
}

/// The first key behind a tenant's months.
fn after_tenant(tenant_id: &str) -> Vec<u8> {
    if tenant_id.is_empty() {
        return Vec::new();
    }
    after_prefix(&[tenant_id.as_bytes(), &[0]].concat()).unwrap_or_default()
}

/// The answer for a tenant that is not known.
pub(crate) fn unknown_tenant(tenant_id: &str) -> Problem {
    let detail = if TenantId::new(tenant_id).is_some() {
        "no pulse of this tenant was counted and no contract names it; see /v1/tenants"
    } else {
        "a tenant id has 1 to 64 characters of A-Z a-z 0-9 . _ -; see /v1/tenants"
    };
    Problem::new(Code::TenantNotFound, detail)
}
