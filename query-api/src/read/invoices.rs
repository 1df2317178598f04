//! Draft invoices of a tenant, made from the published charges when they are read.

use pulso_domain::window::Window;
use pulso_pricing::charges::ChargeSet;
use pulso_pricing::invoice::{Invoice, InvoiceLine, draft_invoices};
use pulso_pricing::service::published;

use super::sources::Sources;
use crate::problem::{Code, Problem};

/// An invoice with the charges that it was made from.
pub(crate) struct Drafted {
    /// The invoice.
    pub(crate) invoice: Invoice,
    /// Its charges, and perhaps those of the same month in another currency.
    pub(crate) set: ChargeSet,
}

impl Sources {
    /// The invoices of a tenant's month.
    pub(crate) fn invoices_of(&self, tenant_id: &str, month: Window) -> Result<Vec<Invoice>, Problem> {
        match published(&*self.store, tenant_id, month)? {
            Some(set) => draft_invoices(&set).map_err(|error| Problem::internal(&error)),
            None => Ok(Vec::new()),
        }
    }

    /// One invoice by its id, `{tenant}-{period}` or `{tenant}-{period}-{currency}`.
    pub(crate) fn invoice(&self, tenant_id: &str, invoice_id: &str) -> Result<Drafted, Problem> {
        let unknown =
            || Problem::new(Code::InvoiceNotFound, "take the id from the tenant's list of invoices");
        let rest = invoice_id.strip_prefix(tenant_id).and_then(|rest| rest.strip_prefix('-'));
        let period = rest.and_then(|rest| rest.get(..7)).and_then(Window::parse_month);
        let set = published(&*self.store, tenant_id, period.ok_or_else(unknown)?)?.ok_or_else(unknown)?;
        let drafts = draft_invoices(&set).map_err(|error| Problem::internal(&error))?;
        let invoice = drafts.into_iter().find(|draft| draft.invoice_id == invoice_id).ok_or_else(unknown)?;
        Ok(Drafted { invoice, set })
    }
}

impl Drafted {
    /// One line by its id.
    pub(crate) fn line(&self, line_id: &str) -> Result<&InvoiceLine, Problem> {
        let line = self.invoice.lines.iter().find(|line| line.line_id == line_id);
        line.ok_or_else(|| Problem::new(Code::LineNotFound, "take the id from the lines of the invoice"))
    }
}
