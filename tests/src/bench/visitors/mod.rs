//! What visitors of the metrics' port cost the agent: how long a scrape takes with many servers, and what open status
//! pages take of a processor. `cargo xtask bench visitors` runs it in a VM.

use std::{
    fmt::Write as _,
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};

use crate::{
    lab::{
        agent::{Agent, config::METRICS, metric},
        director::prepare_ipvs,
        namespace::Namespace,
        process, wait,
    },
    say,
};

/// What a scrape may take.
const SCRAPE: Duration = Duration::from_millis(30);
/// What open pages may take of a processor altogether.
const PAGES: f64 = 0.03;
/// How long the agent may take until it has an answer of every server.
const START: Duration = Duration::from_mins(5);
/// Servers of each service.
const EACH: u16 = 10;

/// What is measured
#[derive(Clone, Debug, clap::Args)]
pub struct VisitorOptions {
    /// How many servers
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u16).range(1..=10_000))]
    pub servers: u16,
    /// How many status pages are open
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u8).range(1..=12))]
    pub pages: u8,
    /// How often the metrics are scraped
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u16).range(1..))]
    pub scrapes: u16,
    /// For how long the processor's time is measured, in seconds, with and without pages in turn
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u16).range(1..))]
    pub seconds: u16,
    /// How often that is
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..))]
    pub rounds: u16,
}

/// Measures, prints, and returns whether all of it is within its limits.
pub fn measure(options: &VisitorOptions) -> Result<bool> {
    let director = Namespace::create("director")?;
    prepare_ipvs(&director)?;
    for command in [
        &["ip", "link", "set", "lo", "up"][..],
        // All of these addresses are this machine's, so that one listener answers for all servers.
        &["ip", "route", "add", "local", "10.9.0.0/16", "dev", "lo"],
    ] {
        process::run(&director, command, "")?;
    }
    let listener = director.run(|| Ok(TcpListener::bind("0.0.0.0:80")?))?;
    let answering = director.thread("servers", move || {
        for stream in listener.incoming() {
            drop(stream?);
        }
        Ok(())
    })?;
    let mut agent = Agent::start(&director, &config(options.servers))?;
    agent.wait_until_ready()?;
    let wanted = f64::from(options.servers);
    wait::until_true("an answer of every server", START, || {
        agent.check_running()?;
        Ok(metric(&agent.metrics()?, "lvs_server_up", &[]) == Some(wanted))
    })
    .with_context(|| agent.diagnosis())?;
    let fast = scrapes(&agent, options)?;
    let cheap = pages(&director, &agent, options)?;
    // It waits for connections as long as the namespace is there.
    drop(answering);
    Ok(fast && cheap)
}

/// Each server is asked once a second, so that on a page every line changes all the time.
fn config(servers: u16) -> String {
    let mut text = format!("[agent]\nmetrics = \"{METRICS}\"\n[passive]\nenabled = false\n");
    for number in 0..servers {
        // Writing into a string can't fail.
        if number % EACH == 0 {
            let service = number / EACH;
            let [high, low] = service.to_be_bytes();
            write!(
                text,
                "[[service]]\nname = \"service {service}\"\naddress = \"192.168.{high}.{low}:80\"\n\
                 scheduler = \"rr\"\nforward = \"masquerade\"\n\
                 check = {{ type = \"connect\", interval = \"1s\", timeout = \"500ms\" }}\n"
            )
            .ok();
        }
        let [high, low] = (number + 1).to_be_bytes();
        write!(text, "[[service.server]]\naddress = \"10.9.{high}.{low}:80\"\n").ok();
    }
    text
}

fn scrapes(agent: &Agent, options: &VisitorOptions) -> Result<bool> {
    let mut times = Vec::new();
    let (mut bytes, mut lines) = (0, 0);
    for _ in 0..options.scrapes {
        let begun = Instant::now();
        let text = agent.metrics()?;
        times.push(begun.elapsed());
        (bytes, lines) = (text.len(), text.lines().filter(|line| !line.starts_with('#')).count());
        // Longer than a text is shared by those who come together.
        std::thread::sleep(Duration::from_millis(600));
    }
    times.sort_unstable();
    let median = times[times.len() / 2];
    let is_fast = median <= SCRAPE;
    let words = if is_fast { "" } else { ": TOO SLOW" };
    say(&format!(
        "a scrape with {} servers: {median:.1?} ({:.1?} to {:.1?}, {} times; {lines} series, {bytes} bytes), \
         at most {SCRAPE:.0?}{words}",
        options.servers,
        times[0],
        times[times.len() - 1],
        times.len(),
    ));
    Ok(is_fast)
}

fn pages(director: &Namespace, agent: &Agent, options: &VisitorOptions) -> Result<bool> {
    let time = Duration::from_secs(options.seconds.into());
    let share = || -> Result<f64> {
        let (begun, before) = (Instant::now(), process::processor_time(agent.pid())?);
        std::thread::sleep(time);
        let used = process::processor_time(agent.pid())?.saturating_sub(before);
        Ok(used.as_secs_f64() / begun.elapsed().as_secs_f64())
    };
    let mut costs = Vec::new();
    for _ in 0..options.rounds {
        let without = share()?;
        let opened = Pages::open(director, options.pages)?;
        // The whole table is sent first, which is not what a page costs while it is open.
        std::thread::sleep(Duration::from_secs(3));
        let with = share()?;
        let bytes = opened.close()?;
        ensure!(bytes > 0, "the pages were told nothing");
        say(&format!(
            "{} pages: {:.2} % of a processor with, {:.2} % without; {} kB to all",
            options.pages,
            100.0 * with,
            100.0 * without,
            bytes / 1000
        ));
        costs.push(with - without);
    }
    costs.sort_unstable_by(f64::total_cmp);
    let median = costs[costs.len() / 2];
    let is_cheap = median <= PAGES;
    let words = if is_cheap { "" } else { ": TOO MUCH" };
    say(&format!(
        "{} pages with {} servers: {:.2} % of a processor, at most {:.0} %{words}",
        options.pages,
        options.servers,
        100.0 * median,
        100.0 * PAGES
    ));
    Ok(is_cheap)
}

/// Readers of the page's messages.
struct Pages {
    streams: Vec<TcpStream>,
    readers: Vec<std::thread::JoinHandle<Result<()>>>,
    closed: Arc<AtomicBool>,
    bytes: Arc<AtomicU64>,
}

impl Pages {
    fn open(director: &Namespace, count: u8) -> Result<Self> {
        let (closed, bytes) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (mut streams, mut readers) = (Vec::new(), Vec::new());
        for _ in 0..count {
            let mut stream = director.run(|| Ok(TcpStream::connect(METRICS)?))?;
            write!(stream, "GET /events HTTP/1.1\r\nHost: {METRICS}\r\n\r\n")?;
            streams.push(stream.try_clone()?);
            let (closed, bytes) = (closed.clone(), bytes.clone());
            readers.push(director.thread("page", move || {
                let mut buffer = vec![0; 1 << 20];
                loop {
                    let read = stream.read(&mut buffer)?;
                    if read == 0 {
                        ensure!(closed.load(Ordering::Relaxed), "the agent has closed a page that reads");
                        return Ok(());
                    }
                    bytes.fetch_add(read as u64, Ordering::Relaxed);
                }
            })?);
        }
        Ok(Self { streams, readers, closed, bytes })
    }

    /// Closes all; how many bytes they were told.
    fn close(self) -> Result<u64> {
        self.closed.store(true, Ordering::Relaxed);
        for stream in &self.streams {
            stream.shutdown(std::net::Shutdown::Both)?;
        }
        for reader in self.readers {
            reader.join().map_err(|_panic| anyhow::anyhow!("a page's reader panicked"))??;
        }
        Ok(self.bytes.load(Ordering::Relaxed))
    }
}
