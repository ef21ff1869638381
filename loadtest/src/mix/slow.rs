//! A reader that hardly reads: its socket has a buffer of a few kilobytes, so that the server's writes stand
//! still before the answer is out.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::time::Duration;

use serde_json::Value;
use tokio::net::{TcpSocket, TcpStream};

/// Bytes of the receive buffer; the system doubles it.
const BUFFER: u32 = 2048;
/// Bytes that are read at a time.
const SIP: usize = 512;
/// From one read to the next.
const PAUSE: Duration = Duration::from_millis(100);

/// Asks, reads so many sips slowly, and goes away.
///
/// # Errors
/// No connection, or it broke before the request was sent.
pub async fn read(
    address: SocketAddr,
    key: Option<&str>,
    body: &Value,
    sips: usize,
) -> io::Result<()> {
    let stream = connect(address).await?;
    let body = body.to_string();
    let key = key.map_or_else(String::new, |key| {
        format!("authorization: Bearer {key}\r\n")
    });
    let head = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: {address}\r\n{key}connection: close\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    send(&stream, format!("{head}{body}").as_bytes()).await?;
    for _ in 0..sips {
        // The server may end a connection that stands still.
        match sip(&stream).await {
            Ok(0) | Err(_) => break,
            Ok(_) => tokio::time::sleep(PAUSE).await,
        }
    }
    Ok(())
}

async fn send(stream: &TcpStream, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        stream.writable().await?;
        match stream.try_write(bytes) {
            Ok(n) => bytes = &bytes[n..],
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Reads a little; 0 at the end.
async fn sip(stream: &TcpStream) -> io::Result<usize> {
    let mut buffer = [0; SIP];
    loop {
        stream.readable().await?;
        match stream.try_read(&mut buffer) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            read => return read,
        }
    }
}

async fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    let socket = if address.is_ipv4() {
        TcpSocket::new_v4()?
    } else {
        TcpSocket::new_v6()?
    };
    // Before the connection: it decides the window that is offered.
    socket.set_recv_buffer_size(BUFFER)?;
    socket.connect(address).await
}
