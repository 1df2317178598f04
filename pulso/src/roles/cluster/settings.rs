//! The flags that every role of the cluster has: where log and store are, and who may reach its ports.

use std::net::SocketAddr;

use pulso_platform::log::kafka::KafkaSettings;
use pulso_platform::store::cql::CqlSettings;
use serde::Serialize;

use crate::cli::exit::Failure;

/// Where the log and the store are.
#[derive(clap::Args, Clone, Debug, Serialize)]
pub struct ClusterFlags {
    /// The log.
    #[command(flatten)]
    #[serde(flatten)]
    pub kafka: KafkaSettings,
    /// The store.
    #[command(flatten)]
    #[serde(flatten)]
    pub cql: CqlSettings,
}

/// Who may reach the ports.
#[derive(clap::Args, Clone, Debug, Serialize)]
pub struct NetworkFlags {
    /// Listen also beyond this machine: whoever reaches a port may then do everything, so the network must be a closed one
    #[arg(long, env = "PULSO_TRUST_NETWORK")]
    pub trust_network: bool,
}

impl NetworkFlags {
    /// Checks that no address can be reached from outside, unless the network is trusted.
    ///
    /// # Errors
    /// When one can.
    pub fn validate(&self, listens: &[(&str, SocketAddr)]) -> Result<(), Failure> {
        let open = listens.iter().find(|(_, address)| !self.trust_network && !address.ip().is_loopback());
        let Some((flag, address)) = open else { return Ok(()) };
        Err(Failure::usage(format!(
            "{flag} {address} can be reached from outside and no keys are configured; \
             use 127.0.0.1, or say --trust-network when the network is closed to others"
        )))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_beyond_the_machine_needs_a_trusted_network() {
        let listens = [("--api-addr", "0.0.0.0:7080".parse().expect("an address"))];
        let refused = NetworkFlags { trust_network: false }.validate(&listens).expect_err("reachable");
        assert!(refused.sentence.contains("--trust-network"), "{refused}");
        assert!(NetworkFlags { trust_network: true }.validate(&listens).is_ok());
        let loopback = [("--api-addr", "[::1]:0".parse().expect("an address"))];
        assert!(NetworkFlags { trust_network: false }.validate(&loopback).is_ok());
    }
}
