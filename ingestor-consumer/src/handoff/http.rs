//! Pushes usage by HTTP, `POST /v1/usage-records`, for a pricing that speaks no gRPC.

use pulso_proto::usage::JsonUpdate;
use pulso_proto::v1;
use reqwest::{Client, Url};
use tokio::runtime::Handle;

use super::direct::{ANSWER_MAX, CONNECT_MAX, Push};

/// Pushes by HTTP.
pub struct HttpPush {
    client: Client,
    url: Url,
    runtime: Handle,
}

impl HttpPush {
    /// Pushes to `http://HOST:PORT`. Must be called within the run time that the connections live on.
    ///
    /// # Errors
    /// When the address is none.
    pub fn new(address: &str) -> Result<Self, String> {
        let url = Url::parse(address).and_then(|url| url.join("v1/usage-records"));
        let url = url.map_err(|error| error.to_string())?;
        let client = Client::builder().connect_timeout(CONNECT_MAX).timeout(ANSWER_MAX).build();
        Ok(Self { client: client.map_err(|error| error.to_string())?, url, runtime: Handle::current() })
    }
}

impl Push for HttpPush {
    fn push(&self, update: v1::UsageUpdate) -> Result<(), String> {
        let request = self.client.post(self.url.clone()).json(&JsonUpdate::from(&update));
        // Sending begins a timer, so it must begin within the run time, too.
        let answered = self.runtime.block_on(async { request.send().await?.error_for_status() });
        answered.map(|_| ()).map_err(|error| error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_push_from_a_thread_of_its_own_says_that_nobody_is_there() {
        let runtime = tokio::runtime::Runtime::new().expect("a run time");
        let push = runtime.block_on(async { HttpPush::new("http://127.0.0.1:1") }).expect("an address");
        push.push(v1::UsageUpdate::default()).expect_err("nobody is there");
    }
}
