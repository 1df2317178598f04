//! Bounded admission (G11): how many calls and bytes are in flight, and the refusal of what goes beyond.
//!
//! A call takes a [`CallPermit`] before anything of it is read; its bytes take a [`ByteLease`] as they arrive and keep it
//! until the log has them and the answer is gone. Both give back what they hold when dropped, so a cancelled call leaks
//! nothing. The ceiling on memory is `bytes_in_flight_max`, plus for each worker thread three times `message_bytes_max`
//! (a request being decompressed, walked and sorted), plus about 24 KiB a call and the HTTP/2 window of each connection.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::refusal::IngestError;

/// The two budgets.
#[derive(Debug)]
pub struct Admission {
    calls: AtomicUsize,
    calls_max: usize,
    bytes: AtomicUsize,
    bytes_max: usize,
}

impl Admission {
    /// Budgets of which nothing is taken.
    #[must_use]
    pub fn new(calls_max: usize, bytes_max: usize) -> Arc<Self> {
        Arc::new(Self { calls: AtomicUsize::new(0), calls_max, bytes: AtomicUsize::new(0), bytes_max })
    }

    /// Takes the place of one call.
    ///
    /// # Errors
    /// [`IngestError::Overloaded`] when all places are taken.
    pub fn enter(self: &Arc<Self>) -> Result<CallPermit, IngestError> {
        if take(&self.calls, 1, self.calls_max) {
            Ok(CallPermit { admission: Arc::clone(self) })
        } else {
            Err(IngestError::Overloaded { what: "calls" })
        }
    }

    /// A lease of no bytes, to be grown.
    #[must_use]
    pub fn lease(self: &Arc<Self>) -> ByteLease {
        ByteLease { admission: Arc::clone(self), bytes: 0 }
    }

    /// Calls in flight.
    #[must_use]
    pub fn calls(&self) -> usize {
        self.calls.load(Ordering::Relaxed)
    }

    /// Most calls in flight.
    #[must_use]
    pub const fn calls_max(&self) -> usize {
        self.calls_max
    }

    /// Bytes in flight.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Most bytes in flight.
    #[must_use]
    pub const fn bytes_max(&self) -> usize {
        self.bytes_max
    }
}

/// Adds to a budget unless it would go beyond its bound.
fn take(budget: &AtomicUsize, amount: usize, bound: usize) -> bool {
    let within = |held: usize| held.checked_add(amount).filter(|sum| *sum <= bound);
    budget.try_update(Ordering::Relaxed, Ordering::Relaxed, within).is_ok()
}

/// The place of one call.
#[derive(Debug)]
pub struct CallPermit {
    admission: Arc<Admission>,
}

impl Drop for CallPermit {
    fn drop(&mut self) {
        self.admission.calls.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Bytes taken from the budget.
#[derive(Debug)]
pub struct ByteLease {
    admission: Arc<Admission>,
    bytes: usize,
}

impl ByteLease {
    /// How many bytes it holds.
    #[must_use]
    pub const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Takes more bytes.
    ///
    /// # Errors
    /// [`IngestError::Overloaded`] when the budget does not have them; what is held stays held.
    pub fn grow(&mut self, bytes: usize) -> Result<(), IngestError> {
        if !take(&self.admission.bytes, bytes, self.admission.bytes_max) {
            return Err(IngestError::Overloaded { what: "bytes" });
        }
        self.bytes += bytes;
        Ok(())
    }

    /// Moves all that is held into another lease.
    #[must_use]
    pub fn take_all(&mut self) -> Self {
        let bytes = std::mem::take(&mut self.bytes);
        Self { admission: Arc::clone(&self.admission), bytes }
    }

    /// An empty lease on the same budget.
    #[must_use]
    pub fn sibling(&self) -> Self {
        self.admission.lease()
    }
}

impl Drop for ByteLease {
    fn drop(&mut self) {
        if self.bytes > 0 {
            self.admission.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn g11_budgets_refuse_what_goes_beyond_and_get_all_back() {
        let admission = Admission::new(1, 100);
        let permit = admission.enter().expect("first");
        assert!(matches!(admission.enter(), Err(IngestError::Overloaded { what: "calls" })));
        drop(permit);
        assert_eq!(admission.calls(), 0);

        let mut lease = admission.lease();
        lease.grow(60).expect("fits");
        assert!(matches!(lease.sibling().grow(41), Err(IngestError::Overloaded { what: "bytes" })));
        assert!(lease.grow(usize::MAX).is_err());
        let mut moved = lease.take_all();
        moved.grow(40).expect("fits");
        drop(lease);
        assert_eq!(admission.bytes(), 100);
        drop(moved);
        assert_eq!(admission.bytes(), 0);
    }
}
