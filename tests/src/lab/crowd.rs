//! A crowd at a port: connections that say nothing, or that all ask for the same page at once, again and again.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use anyhow::Result;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    sync::Mutex,
    task::JoinSet,
    time::{Instant, Interval, MissedTickBehavior, interval, sleep, sleep_until},
};

/// Connections that are opened a second at most, those again included that were closed: a crowd is no flood.
const OPENED: u32 = 500;
/// From a failure to connect to the next try.
const PAUSE: Duration = Duration::from_secs(1);
/// From one question to the next.
const ROUND: Duration = Duration::from_secs(2);

/// What a crowd does.
#[derive(Clone, Copy, Debug, clap::Args)]
pub struct CrowdOptions {
    /// The port
    #[arg(long)]
    pub to: SocketAddr,
    /// How many connections it wants
    #[arg(long)]
    pub connections: usize,
    /// All ask for /metrics at once, every two seconds, instead of saying nothing
    #[arg(long)]
    pub asks: bool,
}

/// Goes on until it is killed.
pub fn crowd(options: CrowdOptions) -> Result<()> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(gather(options));
    Ok(())
}

async fn gather(options: CrowdOptions) {
    let mut pace = interval(Duration::from_secs(1) / OPENED);
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (pace, begin) = (Arc::new(Mutex::new(pace)), Instant::now());
    let mut members = JoinSet::new();
    for _ in 0..options.connections {
        if options.asks {
            members.spawn(ask(options.to, begin));
        } else {
            members.spawn(sit(options.to, Arc::clone(&pace)));
        }
    }
    while members.join_next().await.is_some() {}
}

/// Holds a connection for as long as the other side does, and then another one.
async fn sit(to: SocketAddr, pace: Arc<Mutex<Interval>>) {
    loop {
        pace.lock().await.tick().await;
        match TcpStream::connect(to).await {
            // Whatever comes, and however it ends: it is over then.
            Ok(mut stream) => drop(stream.read(&mut [0; 64]).await),
            Err(_) => sleep(PAUSE).await,
        }
    }
}

/// Asks at the same moments as all others.
async fn ask(to: SocketAddr, begin: Instant) {
    for round in 1.. {
        sleep_until(begin + ROUND * round).await;
        let Ok(mut stream) = TcpStream::connect(to).await else { continue };
        let request = format!("GET /metrics HTTP/1.1\r\nHost: {to}\r\nConnection: close\r\n\r\n");
        if stream.write_all(request.as_bytes()).await.is_ok() {
            let mut page = [0; 16 * 1024];
            while stream.read(&mut page).await.is_ok_and(|length| length > 0) {}
        }
    }
}
