//! Two directors with keepalived: a server dies, then the active director loses its power, and the other one takes
//! over.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    net::{IpAddr, SocketAddr},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};

use crate::lab::{
    clients::{
        Load, LoadPlan, Pattern,
        requests::{Request, served_again, servers_of},
    },
    clock::Moment,
    pair::{DIRECT, Director, MASQUERADED, Pair},
    wait,
};

/// What VRRP itself takes from the last advertisement on: three intervals of 200 ms, and the skew of priority 100
/// (RFC 5798, 6.1).
const VRRP: Duration = Duration::from_millis(600 + 200 * (256 - 100) / 256);
/// What a takeover may take besides.
const BESIDES: Duration = Duration::from_millis(100);

/// How long anything may take that is not measured.
const LIMIT: Duration = Duration::from_mins(1);
/// How long before its director a server dies.
const BEFORE: Duration = Duration::from_secs(1);
/// How long a client waits for an answer.
const PATIENCE: Duration = Duration::from_secs(8);
/// New connections a second, and connections that stay.
const RATE: f64 = 100.0;
const FLOWS: u32 = 50;
/// The server that dies, and the address that both services know it by.
const DEAD: (u8, &str) = (3, "10.0.0.3:80");

/// Clients of a pair of directors.
#[derive(Debug)]
pub struct Traffic {
    /// Whose connections stay.
    staying: Load,
    /// Who makes new ones, half of them to each service.
    new: Load,
    /// The connections that the backup knows.
    known: Vec<SocketAddr>,
}

/// What has happened to the pair.
#[derive(Debug)]
pub struct Loss {
    /// When the server died.
    pub died: Moment,
    /// When the active director lost its power.
    pub off: Moment,
    /// When the other one knew that it is active.
    pub active: Moment,
    /// Which server each connection that stays was with before.
    served_by: BTreeMap<IpAddr, String>,
}

/// What became of it.
#[derive(Debug)]
pub struct Takeover {
    /// What has happened.
    pub loss: Loss,
    /// When the dead server left the standby's table, in each service.
    pub edits: Vec<Moment>,
    /// Since when new connections are served at once.
    pub again: Moment,
    /// The requests that were begun between the loss and then.
    pub meanwhile: usize,
    /// Those of them that got no answer; the others were answered when their SYN was sent again.
    pub unanswered: usize,
    /// The connections with living servers that were established before.
    pub established: usize,
    /// Those of them that went on.
    pub survived: usize,
    /// What the new active director said when it became so.
    pub role: serde_json::Value,
}

impl Traffic {
    /// Starts clients, once director a is active; the backup knows the connections that stay when this returns.
    pub fn start(pair: &Pair) -> Result<Self> {
        let pattern = Pattern::LongLived { flows: FLOWS, pause: Duration::from_millis(200) };
        let plan = LoadPlan { patience: PATIENCE, ..LoadPlan::paced(RATE).to(&[MASQUERADED, DIRECT]) };
        let staying = Load::start(&pair.network.clients, LoadPlan { pattern, ..plan.clone() })?;
        let known = wait_until_known(&pair.directors[1], &staying)?;
        let new = Load::start(&pair.network.clients, plan)?;
        Ok(Self { staying, new, known })
    }

    /// What the clients of new connections have seen up to now.
    #[must_use]
    pub fn new_requests(&self) -> Vec<Request> {
        self.new.requests()
    }

    /// A server dies, and so does its director a second later. Returns once the other one is active.
    pub fn lose_director(&self, pair: &mut Pair) -> Result<Loss> {
        let died = pair.network.kill_server(DEAD.0)?;
        // Not a wait for anything: so long before its director the server dies.
        thread::sleep(BEFORE.saturating_sub(Moment::now().since(died)));
        let served_by = servers_of(&self.staying.requests());
        let off = pair.power_off(0)?;
        let active = wait_for_role(&pair.directors[1], "active")?;
        Ok(Loss { died, off, active, served_by })
    }

    /// Ends the clients, and says what became of their connections.
    pub fn end(mut self, pair: &Pair, loss: Loss) -> Result<Takeover> {
        let b = &pair.directors[1];
        let table = b.table()?;
        ensure!(table.is_out(DEAD.1.parse()?), "{table:?}\n{}", b.agent.diagnosis());
        let (new, staying) = (self.new.stop()?, self.staying.stop()?);
        let again = served_again(&new, loss.off).context("new connections are not served again")?;
        let (_, role) = b.last_event("role").context("the new active director has told no role")?;
        let meanwhile = || new.iter().filter(|one| one.started >= loss.off && one.started < again);
        let of_living = of_living(&self.known, &loss.served_by);
        let survived = of_living.iter().filter(|client| goes_on(**client, &staying, loss.active)).count();
        Ok(Takeover {
            edits: edits(b, loss.died),
            again,
            meanwhile: meanwhile().count(),
            unanswered: meanwhile().filter(|one| !one.outcome.is_success()).count(),
            established: of_living.len(),
            survived,
            role,
            loss,
        })
    }
}

impl Takeover {
    /// What is not as it should be.
    #[must_use]
    pub fn violations(&self) -> Vec<String> {
        let Self { loss, edits, again, established, survived, role, .. } = self;
        let is_out_before = edits.len() == 2 && edits.iter().all(|at| *at <= loss.active);
        let told = (&role["reason"], &role["servers"], &role["down"]);
        [
            (!is_out_before)
                .then(|| "the dead server was not out in both services before the takeover".to_owned()),
            (again.since(loss.off) > VRRP + BESIDES)
                .then(|| format!("new connections were served again after more than {:?}", VRRP + BESIDES)),
            (told != (&"vip-here".into(), &6.into(), &2.into()))
                .then(|| format!("what was told of the role: {role}")),
            (*established < FLOWS as usize / 2)
                .then(|| format!("only {established} connections with living servers were established")),
            (survived != established)
                .then(|| format!("{survived} of {established} established connections went on")),
        ]
        .into_iter()
        .flatten()
        .collect()
    }
}

/// When a director's agent has told last that it has a role, which it is waited for.
pub fn wait_for_role(director: &Director, role: &str) -> Result<Moment> {
    wait::until(&format!("{} to be {role}", director.name), LIMIT, || {
        let last = director.last_event("role").filter(|(_, fields)| fields["role"] == role);
        Ok(last.map(|(at, _)| at))
    })
    .with_context(|| director.agent.diagnosis())
}

/// Waits until the backup knows all connections that stay, and gives them.
fn wait_until_known(backup: &Director, staying: &Load) -> Result<Vec<SocketAddr>> {
    let asking = || staying.requests().iter().map(|one| one.client).collect::<BTreeSet<_>>();
    wait::until("the backup to know the connections", LIMIT, || {
        let asking = asking();
        let known: Vec<_> =
            backup.established()?.into_iter().filter(|client| asking.contains(&client.ip())).collect();
        let of: BTreeSet<_> = known.iter().map(SocketAddr::ip).collect();
        Ok((asking.len() >= FLOWS as usize && of.len() == asking.len()).then_some(known))
    })
}

/// Whose server did not die.
fn of_living(known: &[SocketAddr], served_by: &BTreeMap<IpAddr, String>) -> BTreeSet<IpAddr> {
    let dead = format!("rs{}", DEAD.0);
    let is_living = |client: &IpAddr| served_by.get(client).is_some_and(|server| *server != dead);
    known.iter().map(SocketAddr::ip).filter(is_living).collect()
}

/// Whether a connection that stays has had answers, and nothing else, since.
fn goes_on(client: IpAddr, requests: &[Request], since: Moment) -> bool {
    let mut later = requests.iter().filter(|one| one.client == client && one.started >= since).peekable();
    later.peek().is_some() && later.all(|one| one.outcome.is_success())
}

/// When the dead server was taken out of a director's table.
fn edits(director: &Director, died: Moment) -> Vec<Moment> {
    let of_dead = |event: crate::lab::agent::log::AgentEvent| {
        let is_edit = event.kind.to_string().starts_with("edit: set server");
        (is_edit && event.server == DEAD.1.parse().ok() && event.at >= died).then_some(event.at)
    };
    director.agent.events().into_iter().filter_map(of_dead).collect()
}

impl fmt::Display for Takeover {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { loss, edits, again, meanwhile, unanswered, established, survived, role } = self;
        let Loss { died, off, active, .. } = loss;
        let ms = |at: Moment| at.ms_after(*off);
        writeln!(f, "{:>9.1} ms: the server dies", ms(*died))?;
        for at in edits {
            writeln!(f, "{:>9.1} ms: it is out of the standby's table", ms(*at))?;
        }
        writeln!(f, "{:>9.1} ms: the active director loses its power", 0.0)?;
        let words = role["message"].as_str().unwrap_or_default();
        writeln!(f, "{:>9.1} ms: the other one is active ({words})", ms(*active))?;
        writeln!(f, "{:>9.1} ms: new connections are served again", ms(*again))?;
        writeln!(
            f,
            "of {meanwhile} connections that were begun meanwhile {unanswered} got no answer, the others after their SYN \
             was sent again"
        )?;
        write!(f, "established connections: {survived} of {established} with living servers go on")
    }
}
