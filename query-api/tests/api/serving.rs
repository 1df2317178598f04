//! The server on a real socket: it answers, bounds what clients may do, and stops in order.

use std::time::Duration;

use pulso_query_api::server::serve;
use pulso_query_api::settings::QuerySettings;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

use crate::fixture::World;

async fn ask(address: std::net::SocketAddr, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).await.expect("connects");
    stream.write_all(bytes).await.expect("writes");
    let mut answer = Vec::new();
    // A reset after the answer is an end too.
    let _ = tokio::time::timeout(Duration::from_secs(20), stream.read_to_end(&mut answer)).await;
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn g16_the_server_answers_and_stops_in_order() {
    let world = World::new();
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("binds");
    let address = listener.local_addr().expect("an address");
    let (stop, settings) = (CancellationToken::new(), QuerySettings::default());
    let settings = QuerySettings { header_wait_max: Duration::from_millis(200), ..settings };
    let server = serve(settings, world.sources.clone(), listener, stop.clone());
    let client = async {
        let answer = ask(address, b"GET /v1/ledger HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await;
        assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
        assert!(answer.contains("\"partitions\""));
        // Headers that do not end are not waited for.
        let slow = ask(address, b"GET /v1/ledger HTTP/1.1\r\nhost: x\r\n").await;
        assert!(!slow.contains("200 OK"), "{slow}");
        let flood = format!("GET / HTTP/1.1\r\nhost: x\r\na: {}\r\n\r\n", "x".repeat(100_000));
        assert!(!ask(address, flood.as_bytes()).await.contains("200 OK"));
        // An idle connection does not hold the stop up.
        let idle = TcpStream::connect(address).await.expect("connects");
        stop.cancel();
        idle
    };
    let (served, _idle) =
        tokio::time::timeout(Duration::from_secs(20), async { tokio::join!(server, client) })
            .await
            .expect("stops");
    served.expect("serves");
    assert!(TcpStream::connect(address).await.is_err());
}
