//! A TCP proxy between a client and a server, with weather: late answers, lost answers, no connection at all.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

/// What happens to the bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(crate) enum Weather {
    /// They pass.
    Fair = 0,
    /// Every answer is 30 ms late.
    Slow = 1,
    /// Requests reach the server and are done; the answers are lost.
    AnswersLost = 2,
    /// Connections are cut and refused.
    Cut = 3,
}

struct Shared {
    weather: AtomicU8,
    lost_bytes: AtomicU64,
}

/// The proxy; it serves as long as the process lives. A clone is the same one.
#[derive(Clone)]
pub(crate) struct Proxy {
    shared: Arc<Shared>,
    address: String,
}

impl Proxy {
    /// Listens at an address, where port 0 is any that is free, and leads to `node`.
    pub(crate) fn start(listen: &str, node: &str) -> Self {
        let listener = TcpListener::bind(listen).expect("a free port");
        let address = listener.local_addr().expect("bound").to_string();
        let shared = Arc::new(Shared { weather: AtomicU8::new(0), lost_bytes: AtomicU64::new(0) });
        let (serving, node) = (Arc::clone(&shared), node.to_owned());
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                if serving.is(Weather::Cut) {
                    continue;
                }
                let Ok(server) = TcpStream::connect(&node) else { continue };
                let (Ok(client2), Ok(server2)) = (client.try_clone(), server.try_clone()) else { continue };
                let (up, down) = (Arc::clone(&serving), Arc::clone(&serving));
                thread::spawn(move || pump(client, server, &up, false));
                thread::spawn(move || pump(server2, client2, &down, true));
            }
        });
        Self { shared, address }
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// Changes the weather.
    pub(crate) fn set(&self, weather: Weather) {
        self.shared.weather.store(weather as u8, Ordering::SeqCst);
    }

    /// Bytes of answers that were lost so far.
    pub(crate) fn lost_bytes(&self) -> u64 {
        self.shared.lost_bytes.load(Ordering::SeqCst)
    }
}

impl Shared {
    fn is(&self, weather: Weather) -> bool {
        self.weather.load(Ordering::SeqCst) == weather as u8
    }
}

/// Moves bytes one way until either side ends or the weather cuts it.
fn pump(mut from: TcpStream, mut to: TcpStream, shared: &Shared, answers: bool) {
    let mut buffer = vec![0; 64 << 10];
    let mut lost_some = false;
    // Looks up from time to time, so that a cut also ends a connection on which nothing moves.
    let _ = from.set_read_timeout(Some(Duration::from_millis(50)));
    let _ = to.set_nodelay(true);
    loop {
        let read = from.read(&mut buffer);
        // A connection that lost part of its answers is of no use any more.
        if shared.is(Weather::Cut) || (lost_some && !shared.is(Weather::AnswersLost)) {
            break;
        }
        match read {
            Ok(0) => break,
            Ok(count) if answers && shared.is(Weather::AnswersLost) => {
                lost_some = true;
                shared.lost_bytes.fetch_add(count as u64, Ordering::SeqCst);
            }
            Ok(count) => {
                if answers && shared.is(Weather::Slow) {
                    thread::sleep(Duration::from_millis(30));
                }
                if to.write_all(&buffer[..count]).is_err() {
                    break;
                }
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(_) => break,
        }
    }
    let _ = from.shutdown(Shutdown::Both);
    let _ = to.shutdown(Shutdown::Both);
}
