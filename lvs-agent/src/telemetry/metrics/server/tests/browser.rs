//! The status page in a real browser, asked over its debugging protocol
//! (<https://chromedevtools.github.io/devtools-protocol/>).

use std::{
    env, fs,
    io::{BufRead as _, BufReader, Write as _},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

use super::super::testing::{Told, serve, told};
use crate::control::{
    CheckOutcome, CheckStatus, EventLine, Events, EvidenceStatus, Health, ServerStatus, ServiceStatus,
    SignalStatus, Status, Traffic, Visibility,
};

/// For anything that the page does by itself, on a busy machine.
const LIMIT: Duration = Duration::from_mins(1);

/// A browser with one page.
struct Browser {
    process: Child,
    to: ChildStdin,
    from: BufReader<ChildStdout>,
    session: Option<String>,
    asked: u64,
    /// What the page has complained of.
    complaints: Vec<String>,
    _folder: tempfile::TempDir,
}

impl Browser {
    /// Starts Debian's, which `LVS_BROWSER` says where it is unpacked.
    fn start() -> Self {
        let root =
            PathBuf::from(env::var_os("LVS_BROWSER").expect("LVS_BROWSER names a folder with chromium"));
        let folders = [
            "usr/lib/x86_64-linux-gnu",
            "usr/lib/x86_64-linux-gnu/pulseaudio",
            "lib/x86_64-linux-gnu",
            "usr/lib",
        ];
        let libraries = folders.map(|path| root.join(path));
        let folder = tempfile::tempdir().unwrap();
        let mut process = Command::new("sh")
            // It takes commands from descriptor 3, and answers on 4.
            .args(["-c", "exec \"$0\" \"$@\" 3<&0 4>&1 </dev/null >/dev/null 2>/dev/null"])
            .arg(root.join("usr/lib/chromium/chromium-headless-shell"))
            .args(["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--remote-debugging-pipe"])
            .arg(format!("--user-data-dir={}", folder.path().display()))
            .env("LD_LIBRARY_PATH", env::join_paths(libraries).unwrap())
            .env("FONTCONFIG_SYSROOT", &root)
            .env("HOME", folder.path())
            .env_remove("DBUS_SESSION_BUS_ADDRESS")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("a shell");
        let (to, from) = (process.stdin.take().unwrap(), BufReader::new(process.stdout.take().unwrap()));
        let complaints = Vec::new();
        let mut browser = Self { process, to, from, session: None, asked: 0, complaints, _folder: folder };
        let target = browser.ask("Target.createTarget", &json!({ "url": "about:blank" }));
        let attached =
            browser.ask("Target.attachToTarget", &json!({ "targetId": target["targetId"], "flatten": true }));
        browser.session = attached["sessionId"].as_str().map(str::to_owned);
        for domain in ["Page", "Runtime", "Log", "Network"] {
            browser.ask(&format!("{domain}.enable"), &json!({}));
        }
        browser
    }

    /// The answer to a command; what is told meanwhile is noted.
    fn ask(&mut self, method: &str, parameters: &Value) -> Value {
        self.asked += 1;
        let mut command = json!({ "id": self.asked, "method": method, "params": parameters });
        if let Some(session) = &self.session {
            command["sessionId"] = session.as_str().into();
        }
        self.to.write_all(format!("{command}\0").as_bytes()).expect("the browser runs");
        loop {
            let mut answer = Vec::new();
            let read = self.from.read_until(0, &mut answer).unwrap();
            assert!(read > 0, "the browser has ended at {method}");
            answer.pop();
            let answer: Value = serde_json::from_slice(&answer).unwrap();
            if answer["id"] == self.asked {
                assert!(answer["error"].is_null(), "{method}: {answer}");
                return answer["result"].clone();
            }
            let told = answer["method"].as_str().unwrap_or_default();
            let is_complaint = told == "Runtime.exceptionThrown"
                || (told == "Log.entryAdded" && answer["params"]["entry"]["level"] == "error");
            // That the server is away for a while is part of the test.
            if is_complaint && !answer.to_string().contains("net::ERR") {
                self.complaints.push(answer["params"].to_string());
            }
        }
    }

    fn evaluate(&mut self, expression: &str) -> Value {
        let result = self.ask(
            "Runtime.evaluate",
            &json!({ "expression": expression, "returnByValue": true, "awaitPromise": true }),
        );
        assert!(result["exceptionDetails"].is_null(), "{expression}: {result}");
        result["result"]["value"].clone()
    }

    /// Waits until an expression is true.
    fn wait_for(&mut self, expression: &str) {
        let begun = Instant::now();
        while self.evaluate(expression) != json!(true) {
            let text = || "document.body.innerText";
            assert!(begun.elapsed() < LIMIT, "waited for {expression}:\n{}", self.evaluate(text()));
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// As on a screen of this width, in a colour scheme.
    fn look(&mut self, width: u32, height: u32, scheme: &str, motion: &str) {
        let size = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 700 });
        self.ask("Emulation.setDeviceMetricsOverride", &size);
        let features = json!({ "features": [
            { "name": "prefers-color-scheme", "value": scheme },
            { "name": "prefers-reduced-motion", "value": motion },
        ] });
        self.ask("Emulation.setEmulatedMedia", &features);
    }

    /// A picture in the folder that `LVS_SCREENSHOTS` names.
    fn picture(&mut self, name: &str) {
        let Some(folder) = env::var_os("LVS_SCREENSHOTS") else { return };
        let picture = self.ask("Page.captureScreenshot", &json!({ "format": "png" }));
        let png = STANDARD.decode(picture["data"].as_str().unwrap()).unwrap();
        fs::create_dir_all(&folder).unwrap();
        fs::write(Path::new(&folder).join(format!("{name}.png")), png).unwrap();
    }

    fn press_tab(&mut self) {
        for kind in ["keyDown", "keyUp"] {
            let key = json!({ "type": kind, "key": "Tab", "code": "Tab", "windowsVirtualKeyCode": 9 });
            self.ask("Input.dispatchKeyEvent", &key);
        }
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        self.process.kill().and_then(|()| self.process.wait()).ok();
    }
}

/// A name that would like to be more than a text.
const HOSTILE: &str =
    "</script><script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">";

fn server(host: u8, state: &str, rate: u64) -> ServerStatus {
    let is_down = state == "down";
    let refused =
        || EvidenceStatus { text: "3 SYNs refused within 9 ms, none accepted".to_owned(), age_ms: 82_000 };
    ServerStatus {
        address: ([10, 0, 0, host], 8080).into(),
        method: "masquerade".to_owned(),
        weight: Some(u16::from(!is_down)),
        table_weight: Some(i32::from(!is_down)),
        state: state.to_owned(),
        backup: false,
        held: false,
        note: None,
        state_age_ms: Some(if is_down { 81_000 } else { 4_000_000 }),
        checks: vec![CheckStatus {
            check: "http".to_owned(),
            result: if is_down { CheckOutcome::Failure } else { CheckOutcome::Success },
            text: if is_down { "connection refused".to_owned() } else { "answered".to_owned() },
            took_ms: 0.4,
            age_ms: 500,
        }],
        traffic: Some(Traffic {
            active: u32::try_from(rate).unwrap() * 3,
            inactive: 30,
            connections_per_s: rate,
            ..Traffic::default()
        }),
        failure: None,
        probe_path: None,
        idle_connection: Some("open".to_owned()),
        contradiction: None,
        signal: SignalStatus {
            seen: Visibility::Both,
            reason: None,
            usual_wait_ms: Some(0.4),
            evidence: is_down.then(refused),
        },
    }
}

/// Some services, one of them with a hostile name, at a turn of the page.
fn status(turn: u64) -> Status {
    let rate = |host: u64| 20 + (turn * (host + 3)) % 17;
    let service = |name: &str, key: &str, health, servers| ServiceStatus {
        name: name.to_owned(),
        key: key.to_owned(),
        scheduler: "wlc".to_owned(),
        health,
        servers,
        traffic: Some(Traffic {
            connections_per_s: rate(1) + rate(2),
            bytes_in_per_s: 120_345,
            bytes_out_per_s: 9_034_567,
            ..Traffic::default()
        }),
        ..ServiceStatus::default()
    };
    let mut half = server(12, "up", 2);
    half.held = true;
    half.weight = Some(0);
    half.note = Some("drained, by command".to_owned());
    let mut failing = server(33, "up", 5);
    failing.contradiction =
        Some("for 42 s its clients have got no answer: the VIP is not on the server's loopback".to_owned());
    let services = vec![
        service(
            "web",
            "tcp 192.0.2.80:80",
            Health::Degraded,
            vec![server(1, "up", rate(1)), server(2, "down", 0), server(3, "up", rate(2))],
        ),
        service("mail", "tcp [2001:db8::25]:25", Health::Up, vec![server(11, "up", rate(3)), half]),
        service(HOSTILE, "mark 7", Health::NoServer, vec![server(21, "down", 0)]),
        service("dns", "udp 192.0.2.53:53", Health::Degraded, vec![server(31, "suspect", rate(4)), failing]),
    ];
    let mut status = Status { services, health: Health::NoServer, ..Status::default() };
    status.agent.version = "0.1.0".to_owned();
    status.agent.mode = "manage".to_owned();
    status.agent.uptime_ms = 90_000_000;
    status.warnings = vec![format!("{HOSTILE}: net.ipv4.vs.expire_nodest_conn is 0")];
    status
}

fn event(number: u64, level: &str, message: &str) -> EventLine {
    let fields = json!({ "event": "state", "service": "web", "server": "10.0.0.2:8080" });
    EventLine {
        number,
        timestamp: format!("2026-01-02T03:04:{:02}.123456Z", number % 60),
        level: level.to_owned(),
        fields: fields.as_object().unwrap().clone(),
        message: message.to_owned(),
        timeline: None,
    }
}

/// The least contrast of all texts that are shown (WCAG 2.1, 1.4.3), with the text that has it.
const LEAST_CONTRAST: &str = r#"(() => {
  const channel = c => { c /= 255; return c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4; };
  const parse = text => text.match(/[\d.]+/g).map(Number);
  const light = ([r, g, b]) => 0.2126 * channel(r) + 0.7152 * channel(g) + 0.0722 * channel(b);
  const back = node => {
    for (; node; node = node.parentElement) {
      const colour = parse(getComputedStyle(node).backgroundColor);
      if (colour.length < 4 || colour[3] > 0) return colour;
    }
    return [255, 255, 255];
  };
  let least = [99, ""];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const node = walker.currentNode.parentElement, text = walker.currentNode.textContent.trim();
    if (!text || !node.checkVisibility() || ["SCRIPT", "STYLE", "NOSCRIPT"].includes(node.tagName)) continue;
    const [a, b] = [light(parse(getComputedStyle(node).color)), light(back(node))];
    const contrast = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (contrast < least[0]) least = [contrast, text];
  }
  return least;
})()"#;

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a browser, which `cargo xtask test --only unit` unpacks"]
async fn the_page_shows_the_status_to_everybody_and_finds_its_agent_again() {
    let agent = Arc::new(Told::default());
    *agent.status.lock().unwrap() = status(0);
    let lines = vec![
        event(1, "info", "web: 10.0.0.2:8080 changed from suspect to down: connection refused"),
        event(2, "warn", "web: too few servers are healthy"),
        event(3, "error", HOSTILE),
    ];
    *agent.events.lock().unwrap() = Events { instance: 1, next: 3, lines, ..Events::default() };
    let (server, address) = told(&agent);
    let again = server.again();
    let (guard, handle) = (serve(server), tokio::runtime::Handle::current());
    tokio::task::spawn_blocking(move || {
        let mut browser = Browser::start();
        browser.look(1280, 900, "light", "no-preference");
        browser.ask("Page.navigate", &json!({ "url": format!("http://{address}/") }));
        browser.wait_for("document.querySelectorAll('tbody').length === 4");
        is_text(&mut browser);
        follows(&mut browser, &agent);
        fits_and_can_be_read(&mut browser);
        has_meaning(&mut browser);
        takes_keys(&mut browser);
        drop(guard);
        browser.wait_for("document.getElementById('link').textContent.startsWith('not connected')");
        let guard = handle.block_on(async { serve(again) });
        browser.wait_for("document.getElementById('link').textContent === ''");
        wakes_up(&mut browser, &agent);
        drop(guard);
        assert_eq!(browser.complaints, Vec::<String>::new());
    })
    .await
    .unwrap();
}

/// Whatever names say, it is text.
fn is_text(browser: &mut Browser) {
    assert_eq!(
        browser.evaluate("document.querySelectorAll('main img, main script, #warnings img').length"),
        0
    );
    assert_ne!(browser.evaluate("document.title"), "owned");
    let shown = format!(
        "[...document.querySelectorAll('tbody strong')].some(name => name.textContent === {})",
        json!(HOSTILE)
    );
    assert_eq!(browser.evaluate(&shown), true);
    assert_eq!(browser.evaluate("document.querySelectorAll('#events li').length"), 3);
}

/// What changes is shown without a reload, and rates become lines.
fn follows(browser: &mut Browser, agent: &Told) {
    for turn in 1..6 {
        *agent.status.lock().unwrap() = status(turn);
        let samples = format!("document.querySelector('polyline').points.length > {turn}");
        browser.wait_for(&samples);
    }
    let mut changed = status(6);
    changed.services[0].servers[0] = server(1, "down", 0);
    *agent.status.lock().unwrap() = changed;
    let mut events = agent.events.lock().unwrap();
    events.lines.push(event(4, "info", "something new"));
    events.next = 4;
    drop(events);
    browser.wait_for("document.querySelector('tbody tr:nth-child(2) .state').textContent === 'down'");
    browser.wait_for("document.querySelector('#events li').textContent.includes('something new')");
    *agent.status.lock().unwrap() = status(7);
    browser.wait_for("document.querySelector('tbody tr:nth-child(2) .state').textContent === 'up'");
    assert_eq!(browser.complaints, Vec::<String>::new());
}

/// On a phone, a tablet and a desk, by day and by night.
fn fits_and_can_be_read(browser: &mut Browser) {
    for scheme in ["light", "dark"] {
        for (width, height) in [(320, 1400), (768, 1100), (1280, 900)] {
            browser.look(width, height, scheme, "no-preference");
            let wide = browser
                .evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth");
            assert_eq!(wide, 0, "at {width} it is too wide");
            let least = browser.evaluate(LEAST_CONTRAST);
            assert!(least[0].as_f64().unwrap() >= 4.5, "{scheme}, {width}: {least}");
            browser.picture(&format!("{scheme}-{width}"));
        }
    }
    let animation = "(() => { const row = document.querySelector('tbody tr:nth-child(2)'); row.classList.add('news'); \
                     return getComputedStyle(row).animationName; })()";
    assert_eq!(browser.evaluate(animation), "news");
    browser.look(1280, 900, "light", "reduce");
    assert_eq!(browser.evaluate(animation), "none", "who wants no motion has none");
}

/// For those who hear the page: a table with headings, at any width.
fn has_meaning(browser: &mut Browser) {
    for width in [1280, 320] {
        browser.look(width, 1400, "light", "reduce");
        let tree = browser.ask("Accessibility.getFullAXTree", &json!({}));
        let nodes = tree["nodes"].as_array().unwrap();
        let count = |role: &str| {
            nodes.iter().filter(|node| node["role"]["value"] == role && node["ignored"] == false).count()
        };
        // Services and servers, and their headings.
        assert_eq!((count("table"), count("rowheader")), (1, 4 + 8), "{width}");
        assert!(count("columnheader") >= 9 && count("cell") >= 8 * 8, "{width}: {} cells", count("cell"));
        assert_eq!((count("main"), count("heading"), count("searchbox")), (1, 3, 1), "{width}");
    }
}

fn takes_keys(browser: &mut Browser) {
    browser.look(1280, 900, "light", "reduce");
    let mut seen = Vec::new();
    for _ in 0..5 {
        browser.press_tab();
        let focused = "(() => { const node = document.activeElement; const style = getComputedStyle(node); \
                       return [node.id || node.className, style.outlineStyle]; })()";
        let focused = browser.evaluate(focused);
        assert_eq!(focused[1], "solid", "the focus is seen: {focused}");
        seen.push(focused[0].as_str().unwrap().to_owned());
    }
    assert_eq!(seen[..4], ["skip", "find", "trouble", "pause"], "{seen:?}");
    let find = "(() => { const find = document.getElementById('find'); find.value = '10.0.0.2:'; \
                find.dispatchEvent(new Event('input', { bubbles: true })); \
                return [...document.querySelectorAll('tbody tr:not(.title)')].filter(row => !row.hidden).length; })()";
    assert_eq!(browser.evaluate(find), 1);
    let all = find.replace("'10.0.0.2:'", "''");
    assert_eq!(browser.evaluate(&all), 8);
    let pause = "document.getElementById('pause').click(), document.getElementById('link').textContent";
    assert_eq!(browser.evaluate(pause), "paused");
    assert_eq!(browser.evaluate(pause), "");
}

/// A machine that slept: the page goes on by itself.
fn wakes_up(browser: &mut Browser, agent: &Told) {
    browser.wait_for("document.querySelectorAll('tbody').length === 4");
    browser.ask("Page.setWebLifecycleState", &json!({ "state": "frozen" }));
    let mut changed = status(8);
    changed.services[1].name = "after the night".to_owned();
    *agent.status.lock().unwrap() = changed;
    std::thread::sleep(Duration::from_secs(3));
    browser.ask("Page.setWebLifecycleState", &json!({ "state": "active" }));
    browser.wait_for("document.querySelector('main').textContent.includes('after the night')");
    assert_eq!(browser.complaints, Vec::<String>::new());
}
