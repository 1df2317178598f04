//! A node of the store behind a proxy that reads what passes and can hold requests back: what a consumer had sent when it fell
//! asleep then reaches the node as late as a test wants.
//!
//! Frames are those of version 4 of the CQL protocol (`native_protocol_v4.spec` of Apache Cassandra): nine bytes, of which the
//! third and fourth name the stream, the fifth the kind, and the last four the length of the body.

use std::collections::{BTreeMap, HashMap};
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread;
use std::time::Duration;

const HEADER_BYTES: usize = 9;
const WARNING_FLAG: u8 = 0x08;
const RESULT: u8 = 0x08;
const PREPARE: u8 = 0x09;
const EXECUTE: u8 = 0x0a;
const BATCH: u8 = 0x0d;
/// What a result begins with that answers a [`PREPARE`].
const PREPARED: [u8; 4] = [0, 0, 0, 4];
/// How often a held connection looks whether it may go on.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// Requests that were held back, by the first words of their statement: how many there were, and how many of them the node
/// has done since.
#[derive(Default)]
struct Seen {
    statements: HashMap<Vec<u8>, String>,
    held: BTreeMap<String, usize>,
    landed: BTreeMap<String, usize>,
}

#[derive(Default)]
struct Shared {
    is_holding: AtomicBool,
    seen: Mutex<Seen>,
}

impl Shared {
    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The proxy; it serves as long as the process lives.
pub(crate) struct HeldNode {
    shared: Arc<Shared>,
    address: String,
}

impl HeldNode {
    /// Listens at a free port, and leads to `node`.
    pub(crate) fn start(node: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("bound").to_string();
        let shared = Arc::new(Shared::default());
        let (serving, node) = (Arc::clone(&shared), node.to_owned());
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let Ok(server) = TcpStream::connect(&node) else { continue };
                connect(client, server, &serving).expect("a connection of two sockets");
            }
        });
        Self { shared, address }
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// From now on no request reaches the node.
    pub(crate) fn hold(&self) {
        self.shared.is_holding.store(true, Ordering::SeqCst);
    }

    /// All that was held goes on.
    pub(crate) fn release(&self) {
        self.shared.is_holding.store(false, Ordering::SeqCst);
    }

    /// How many writes of a table were held back, and how many of these the node has done since.
    pub(crate) fn writes(&self, table: &str) -> (usize, usize) {
        let (seen, put) = (self.shared.seen(), format!("UPDATE {table}"));
        let of = |counts: &BTreeMap<String, usize>| counts.get(&put).copied().unwrap_or(0);
        (of(&seen.held), of(&seen.landed))
    }
}

/// What is under way on a connection, by stream.
#[derive(Default)]
struct UnderWay {
    preparing: HashMap<[u8; 2], String>,
    /// Requests that were held back.
    held: HashMap<[u8; 2], String>,
}

fn connect(client: TcpStream, server: TcpStream, shared: &Arc<Shared>) -> io::Result<()> {
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let under_way = Arc::new(Mutex::new(UnderWay::default()));
    let (queue, queued) = mpsc::channel::<Vec<u8>>();
    let (mut requests, mut to_server) = (client.try_clone()?, server.try_clone()?);
    let (known, seen) = (Arc::clone(&under_way), Arc::clone(shared));
    thread::spawn(move || {
        while let Ok(frame) = read_frame(&mut requests) {
            note_request(&frame, &mut known.lock().expect("no panic"), &seen);
            if queue.send(frame).is_err() {
                break;
            }
        }
    });
    let holding = Arc::clone(shared);
    thread::spawn(move || {
        for frame in queued {
            while holding.is_holding.load(Ordering::SeqCst) {
                thread::sleep(LOOK_EVERY);
            }
            if to_server.write_all(&frame).is_err() {
                break;
            }
        }
        let _closed = to_server.shutdown(std::net::Shutdown::Both);
    });
    let (mut answers, mut to_client, seen) = (server, client, Arc::clone(shared));
    thread::spawn(move || {
        while let Ok(frame) = read_frame(&mut answers) {
            note_answer(&frame, &mut under_way.lock().expect("no panic"), &seen);
            // Nobody may be there any more to hear it; what it says is noted all the same.
            let _gone = to_client.write_all(&frame);
        }
        let _closed = to_client.shutdown(std::net::Shutdown::Both);
    });
    Ok(())
}

fn read_frame(from: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut frame = vec![0; HEADER_BYTES];
    from.read_exact(&mut frame)?;
    let length = u32::from_be_bytes([frame[5], frame[6], frame[7], frame[8]]) as usize;
    frame.resize(HEADER_BYTES + length, 0);
    from.read_exact(&mut frame[HEADER_BYTES..])?;
    Ok(frame)
}

fn stream_of(frame: &[u8]) -> [u8; 2] {
    [frame[2], frame[3]]
}

/// Bytes behind their length in two bytes, and what follows.
fn short_bytes(from: &[u8]) -> (&[u8], &[u8]) {
    from[2..].split_at(usize::from(u16::from_be_bytes([from[0], from[1]])))
}

fn note_request(frame: &[u8], known: &mut UnderWay, shared: &Shared) {
    let body = &frame[HEADER_BYTES..];
    let statement = match frame[4] {
        PREPARE => {
            let text = String::from_utf8_lossy(&body[4..]);
            let words: Vec<&str> = text.split(' ').take(2).collect();
            known.preparing.insert(stream_of(frame), words.join(" "));
            return;
        }
        EXECUTE => short_bytes(body).0,
        // Behind the batch's type and its length; the first is prepared, and all of them are of one table.
        BATCH if body[3] == 1 => short_bytes(&body[4..]).0,
        _ => return,
    };
    if shared.is_holding.load(Ordering::SeqCst) {
        let mut seen = shared.seen();
        if let Some(words) = seen.statements.get(statement).cloned() {
            *seen.held.entry(words.clone()).or_default() += 1;
            known.held.insert(stream_of(frame), words);
        }
    }
}

fn note_answer(frame: &[u8], known: &mut UnderWay, shared: &Shared) {
    let (preparing, held) = (known.preparing.remove(&stream_of(frame)), known.held.remove(&stream_of(frame)));
    if frame[4] != RESULT {
        return;
    }
    if let Some(words) = held {
        *shared.seen().landed.entry(words).or_default() += 1;
    }
    let mut body = &frame[HEADER_BYTES..];
    if frame[1] & WARNING_FLAG != 0 {
        let warnings = u16::from_be_bytes([body[0], body[1]]);
        body = (0..warnings).fold(&body[2..], |rest, _| short_bytes(rest).1);
    }
    if let (Some(words), Some(prepared)) = (preparing, body.strip_prefix(&PREPARED)) {
        shared.seen().statements.insert(short_bytes(prepared).0.to_vec(), words);
    }
}
