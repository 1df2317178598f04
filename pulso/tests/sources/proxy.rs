//! Stands between a consumer and its broker and lets no acknowledgement through: what the consumer made durable stays
//! unsettled at the broker, as when it dies in between.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};

/// Listens on a free port; gives its address. Its threads end with their connections.
pub(crate) fn without_acknowledgements(broker: String, forward: fn(TcpStream, TcpStream)) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address").to_string();
    std::thread::spawn(move || {
        for client in listener.incoming().map_while(Result::ok) {
            let Ok(server) = TcpStream::connect(&broker) else { continue };
            let back = (server.try_clone().expect("clones"), client.try_clone().expect("clones"));
            std::thread::spawn(move || copy(back.0, back.1));
            std::thread::spawn(move || forward(client, server));
        }
    });
    address
}

fn copy(mut from: TcpStream, mut to: TcpStream) {
    let _ = std::io::copy(&mut from, &mut to);
    let _ = to.shutdown(Shutdown::Both);
}

/// Redis: ends the connection at the first XACK.
pub(crate) fn redis(mut client: TcpStream, mut server: TcpStream) {
    let mut buffer = [0; 64 * 1024];
    // A consumer sends one command at a time and waits, so a command stands at the beginning of what is read.
    while let Ok(read @ 1..) = client.read(&mut buffer) {
        let bytes = &buffer[..read];
        if bytes.windows(4).any(|window| window == b"XACK") || server.write_all(bytes).is_err() {
            break;
        }
    }
    let _ = server.shutdown(Shutdown::Both);
    let _ = client.shutdown(Shutdown::Both);
}

/// AMQP: leaves basic.ack out.
pub(crate) fn amqp(mut client: TcpStream, mut server: TcpStream) {
    const HEADER: usize = 8;
    const BASIC_ACK: [u8; 4] = [0, 60, 0, 80];
    let mut pass = || -> std::io::Result<()> {
        let mut protocol = [0; HEADER];
        client.read_exact(&mut protocol)?;
        server.write_all(&protocol)?;
        loop {
            let mut head = [0; 7];
            client.read_exact(&mut head)?;
            let length = u32::from_be_bytes([head[3], head[4], head[5], head[6]]) as usize;
            let mut rest = vec![0; length + 1];
            client.read_exact(&mut rest)?;
            if head[0] != 1 || !rest.starts_with(&BASIC_ACK) {
                server.write_all(&[&head[..], &rest[..]].concat())?;
            }
        }
    };
    let _ended = pass();
    let _ = server.shutdown(Shutdown::Both);
}
