//! A server on a socket, and a client that can break off at any byte.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use attune::api::server::{serve, ServerConfig};
use serde_json::Value;
use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::TestServer;

/// Nothing here takes so long, not even while the machine has ten times as much to do; a test that waits for it has
/// failed.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// Bytes of a narrow socket's buffer; the system may take some more.
const NARROW: u32 = 4096;

/// A server that listens.
pub struct Listening {
    pub server: TestServer,
    pub address: SocketAddr,
    shutdown: Option<oneshot::Sender<()>>,
    pub task: JoinHandle<std::io::Result<()>>,
}

impl Listening {
    pub async fn start(server: TestServer, config: ServerConfig) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        Self::on(listener, server, config)
    }

    /// One whose sockets keep few bytes on the way, and clients of the same kind that connect.
    pub async fn narrow(server: TestServer, config: ServerConfig, n: usize) -> (Self, Vec<Client>) {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_send_buffer_size(NARROW).unwrap();
        socket.bind(([127, 0, 0, 1], 0).into()).unwrap();
        let listening = Self::on(socket.listen(64).unwrap(), server, config);
        let mut clients = Vec::new();
        for _ in 0..n {
            let socket = TcpSocket::new_v4().unwrap();
            socket.set_recv_buffer_size(NARROW).unwrap();
            let stream = socket.connect(listening.address).await.unwrap();
            let stream = stream.into_std().unwrap();
            stream.set_nonblocking(false).unwrap();
            clients.push(Client::new(stream));
        }
        (listening, clients)
    }

    fn on(listener: TcpListener, server: TestServer, config: ServerConfig) -> Self {
        let address = listener.local_addr().unwrap();
        let (shutdown, stopped) = oneshot::channel::<()>();
        let stopped = async {
            let _ = stopped.await;
        };
        #[expect(
            clippy::disallowed_methods,
            reason = "the handle is kept, and awaited at the end"
        )]
        let task = tokio::spawn(serve(listener, server.state.clone(), config, stopped));
        Self {
            server,
            address,
            shutdown: Some(shutdown),
            task,
        }
    }

    /// What SIGTERM does.
    pub fn shut_down(&mut self) {
        let _ = self.shutdown.take().unwrap().send(());
    }

    pub fn connect(&self) -> Client {
        Client::new(TcpStream::connect(self.address).unwrap())
    }

    /// One request on a connection of its own; the whole answer as text.
    pub async fn ask(&self, request: String) -> String {
        let mut client = self.connect();
        client.send(&request);
        tokio::task::spawn_blocking(move || client.rest())
            .await
            .unwrap()
    }
}

/// Polls `condition` until it holds.
pub async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let started = Instant::now();
    while !condition() {
        assert!(started.elapsed() < PATIENCE, "{what} does not come");
        tokio::task::yield_now().await;
    }
}

/// A POST whose connection the server is to close.
pub fn post(path: &str, body: &Value) -> String {
    let body = body.to_string();
    format!(
        "POST {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// A GET whose connection the server is to close.
pub fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
}

/// One connection. Its methods block: use them off the runtime's threads, or where the answer is
/// on its way.
pub struct Client {
    stream: TcpStream,
    read: Vec<u8>,
}

impl Client {
    pub fn new(stream: TcpStream) -> Self {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Self {
            stream,
            read: Vec::new(),
        }
    }

    pub fn send(&mut self, text: &str) {
        self.stream.write_all(text.as_bytes()).unwrap();
    }

    /// Reads until `mark` was seen.
    pub fn read_until(&mut self, mark: &str) {
        let mut buffer = [0; 4096];
        while !String::from_utf8_lossy(&self.read).contains(mark) {
            let n = self.stream.read(&mut buffer).unwrap();
            assert!(
                n > 0,
                "closed before {mark:?}: {}",
                String::from_utf8_lossy(&self.read)
            );
            self.read.extend_from_slice(&buffer[..n]);
        }
    }

    /// Everything up to the end of the connection, what was read before included.
    pub fn rest(mut self) -> String {
        // A reset is an end too.
        let _ = self.stream.read_to_end(&mut self.read);
        String::from_utf8_lossy(&self.read).into_owned()
    }
}
