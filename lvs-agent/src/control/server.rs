//! The server: takes requests from several clients at once and replies to each.

use std::{
    fs::{self, DirBuilder, Permissions},
    io,
    os::{
        fd::OwnedFd,
        unix::{
            fs::{DirBuilderExt as _, FileTypeExt as _, MetadataExt as _, PermissionsExt as _, chown},
            net::UnixListener as StdListener,
        },
    },
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use nix::{
    sys::stat::{Mode, fchmod},
    unistd::geteuid,
};
use socket2::{Domain, SockAddr, Socket, Type};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::{UnixListener, UnixStream},
    sync::Semaphore,
    task::JoinSet,
    time::timeout,
};
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::{ControlError, MAX_REQUEST, Reply, ReplyLine, Request, protocol::read_request};
use crate::{model::defaults::RUNTIME, supervision::Restartable};

/// How long a caller may take for a request, for taking the reply, and to stay connected without another request.
const PATIENCE: Duration = Duration::from_secs(5);
/// How many callers there may be at once; others wait in the socket's queue.
const CALLERS: usize = 64;
/// How many of them may have answers made at once that take time or room. Those that ask for little don't wait for
/// them: who moves addresses by what `healthy` says must not do so because people look at the status.
const AT_WORK: usize = 8;
/// How many may wait there: as many as the kernel takes by default (`SOMAXCONN` before Linux 5.4).
const QUEUE: i32 = 128;
/// From a failure to accept a caller (no file descriptors, …) to the next try.
const PAUSE: Duration = Duration::from_millis(100);

/// An answer.
#[derive(Debug)]
pub enum Answered {
    /// It is to be written.
    Reply(Box<Reply>),
    /// It was written before, for several callers.
    Line(ReplyLine),
}

impl From<Reply> for Answered {
    fn from(reply: Reply) -> Self {
        Self::Reply(Box::new(reply))
    }
}

/// Knows the answers.
pub trait Answer: Send + Sync + 'static {
    /// Answers a request.
    fn answer(&self, request: Request) -> impl Future<Output = Answered> + Send;
}

/// A control socket that listens. Its file goes when this is dropped.
#[derive(Debug)]
pub struct ControlServer {
    listener: UnixListener,
    path: PathBuf,
    /// The group whose members may connect, besides root and the agent's own user.
    operators: Option<u32>,
}

impl ControlServer {
    /// Listens at `path`, in place of the socket that a killed agent may have left there, for the agent's own user and
    /// for the group `operators`. The folder is made for the same people, if only that is missing.
    pub fn bind(path: &Path, operators: Option<u32>) -> Result<Self, ControlError> {
        let failed = |error| ControlError::Listen { path: path.to_owned(), error };
        if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            let not_made = |error| ControlError::Folder { path: folder.to_owned(), error };
            make_folder(folder, operators).map_err(not_made)?;
        }
        clear(path)?;
        let listener = listen(path, operators).map_err(failed)?;
        Ok(Self { listener, path: path.to_owned(), operators })
    }
}

/// Makes the folder of the socket, unless it is there. The usual one may have been made before, for the lock in it:
/// that is opened for the operators as well.
fn make_folder(folder: &Path, operators: Option<u32>) -> io::Result<()> {
    let is_made = !folder.exists();
    if is_made {
        DirBuilder::new().mode(0o700).create(folder)?;
    }
    let Some(group) = operators else { return Ok(()) };
    let is_ours = folder == Path::new(RUNTIME) && fs::metadata(folder)?.uid() == geteuid().as_raw();
    if is_made || is_ours {
        chown(folder, None, Some(group))?;
        fs::set_permissions(folder, Permissions::from_mode(0o750))?;
    }
    Ok(())
}

/// Makes the socket. At no time can anybody connect who may not.
fn listen(path: &Path, operators: Option<u32>) -> io::Result<UnixListener> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    // The file gets the socket's own mode when it is made (`unix_bind_bsd` in Linux' `net/unix/af_unix.c`).
    fchmod(&socket, Mode::S_IRUSR | Mode::S_IWUSR)?;
    socket.bind(&SockAddr::unix(path)?)?;
    if let Some(group) = operators {
        chown(path, None, Some(group))?;
        fs::set_permissions(path, Permissions::from_mode(0o660))?;
    }
    socket.listen(QUEUE)?;
    UnixListener::from_std(StdListener::from(OwnedFd::from(socket)))
}

/// A control socket with somebody who knows the answers.
#[derive(Debug)]
pub struct ControlService<A> {
    server: ControlServer,
    answerer: Arc<A>,
}

impl<A: Answer> ControlService<A> {
    /// Nobody is served yet.
    pub fn new(server: ControlServer, answerer: A) -> Self {
        Self { server, answerer: Arc::new(answerer) }
    }
}

impl<A: Answer> Restartable for ControlService<A> {
    /// Serves callers until `shutdown`.
    async fn run(&mut self, shutdown: &CancellationToken) {
        let (slots, work) = (Arc::new(Semaphore::new(CALLERS)), Arc::new(Semaphore::new(AT_WORK)));
        let mut callers = JoinSet::new();
        loop {
            while callers.try_join_next().is_some() {}
            let next = async {
                let slot = slots.clone().acquire_owned().await;
                (slot, self.server.listener.accept().await)
            };
            let (slot, accepted) = tokio::select! {
                () = shutdown.cancelled() => return,
                next = next => next,
            };
            match accepted {
                Ok((stream, _)) => {
                    let (answerer, operators) = (self.answerer.clone(), self.server.operators);
                    let work = work.clone();
                    callers.spawn(async move {
                        if let Err(error) = serve(stream, &*answerer, operators, &work).await {
                            debug!("control socket: {error}");
                        }
                        drop(slot);
                    });
                }
                Err(error) => {
                    debug!("control socket: {error}");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }
}

impl Drop for ControlServer {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_file(&self.path) {
            debug!("removing {}: {error}", self.path.display());
        }
    }
}

/// Makes room for a new socket, unless somebody needs what is there.
fn clear(path: &Path) -> Result<(), ControlError> {
    let failed = |error| ControlError::Listen { path: path.to_owned(), error };
    let metadata = match fs::symlink_metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed(error)),
    };
    if !metadata.file_type().is_socket() {
        return Err(ControlError::NotASocket(path.to_owned()));
    }
    match knock(path) {
        Ok(()) => Err(ControlError::InUse(path.to_owned())),
        // Its queue is full: somebody listens who doesn't get round to it.
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Err(ControlError::InUse(path.to_owned())),
        // Nobody listens any more.
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            fs::remove_file(path).map_err(failed)
        }
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            Err(ControlError::OtherUsers(path.to_owned()))
        }
        Err(error) => Err(failed(error)),
    }
}

/// Connects, and waits for nothing: a listener that accepts nobody must not hold up the start (connect(2), `EAGAIN`).
fn knock(path: &Path) -> io::Result<()> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    socket.connect(&SockAddr::unix(path)?)
}

/// Answers one caller's requests, one after the other.
async fn serve(
    mut stream: UnixStream,
    answerer: &impl Answer,
    operators: Option<u32>,
    work: &Semaphore,
) -> io::Result<()> {
    let caller = stream.peer_cred()?.uid();
    // Operators are whom the kernel lets through to the socket: it knows all groups of a caller, not told here.
    if operators.is_none() && caller != 0 && caller != geteuid().as_raw() {
        return Err(io::Error::new(
            io::ErrorKind::PermissionDenied,
            format!("user {caller} has no permission"),
        ));
    }
    let (read, mut write) = stream.split();
    let mut read = BufReader::new(read);
    loop {
        let mut line = Vec::new();
        let limit = MAX_REQUEST as u64 + 1;
        timeout(PATIENCE, (&mut read).take(limit).read_until(b'\n', &mut line)).await??;
        if line.is_empty() {
            return Ok(());
        }
        let whole = line.len() <= MAX_REQUEST && line.last() == Some(&b'\n');
        let request = read_request(&line);
        let is_small = request.as_ref().map_or(true, Request::is_small);
        // Until the answer is taken. It fails only once the semaphore is closed, which it never is.
        let _at_work = if is_small { None } else { work.acquire().await.ok() };
        let reply = match request {
            _ if !whole => {
                Reply::Error(format!("a request is one line of at most {MAX_REQUEST} bytes")).into()
            }
            Ok(request) => answerer.answer(request).await,
            Err(message) => Reply::Error(message).into(),
        };
        let line = match reply {
            Answered::Reply(reply) => ReplyLine::new(&reply)?,
            Answered::Line(line) => line,
        };
        timeout(PATIENCE, write.write_all(line.bytes())).await??;
        if !whole {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use nix::unistd::getegid;

    use super::*;
    use crate::control::{Status, ask};

    struct Fixed;

    impl Answer for Fixed {
        async fn answer(&self, request: Request) -> Answered {
            let reply = match request {
                Request::Status { .. } => Reply::Status(Status::default()),
                Request::LogLevel { .. } => Reply::LogLevel("info".to_owned()),
                Request::Reload {} => std::future::pending().await,
                _ => Reply::Error("not here".to_owned()),
            };
            reply.into()
        }
    }

    fn serve_at(path: &Path) -> CancellationToken {
        let shutdown = CancellationToken::new();
        let (mut service, token) =
            (ControlService::new(ControlServer::bind(path, None).unwrap(), Fixed), shutdown.clone());
        tokio::spawn(async move { service.run(&token).await });
        shutdown
    }

    /// Sends `text` and takes all that comes.
    async fn talk(path: &Path, text: &[u8]) -> String {
        let mut stream = UnixStream::connect(path).await.unwrap();
        stream.write_all(text).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut reply = String::new();
        stream.read_to_string(&mut reply).await.unwrap();
        reply
    }

    #[tokio::test]
    async fn permitted_clients_get_replies() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run/control");
        let shutdown = serve_at(&path);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::metadata(path.parent().unwrap()).unwrap().permissions().mode() & 0o777, 0o700);
        assert_eq!(
            ask(&path, &Request::Status { service: None, max_age_ms: None }).await.unwrap(),
            Reply::Status(Status::default())
        );
        let twice = talk(&path, b"{\"command\":\"status\"}\n{\"command\":\"status\"}\n").await;
        assert_eq!(twice.lines().count(), 2);
        shutdown.cancel();
        while path.exists() {
            tokio::task::yield_now().await;
        }
        let error = ask(&path, &Request::Status { service: None, max_age_ms: None }).await.unwrap_err();
        assert!(matches!(error, ControlError::Connect { .. }), "{error}");
    }

    #[tokio::test]
    async fn who_asks_for_little_does_not_wait_for_those_who_ask_for_much() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("control");
        let _shutdown = serve_at(&path).drop_guard();
        let mut busy = Vec::new();
        for _ in 0..2 * AT_WORK {
            let mut stream = UnixStream::connect(&path).await.unwrap();
            stream.write_all(b"{\"command\":\"reload\"}\n").await.unwrap();
            busy.push(stream);
        }
        let reply = ask(&path, &Request::LogLevel { filter: None }).await.unwrap();
        assert_eq!(reply, Reply::LogLevel("info".to_owned()));
        let status = Request::Status { service: None, max_age_ms: None };
        let waits = timeout(Duration::from_millis(200), ask(&path, &status)).await;
        assert!(waits.is_err(), "there is no room for it: {waits:?}");
        drop(busy);
    }

    /// The test's own group stands for the operators'.
    #[tokio::test]
    async fn operators_reach_the_socket_by_their_group() {
        let folder = tempfile::tempdir().unwrap();
        let (path, group) = (folder.path().join("run/control"), getegid().as_raw());
        let _server = ControlServer::bind(&path, Some(group)).unwrap();
        let of =
            |path: &Path| fs::metadata(path).map(|data| (data.gid(), data.permissions().mode() & 0o7777));
        assert_eq!(of(&path).unwrap(), (group, 0o660));
        assert_eq!(of(path.parent().unwrap()).unwrap(), (group, 0o750));
        // A folder that was there is somebody's.
        let theirs = folder.path().join("theirs");
        DirBuilder::new().mode(0o700).create(&theirs).unwrap();
        let _server = ControlServer::bind(&theirs.join("control"), Some(group)).unwrap();
        assert_eq!(of(&theirs).unwrap(), (group, 0o700));
    }

    #[tokio::test]
    async fn invalid_requests_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("control");
        let _running = serve_at(&path);
        let too_long = vec![b'x'; 3 * MAX_REQUEST];
        let cases: [(&[u8], &str); 8] = [
            (b"hello\n", "invalid request"),
            (b"{\"command\":\"fly\"}\n", "invalid request"),
            (b"[{\"command\":\"status\"}]\n", "invalid request"),
            (b"\xff\xfe{}\n", "invalid request"),
            (b"{\"version\":7,\"command\":\"status\"}\n", "version 7 of the control protocol"),
            (b"{\"command\":\"status\",\"more\":1}\n", "invalid request"),
            (b"{\"command\":\"status\"}", "one line"),
            (&too_long, "one line"),
        ];
        for (request, expected) in cases {
            // What is too long may be cut off by a reset before the reply is read.
            let mut stream = UnixStream::connect(&path).await.unwrap();
            stream.write_all(request).await.unwrap();
            stream.shutdown().await.unwrap();
            let mut reply = String::new();
            BufReader::new(&mut stream).read_line(&mut reply).await.unwrap();
            let shown = String::from_utf8_lossy(&request[..request.len().min(40)]).into_owned();
            assert!(
                reply.starts_with("{\"version\":1,\"error\"") && reply.contains(expected),
                "{shown}: {reply}"
            );
        }
    }

    #[tokio::test]
    async fn a_dead_agents_socket_is_replaced_and_a_living_ones_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("control");
        // A listener that is closed leaves its file.
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        assert!(path.exists());
        let _running = serve_at(&path);
        let second = ControlServer::bind(&path, None).unwrap_err();
        assert!(matches!(second, ControlError::InUse(_)), "{second}");
        assert!(second.to_string().contains(&path.display().to_string()), "{second}");
        ask(&path, &Request::Status { service: None, max_age_ms: None })
            .await
            .expect("the first one still listens");
    }

    #[test]
    fn a_listener_that_accepts_nobody_does_not_hang_the_start() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("control");
        let listener = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
        listener.bind(&SockAddr::unix(&path).unwrap()).unwrap();
        listener.listen(0).unwrap();
        let mut waiting = Vec::new();
        while let Ok(()) = knock(&path) {
            // Its queue fills up.
            waiting.push(());
            assert!(waiting.len() < 100, "a knock leaves at once, and the queue keeps it");
        }
        assert!(matches!(ControlServer::bind(&path, None), Err(ControlError::InUse(_))));
    }

    #[tokio::test]
    async fn a_file_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("control");
        fs::write(&path, "mine").unwrap();
        assert!(matches!(ControlServer::bind(&path, None), Err(ControlError::NotASocket(_))));
        assert_eq!(fs::read(&path).unwrap(), b"mine");
        let nowhere = folder.path().join("a/b/control");
        assert!(matches!(ControlServer::bind(&nowhere, None), Err(ControlError::Folder { .. })));
        // Longer than unix(7) allows.
        let too_long = folder.path().join("x".repeat(200));
        assert!(matches!(ControlServer::bind(&too_long, None), Err(ControlError::Listen { .. })));
    }
}
