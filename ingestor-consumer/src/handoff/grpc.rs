//! Pushes usage by gRPC, `pulso.v1.PricingService/PushUsage`.

use pulso_proto::v1;
use pulso_proto::v1::pricing_service_client::PricingServiceClient;
use tokio::runtime::Handle;
use tonic::transport::{Channel, Endpoint};

use super::direct::{ANSWER_MAX, CONNECT_MAX, Push};

/// Pushes by gRPC.
pub struct GrpcPush {
    client: PricingServiceClient<Channel>,
    runtime: Handle,
}

impl GrpcPush {
    /// Pushes to `http://HOST:PORT`; connects with the first push, and again whenever the connection is lost. Must be called
    /// within the run time that the connection lives on.
    ///
    /// # Errors
    /// When the address is none.
    pub fn new(address: &str) -> Result<Self, String> {
        let endpoint = Endpoint::from_shared(address.to_owned()).map_err(|error| error.to_string())?;
        let channel = endpoint.connect_timeout(CONNECT_MAX).timeout(ANSWER_MAX).connect_lazy();
        Ok(Self { client: PricingServiceClient::new(channel), runtime: Handle::current() })
    }
}

impl Push for GrpcPush {
    fn push(&self, update: v1::UsageUpdate) -> Result<(), String> {
        let mut client = self.client.clone();
        let request = v1::PushUsageRequest { update: Some(update) };
        let answered = self.runtime.block_on(async move { client.push_usage(request).await });
        answered.map(|_| ()).map_err(|status| format!("{:?}: {}", status.code(), status.message()))
    }
}
