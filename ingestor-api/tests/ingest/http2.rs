//! The limits of HTTP/2, with hand-made frames: what is announced, and what a client that floods gets.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::fixture::{PATIENCE, Server, is_accepted, pulses};

const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;
const END_HEADERS: u8 = 4;

fn frame(kind: u8, flags: u8, stream: u32, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), body].concat()
}

/// A connection that has said hello.
async fn connect(server: &Server) -> TcpStream {
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
    stream.write_all(&frame(SETTINGS, 0, 0, &[])).await.unwrap();
    stream
}

/// The next frame's kind and body; `None` at the end of the connection.
async fn next_frame(stream: &mut TcpStream) -> Option<(u8, Vec<u8>)> {
    let read = async {
        let mut head = [0; 9];
        stream.read_exact(&mut head).await.ok()?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let mut body = vec![0; length as usize];
        stream.read_exact(&mut body).await.ok()?;
        Some((head[3], body))
    };
    tokio::time::timeout(PATIENCE, read).await.unwrap()
}

/// Headers of a `SendPulses` call in HPACK, literals without indexing.
fn call_headers() -> Vec<u8> {
    let literal = |name: &str, value: &str| {
        let text = |text: &str| [&[u8::try_from(text.len()).unwrap()], text.as_bytes()].concat();
        [vec![0], text(name), text(value)].concat()
    };
    [
        vec![0x83, 0x86], // :method POST, :scheme http
        literal(":path", "/pulso.v1.IngestService/SendPulses"),
        literal(":authority", "localhost"),
        literal("content-type", "application/grpc"),
        literal("te", "trailers"),
    ]
    .concat()
}

#[tokio::test]
async fn g11_the_limits_are_announced() {
    let server = Server::start().await;
    let mut stream = connect(&server).await;
    let (kind, body) = next_frame(&mut stream).await.unwrap();
    assert_eq!(kind, SETTINGS);
    let setting = |wanted: u16| {
        let (entries, _) = body.as_chunks::<6>();
        let entry = entries.iter().find(|entry| entry[..2] == wanted.to_be_bytes());
        entry.map(|entry| u32::from_be_bytes([entry[2], entry[3], entry[4], entry[5]]))
    };
    assert_eq!(setting(3), Some(256), "concurrent streams");
    assert_eq!(setting(4), Some(1 << 20), "window of a stream");
    assert_eq!(setting(5), Some(256 << 10), "frame size");
    assert_eq!(setting(6), Some(16 << 10), "header list");
}

#[tokio::test]
async fn g11_a_flood_of_streams_opened_and_reset_ends_the_connection_only() {
    let server = Server::start().await;
    let mut stream = connect(&server).await;
    let headers = call_headers();
    let mut flood = Vec::new();
    for number in 0..10_000_u32 {
        flood.extend(frame(HEADERS, END_HEADERS, 2 * number + 1, &headers));
        flood.extend(frame(RST_STREAM, 0, 2 * number + 1, &8_u32.to_be_bytes()));
    }
    // The server may close before all of it is written.
    let _closed = stream.write_all(&flood).await;
    let mut said_goaway = false;
    while let Some((kind, _)) = next_frame(&mut stream).await {
        said_goaway |= kind == GOAWAY;
    }
    assert!(said_goaway);
    assert!(server.send(pulses(5)).await.unwrap().iter().all(is_accepted));
}

#[tokio::test]
async fn g11_streams_beyond_the_limit_are_refused_and_others_are_served() {
    let server = Server::start().await;
    let mut stream = connect(&server).await;
    let headers = call_headers();
    // 300 calls that never send their message: 256 wait for it, the others are refused.
    for number in 0..300_u32 {
        stream.write_all(&frame(HEADERS, END_HEADERS, 2 * number + 1, &headers)).await.unwrap();
    }
    let mut refused = 0;
    while refused < 300 - 256 {
        let (kind, body) = next_frame(&mut stream).await.unwrap();
        if kind == RST_STREAM {
            assert_eq!(body, 7_u32.to_be_bytes(), "REFUSED_STREAM");
            refused += 1;
        }
    }
    assert!(server.send(pulses(5)).await.unwrap().iter().all(is_accepted));
}

#[tokio::test]
async fn g11_announced_bytes_that_never_come_cost_no_memory_and_no_budget() {
    let server = Server::start().await;
    let mut streams = Vec::new();
    let headers = call_headers();
    let announced = [&[0][..], &(4_u32 << 20).to_be_bytes()].concat();
    for _ in 0..3 {
        let mut stream = connect(&server).await;
        let mut calls = Vec::new();
        for number in 0..250_u32 {
            calls.extend(frame(HEADERS, END_HEADERS, 2 * number + 1, &headers));
            calls.extend(frame(0, 0, 2 * number + 1, &announced));
        }
        stream.write_all(&calls).await.unwrap();
        streams.push(stream);
    }
    // 750 calls have announced 3,000 MiB, far over the budget; what counts is the 5 bytes of each.
    for _ in 0..10 {
        assert!(server.send(pulses(1000)).await.unwrap().iter().all(is_accepted));
    }
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    let kib: usize = resident.trim().trim_end_matches(" kB").parse().unwrap();
    assert!(kib < 1 << 20, "{kib} KiB");
}
