//! The two servers of the ingest rows: the front door on the embedded log, and a bare tonic and prost server that gives
//! answers of the same shape and stores nothing. Same HTTP/2 windows, same allocator, same runtime.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use pulso_ingestor_api::door::{Floor, UnitBook};
use pulso_ingestor_api::ingest::IngestDeps;
use pulso_ingestor_api::server;
use pulso_ingestor_api::settings::IngestSettings;
use pulso_platform::log::Log;
use pulso_platform::service::clock::Clock;
use pulso_proto::v1::ingest_service_server::{IngestService, IngestServiceServer};
use pulso_proto::v1::{PulseResult, Receipt, SendPulsesRequest, SendPulsesResponse, pulse_result};
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};

use crate::child::{Ready, answer_until_the_end, say};
use crate::records;

/// The windows of the ingestor, so that the transport of both is the same.
const STREAM_WINDOW_BYTES: u32 = 1024 * 1024;
const CONNECTION_WINDOW_BYTES: u32 = 4 * 1024 * 1024;
const FRAME_BYTES_MAX: u32 = 256 * 1024;

/// Arguments of [`ingest`].
#[derive(clap::Args, Debug)]
pub struct IngestArgs {
    /// The folder of the log.
    #[arg(long)]
    pub log: PathBuf,
}

/// Serves ingest until the input ends.
///
/// # Errors
/// When it cannot serve.
pub fn ingest(args: &IngestArgs) -> anyhow::Result<()> {
    let log = records::open(&args.log)?;
    let served = ingest_on(Arc::clone(&log) as Arc<dyn Log>);
    log.close();
    served
}

/// Serves ingest on a log until the input ends.
///
/// # Errors
/// When it cannot serve.
pub fn ingest_on(log: Arc<dyn Log>) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let (listener, shutdown) = listen().await?;
        let (units, floor) = (UnitBook::default(), Floor::default());
        let deps = IngestDeps { log, clock: Clock::System, units, floor };
        server::serve(IngestSettings::default(), deps, listener, shutdown).await?;
        Ok(())
    })
}

/// Serves the echo until the input ends.
///
/// # Errors
/// When it cannot serve.
pub fn echo() -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let (listener, shutdown) = listen().await?;
        let incoming = TcpListenerStream::new(listener);
        tonic::transport::Server::builder()
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .max_frame_size(FRAME_BYTES_MAX)
            .tcp_nodelay(true)
            .serve_with_incoming_shutdown(
                IngestServiceServer::new(Echo::default()),
                incoming,
                shutdown.cancelled(),
            )
            .await?;
        Ok(())
    })
}

/// Listens on a free port, says where, and ends when the input does.
async fn listen() -> anyhow::Result<(TcpListener, CancellationToken)> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let shutdown = CancellationToken::new();
    let ended = shutdown.clone().drop_guard();
    std::thread::spawn(move || {
        let _ended = ended;
        answer_until_the_end()
    });
    say(&Ready { address: listener.local_addr()?.to_string() })?;
    Ok((listener, shutdown))
}

#[derive(Default)]
struct Echo {
    offset: AtomicU64,
}

#[tonic::async_trait]
impl IngestService for Echo {
    type StreamPulsesStream = tokio_stream::Empty<Result<SendPulsesResponse, Status>>;

    async fn send_pulses(
        &self,
        request: Request<SendPulsesRequest>,
    ) -> Result<Response<SendPulsesResponse>, Status> {
        let pulses = u32::try_from(request.into_inner().pulses.len()).unwrap_or(u32::MAX);
        let offset = self.offset.fetch_add(1, Ordering::Relaxed);
        let result = |index| PulseResult {
            status: pulse_result::Status::Accepted.into(),
            receipt: Some(Receipt { generation: 1, partition: 0, offset, index }),
            ..PulseResult::default()
        };
        Ok(Response::new(SendPulsesResponse { results: (0..pulses).map(result).collect() }))
    }

    async fn stream_pulses(
        &self,
        _request: Request<Streaming<SendPulsesRequest>>,
    ) -> Result<Response<Self::StreamPulsesStream>, Status> {
        Err(Status::unimplemented("the baseline answers single batches"))
    }
}
