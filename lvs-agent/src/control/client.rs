//! The client: sends one request and waits for the reply.

use std::{io, path::Path, time::Duration};

use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::UnixStream,
    time::timeout,
};

use super::{ControlError, PROTOCOL_VERSION, Reply, Request, access::who_may, protocol::Versioned};

/// How long the agent may take for its answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long it may take to read its configuration again, or for probes, which is longer than it gives itself.
const LONG_PATIENCE: Duration = Duration::from_secs(90);
/// The longest answer, in bytes: the status of 100,000 servers takes about a third of it.
const MAX_REPLY: u64 = 256 << 20;

/// Asks the agent that listens at `path`.
pub async fn ask(path: &Path, request: &Request) -> Result<Reply, ControlError> {
    let is_long = matches!(request, Request::Reload {} | Request::Check { .. });
    ask_within(path, request, if is_long { LONG_PATIENCE } else { PATIENCE }).await
}

/// The same, for whom the answer is only of use within `patience`.
pub async fn ask_within(path: &Path, request: &Request, patience: Duration) -> Result<Reply, ControlError> {
    let broken = |message: String| ControlError::Exchange { path: path.to_owned(), message };
    let connected = UnixStream::connect(path).await;
    let mut stream = match connected {
        Ok(stream) => stream,
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            return Err(ControlError::NotAllowed { path: path.to_owned(), who: who_may(path) });
        }
        Err(error) => return Err(ControlError::Connect { path: path.to_owned(), error }),
    };
    let mut line = serde_json::to_vec(&Versioned::new(request)).map_err(|error| broken(error.to_string()))?;
    line.push(b'\n');
    let exchange = async {
        stream.write_all(&line).await?;
        let mut reply = String::new();
        BufReader::new((&mut stream).take(MAX_REPLY)).read_line(&mut reply).await?;
        Ok::<_, io::Error>(reply)
    };
    let reply = match timeout(patience, exchange).await {
        Ok(Ok(reply)) => reply,
        Ok(Err(error)) => return Err(broken(error.to_string())),
        Err(_elapsed) => return Err(ControlError::Late { path: path.to_owned(), patience }),
    };
    match serde_json::from_str::<Versioned<Reply>>(&reply) {
        Ok(Versioned { reply: Reply::Error(message), .. }) => Err(ControlError::Refused(message)),
        Ok(Versioned { version, .. }) if version > PROTOCOL_VERSION => Err(broken(format!(
            "it speaks version {version} of the control protocol, this program version {PROTOCOL_VERSION}; use a program \
             of the agent's version"
        ))),
        Ok(Versioned { reply, .. }) => Ok(reply),
        Err(error) => Err(broken(format!("{error}; is it of another version?"))),
    }
}
