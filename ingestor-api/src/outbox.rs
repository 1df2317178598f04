//! The writing half of a connection: what HTTP/2 has to say gathers here and goes to the kernel at once.
//!
//! h2 writes each frame as it comes, and clients take frames of 16 KiB unless they say otherwise: the answer to a batch of a
//! thousand pulses is two of them and its status, three system calls, and each of them wakes the client. Here a turn of the
//! connection writes into memory, and [`Outbox::send`] gives the kernel all answers of the turn together. The price is one
//! more copy of them.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tokio::io::AsyncWrite;
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

/// Most bytes that gather; then the kernel has to take them before more is taken from the transport.
const GATHERED_BYTES_MAX: usize = 128 * 1024;
/// So much room is kept for the next turn, the rest is given back.
const KEPT_BYTES_MAX: usize = 8 * 1024;

/// What a connection has to say; the transport writes here, whoever drives it sends.
pub(crate) struct Outbox<W>(Arc<Mutex<Gathered<W>>>);

struct Gathered<W> {
    socket: W,
    bytes: Vec<u8>,
    /// So many of them has the kernel.
    sent: usize,
}

impl<W: AsyncWrite + Unpin> Outbox<W> {
    fn new(socket: W) -> Self {
        Self(Arc::new(Mutex::new(Gathered { socket, bytes: Vec::new(), sent: 0 })))
    }

    /// Gives the kernel what has gathered. Pending when it does not take all of it now; then the task is woken as soon as
    /// it takes more.
    ///
    /// # Errors
    /// When the connection is broken.
    pub(crate) fn send(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.lock().send(context)
    }

    fn write(&self, context: &mut Context<'_>, parts: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let mut gathered = self.0.lock();
        if gathered.bytes.len() >= GATHERED_BYTES_MAX {
            ready!(gathered.send(context))?;
        }
        let room = GATHERED_BYTES_MAX - gathered.bytes.len();
        let before = gathered.bytes.len();
        for part in parts {
            let taken = part.len().min(room - (gathered.bytes.len() - before));
            gathered.bytes.extend_from_slice(&part[..taken]);
        }
        Poll::Ready(Ok(gathered.bytes.len() - before))
    }

    fn shutdown(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut gathered = self.0.lock();
        ready!(gathered.send(context))?;
        Pin::new(&mut gathered.socket).poll_shutdown(context)
    }
}

impl<W: AsyncWrite + Unpin> Gathered<W> {
    fn send(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.sent < self.bytes.len() {
            match ready!(Pin::new(&mut self.socket).poll_write(context, &self.bytes[self.sent..]))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                taken => self.sent += taken,
            }
        }
        self.bytes.clear();
        self.bytes.shrink_to(KEPT_BYTES_MAX);
        self.sent = 0;
        Poll::Ready(Ok(()))
    }
}

/// A connection's socket as the transport sees it.
pub(crate) struct Socket {
    incoming: TokioIo<OwnedReadHalf>,
    outbox: Outbox<OwnedWriteHalf>,
}

impl Socket {
    /// The socket, and its outbox: whoever drives the transport sends what is in it after each turn.
    pub(crate) fn new(stream: TcpStream) -> (Self, Outbox<OwnedWriteHalf>) {
        let (incoming, outgoing) = stream.into_split();
        let outbox = Outbox::new(outgoing);
        let same = Outbox(Arc::clone(&outbox.0));
        (Self { incoming: TokioIo::new(incoming), outbox }, same)
    }
}

impl Read for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.incoming).poll_read(context, buffer)
    }
}

impl Write for Socket {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.outbox.write(context, &[io::IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.outbox.write(context, parts)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    /// Nothing: the transport asks for this after each frame, and whoever drives it sends all of them together.
    fn poll_flush(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.outbox.shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use std::io::IoSlice;

    use futures::task::noop_waker_ref;
    use tokio::io::{AsyncReadExt as _, DuplexStream, duplex};

    use super::*;

    /// An outbox before a pipe that holds so many bytes, and the pipe's other end.
    fn outbox(pipe_bytes: usize) -> (Outbox<DuplexStream>, DuplexStream) {
        let (near, far) = duplex(pipe_bytes);
        (Outbox::new(near), far)
    }

    fn write(outbox: &Outbox<DuplexStream>, parts: &[&[u8]]) -> Poll<io::Result<usize>> {
        let parts: Vec<IoSlice<'_>> = parts.iter().map(|part| IoSlice::new(part)).collect();
        outbox.write(&mut Context::from_waker(noop_waker_ref()), &parts)
    }

    fn send(outbox: &Outbox<DuplexStream>) -> Poll<io::Result<()>> {
        outbox.send(&mut Context::from_waker(noop_waker_ref()))
    }

    #[tokio::test]
    async fn what_was_written_goes_in_order_and_only_when_it_is_sent() {
        let (outbox, mut far) = outbox(100);
        assert!(matches!(write(&outbox, &[b"one ", b"two "]), Poll::Ready(Ok(8))));
        assert!(matches!(write(&outbox, &[b"three"]), Poll::Ready(Ok(5))));
        let mut read = [0; 100];
        let early = futures::poll!(std::pin::pin!(far.read(&mut read)));
        assert!(early.is_pending(), "{early:?}");
        assert!(matches!(send(&outbox), Poll::Ready(Ok(()))));
        let length = far.read(&mut read).await.expect("it is open");
        assert_eq!(&read[..length], b"one two three");
    }

    #[tokio::test]
    async fn a_slow_reader_holds_the_transport_back_and_misses_nothing() {
        let (outbox, mut far) = outbox(1000);
        let all: Vec<u8> = (0..3 * GATHERED_BYTES_MAX).map(|place| (place % 251) as u8).collect();
        let (mut left, mut read) = (&all[..], Vec::new());
        let (mut was_held_back, mut piece) = (false, [0; 1000]);
        while read.len() < all.len() {
            match write(&outbox, &[&left[..left.len() / 2], &left[left.len() / 2..]]) {
                Poll::Ready(taken) => left = &left[taken.expect("it is open")..],
                Poll::Pending => was_held_back = true,
            }
            assert!(outbox.0.lock().bytes.len() <= GATHERED_BYTES_MAX);
            assert!(!matches!(send(&outbox), Poll::Ready(Err(_))));
            // A task that never waits is held back by the runtime, and here nobody is woken.
            tokio::task::yield_now().await;
            let length = far.read(&mut piece).await.expect("it is open");
            read.extend_from_slice(&piece[..length]);
        }
        assert!(was_held_back);
        assert!(left.is_empty() && read == all);
        assert!(matches!(send(&outbox), Poll::Ready(Ok(()))));
        assert!(outbox.0.lock().bytes.capacity() <= KEPT_BYTES_MAX);
    }

    #[tokio::test]
    async fn the_end_comes_behind_what_was_written() {
        let (outbox, mut far) = outbox(100);
        assert!(matches!(write(&outbox, &[b"goodbye"]), Poll::Ready(Ok(7))));
        std::future::poll_fn(|context| outbox.shutdown(context)).await.expect("it is open");
        let mut read = Vec::new();
        far.read_to_end(&mut read).await.expect("it ends");
        assert_eq!(read, b"goodbye");
    }

    #[tokio::test]
    async fn a_broken_connection_is_an_error() {
        let (outbox, far) = outbox(100);
        drop(far);
        assert!(matches!(write(&outbox, &[b"anyone?"]), Poll::Ready(Ok(7))));
        assert!(matches!(send(&outbox), Poll::Ready(Err(_))));
    }
}
