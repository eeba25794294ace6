//! Connections: few, brief, and closed without losing the answer. A page's stream alone lasts.

use std::{
    collections::HashMap, convert::Infallible, io, net::IpAddr, os::fd::AsFd as _, rc::Rc, time::Duration,
};

use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    task::JoinSet,
    time::timeout,
};
use tracing::debug;

use super::{Port, answers::answer, visit::Visit};

/// Connections at once: a few Prometheus servers and people with browsers.
pub(super) const CONNECTIONS: usize = 64;
/// Connections of one address at once, so that one cannot keep out the others. Browsers open six.
pub(super) const PER_ADDRESS: usize = 16;
/// How long a client may take for the head of its request.
const HEAD: Duration = Duration::from_secs(5);
/// The longest head of a request.
pub(super) const MAX_HEAD: usize = 16 * 1024;
/// How long, and up to how many bytes, a client may go on sending after its answer. A socket that is closed while bytes
/// wait in it is reset, and the client may lose the answer.
const LINGER: Duration = Duration::from_millis(500);
const LINGER_BYTES: usize = 256 * 1024;
/// What the kernel keeps of an answer for a client that doesn't read it.
const SEND_BUFFER: usize = 256 * 1024;

/// To whom there is no room for. It is made beforehand: nothing is read for it.
const BUSY: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: text/plain; charset=utf-8\r\n\
                      retry-after: 5\r\nconnection: close\r\ncontent-length: 21\r\n\r\ntoo many connections\n";
/// To whom takes too long for a request.
const LATE: &[u8] = b"HTTP/1.1 408 Request Timeout\r\ncontent-type: text/plain; charset=utf-8\r\n\
                      connection: close\r\ncontent-length: 27\r\n\r\nthe request took too long.\n";

/// The connections that are open.
#[derive(Default)]
pub(super) struct Clients {
    serving: JoinSet<IpAddr>,
    by_address: HashMap<IpAddr, usize>,
}

impl Clients {
    /// Serves a client, or closes its connection if there are too many.
    pub(super) fn take(&mut self, stream: TcpStream, address: IpAddr, port: &Rc<Port>) {
        let of_address = self.by_address.entry(address).or_default();
        if self.serving.len() >= CONNECTIONS || *of_address >= PER_ADDRESS {
            if *of_address == 0 {
                self.by_address.remove(&address);
            }
            // What the kernel doesn't take at once is not sent.
            stream.try_write(BUSY).ok();
            return;
        }
        *of_address += 1;
        let visit = Visit::new(address);
        let port = Rc::clone(port);
        self.serving.spawn_local(async move {
            let late = visit.limit();
            tokio::select! {
                () = connection(stream, &port, &visit) => {}
                () = late => debug!("metrics port: {address} was too slow"),
            }
            address
        });
    }

    /// The address of a client whose connection has ended; `None` if there is no connection.
    pub(super) async fn ended(&mut self) -> Option<IpAddr> {
        self.serving.join_next().await?.ok()
    }

    pub(super) fn forget(&mut self, address: IpAddr) {
        let Some(left) = self.by_address.get_mut(&address) else { return };
        *left -= 1;
        if *left == 0 {
            self.by_address.remove(&address);
        }
    }
}

/// Answers one request; the connection is closed after it, as a scraper's next one is seconds away.
async fn connection(stream: TcpStream, port: &Port, visit: &Visit) {
    let settings = socket2::SockRef::from(&stream);
    let own = settings.set_send_buffer_size(SEND_BUFFER).and_then(|()| stream.as_fd().try_clone_to_owned());
    let service =
        service_fn(|request| async move { Ok::<_, Infallible>(answer(&request, port, visit).await) });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .max_buf_size(MAX_HEAD)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service)
        .await;
    let last = match &served {
        Err(error) if error.is_timeout() => LATE,
        _ => &[],
    };
    let closed = match own {
        Ok(own) => close(own.into(), last).await,
        Err(error) => Err(error),
    };
    if let Some(error) =
        served.err().map(|error| error.to_string()).or(closed.err().map(|error| error.to_string()))
    {
        debug!("metrics port: {error}");
    }
}

/// Says what is left to be said, and reads what the client still sends.
async fn close(stream: std::net::TcpStream, last: &[u8]) -> io::Result<()> {
    let mut stream = TcpStream::from_std(stream)?;
    stream.write_all(last).await?;
    stream.shutdown().await?;
    let mut rest = [0; 4096];
    let reading = async {
        let mut left = LINGER_BYTES;
        while let Ok(read @ 1..) = stream.read(&mut rest).await {
            left = left.saturating_sub(read);
            if left == 0 {
                break;
            }
        }
    };
    // Later bytes meet a closed socket.
    timeout(LINGER, reading).await.ok();
    Ok(())
}
