//! Binds the addresses that a role serves, with a sentence that helps when one cannot be had.

use std::io;
use std::net::SocketAddr;

use tokio::net::TcpListener;

/// Why an address cannot be listened on.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// Another process has the port.
    #[error("port {} of {} is taken; stop what holds it, or choose another with {flag} (port 0 takes a free one)", addr.port(), addr.ip())]
    Taken {
        /// The address.
        addr: SocketAddr,
        /// The flag that sets it.
        flag: &'static str,
    },
    /// Anything else: an address that is not this machine's, a port that needs rights.
    #[error("cannot listen on {addr} ({flag}): {source}")]
    Refused {
        /// The address.
        addr: SocketAddr,
        /// The flag that sets it.
        flag: &'static str,
        /// What the system says.
        source: io::Error,
    },
}

impl ListenError {
    /// Whether the same address may be free later without anyone's help.
    #[must_use]
    pub const fn is_retryable(&self) -> bool {
        matches!(self, Self::Taken { .. })
    }
}

/// Listens on an address. `flag` is the flag that sets it, for the sentence.
///
/// # Errors
/// When the address is taken or cannot be had.
pub async fn bind(addr: SocketAddr, flag: &'static str) -> Result<TcpListener, ListenError> {
    TcpListener::bind(addr).await.map_err(|source| match source.kind() {
        io::ErrorKind::AddrInUse => ListenError::Taken { addr, flag },
        _ => ListenError::Refused { addr, flag, source },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_taken_port_is_named_with_its_flag() {
        let first = bind(SocketAddr::from(([127, 0, 0, 1], 0)), "--api-addr").await.unwrap();
        let addr = first.local_addr().unwrap();
        let error = bind(addr, "--api-addr").await.unwrap_err();
        let expected = format!("port {} of 127.0.0.1 is taken; stop what holds it", addr.port());
        assert!(error.to_string().starts_with(&expected), "{error}");
        assert!(error.to_string().contains("--api-addr"), "{error}");
        assert!(error.is_retryable());
    }

    #[tokio::test]
    async fn an_address_of_another_machine_is_refused() {
        let error = bind(SocketAddr::from(([192, 0, 2, 1], 0)), "--api-addr").await.unwrap_err();
        assert!(matches!(error, ListenError::Refused { .. }), "{error}");
    }
}
