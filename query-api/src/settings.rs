//! What bounds a server of the API. Every bound keeps memory or patience finite; none changes an answer.

use std::time::Duration;

/// The settings of the API.
#[derive(Clone, Debug)]
pub struct QuerySettings {
    /// Longest that `?wait_for=` waits.
    pub wait_max: Duration,
    /// How far ahead a dead letter that is sent again may lie, as at the ingestor's door.
    pub accept_future: Duration,
    /// Most bytes of a request's body.
    pub body_bytes_max: usize,
    /// Requests in flight; further ones are refused with `OVERLOADED`.
    pub requests_max: usize,
    /// Connections at a time; further ones wait in the kernel's queue.
    pub connections_max: usize,
    /// Longest that a client may take for the headers of a request.
    pub header_wait_max: Duration,
    /// Longest that a client may take for a body.
    pub body_wait_max: Duration,
    /// Longest that requests in flight are waited for at a stop.
    pub drain_max: Duration,
}

impl Default for QuerySettings {
    fn default() -> Self {
        Self {
            wait_max: Duration::from_secs(10),
            accept_future: Duration::from_secs(5 * 60),
            // A catalog of about ten thousand prices.
            body_bytes_max: 1024 * 1024,
            // Each may hold a blocking thread, of which the runtime has 512.
            requests_max: 256,
            connections_max: 1024,
            header_wait_max: Duration::from_secs(10),
            body_wait_max: Duration::from_secs(30),
            drain_max: Duration::from_secs(20),
        }
    }
}
