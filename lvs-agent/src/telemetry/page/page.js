
"use strict";
(() => {
  // Texts reach the document as text alone: names are other people's.
  const SVG = "http://www.w3.org/2000/svg";
  const SAMPLES = 60, EVENTS = 100;
  // Without a message for so many of their intervals the stream is taken for dead: a machine that slept keeps it "open".
  const PATIENCE = 4;
  const LABELS = ["", "", "weight", "", "since", "active", "inactive", "conn/s", "check", "signal", ""];
  const byId = id => document.getElementById(id);
  const table = document.querySelector("table");

  let services = [], agent = null, source = null, paused = false;
  let every = 2000, heard = 0, offset = 0, retry = 0, timer = 0, hiddenSince = 0;

  const make = (name, kind, text) => {
    const node = document.createElement(name);
    if (kind) node.className = kind;
    if (text !== undefined) node.textContent = text;
    return node;
  };
  const say = (node, text) => { if (node.textContent !== text) node.textContent = text; };
  const now = () => Date.now() / 1000 + offset;

  const age = seconds => {
    const s = Math.max(0, Math.floor(seconds)), m = Math.floor(s / 60), h = Math.floor(m / 60), d = Math.floor(h / 24);
    const two = n => String(n).padStart(2, "0");
    return s < 60 ? `${s}s` : m < 60 ? `${m}m${two(s % 60)}s` : h < 24 ? `${h}h${two(m % 60)}m` : `${d}d${two(h % 24)}h`;
  };
  const bytes = value => {
    const units = ["B/s", "kB/s", "MB/s", "GB/s", "TB/s"];
    let unit = 0;
    while (value >= 999.5 && unit + 1 < units.length) { value /= 1000; unit += 1; }
    return `${value.toFixed(unit > 0 && value < 9.95 ? 1 : 0)} ${units[unit]}`;
  };
  const millis = micros => micros === null ? "" : `${(micros / 1000).toFixed(micros < 99950 ? 1 : 0)} ms`;

  const colour = text => {
    if (text.held) return "warn";
    if (text.state === "up") return "good";
    if (text.state === "down") return "bad";
    return text.state === "unknown" || text.state === "unchecked" ? "faint" : "warn";
  };
  const isWell = text => (text.state === "up" || text.state === "unchecked") && !text.held && !text.contradiction
    && text.table_weight === undefined;

  // A server's row.
  class Row {
    constructor([text, numbers, rates]) {
      this.rates = rates;
      this.node = make("tr");
      this.node.setAttribute("role", "row");
      const kinds = ["server", "", "number", "state", "number since", "number", "number", "rate", "number", "signal", "why"];
      this.cells = kinds.map((kind, column) => {
        const cell = make(column === 0 ? "th" : "td", kind);
        cell.setAttribute("role", column === 0 ? "rowheader" : "cell");
        if (column === 0) cell.scope = "row";
        if (LABELS[column]) cell.dataset.label = LABELS[column];
        this.node.append(cell);
        return cell;
      });
      this.line = document.createElementNS(SVG, "polyline");
      const chart = document.createElementNS(SVG, "svg");
      chart.setAttribute("viewBox", "0 0 59 16");
      chart.setAttribute("preserveAspectRatio", "none");
      chart.setAttribute("aria-hidden", "true");
      chart.append(this.line);
      this.rate = make("span");
      this.cells[7].append(chart, this.rate);
      this.setText(text);
      this.setNumbers(numbers);
      this.draw();
    }
    setText(text) {
      const news = this.text && this.text.state !== text.state;
      this.text = text;
      const [server, forward, weight, state, , , , , , , why] = this.cells;
      say(server, text.address);
      say(forward, text.forward);
      weight.replaceChildren(text.weight === undefined ? "out" : String(text.weight));
      if (text.table_weight !== undefined) weight.append(make("span", "differs", ` (is ${text.table_weight})`));
      say(state, text.state + (text.backup ? " (backup)" : ""));
      state.className = `state ${colour(text)}`;
      this.times = [];
      const parts = text.why.map(reason => {
        const part = make("span", "", reason.text);
        if (reason.at !== undefined) {
          const time = make("span");
          part.append(", ", time);
          this.times.push([time, reason.at]);
        }
        return part;
      });
      if (text.contradiction) parts.unshift(make("span", "bad", `contradiction: ${text.contradiction}`));
      why.replaceChildren(...parts.flatMap((part, index) => index ? ["; ", part] : [part]));
      this.find = [text.address, text.state, text.forward, text.signal, why.textContent].join(" ").toLowerCase();
      this.tick();
      if (news) {
        this.node.classList.remove("news");
        requestAnimationFrame(() => this.node.classList.add("news"));
      }
    }
    setNumbers([counts, took, usual]) {
      const [active, inactive, rate] = counts || [null, null, null];
      say(this.cells[5], active === null ? "–" : String(active));
      say(this.cells[6], inactive === null ? "–" : String(inactive));
      say(this.rate, rate === null ? "–" : String(rate));
      say(this.cells[8], millis(took));
      say(this.cells[9], [this.text.signal, millis(usual)].filter(Boolean).join(" "));
      this.now = rate || 0;
    }
    sample() {
      this.rates.push(this.now);
      if (this.rates.length > SAMPLES) this.rates.shift();
      this.draw();
    }
    draw() {
      const most = Math.max(1, ...this.rates), first = SAMPLES - this.rates.length;
      const points = this.rates.map((rate, index) => `${first + index},${(15 - 14 * rate / most).toFixed(1)}`);
      const text = points.join(" ");
      if (text !== this.drawn) { this.drawn = text; this.line.setAttribute("points", text); }
    }
    tick() {
      say(this.cells[4], this.text.since === undefined ? "start" : age(now() - this.text.since));
      for (const [node, at] of this.times) say(node, `${age(now() - at)} ago`);
    }
  }

  // A service: its title, and the rows of its servers.
  class Service {
    constructor({ text, sums, servers }) {
      this.node = make("tbody");
      this.node.setAttribute("role", "rowgroup");
      const line = make("tr", "title");
      line.setAttribute("role", "row");
      this.title = make("th");
      this.title.colSpan = LABELS.length;
      this.title.scope = "rowgroup";
      this.title.setAttribute("role", "rowheader");
      line.append(this.title);
      this.rows = servers.map(server => new Row(server));
      this.sums = make("span");
      this.node.append(line, ...this.rows.map(row => row.node));
      this.setText(text);
      this.setSums(sums);
    }
    setText(text) {
      this.text = text;
      const [protocol, address] = text.key.split(/ (.*)/);
      const kind = { up: "good", degraded: "warn", "no-server": "bad" }[text.health];
      const verdict = text.health === "no-server" ? `no server (${text.up} of ${this.rows.length} up)`
        : `${text.up} of ${this.rows.length} up`;
      const parts = [make("strong", "", text.name === text.key ? `${protocol.toUpperCase()} ${address}` : text.name)];
      if (text.name !== text.key) parts.push(make("span", "", `${protocol.toUpperCase()} ${address}`));
      parts.push(make("span", "", text.scheduler));
      if (text.persistent_s !== undefined) parts.push(make("span", "", `persistent ${text.persistent_s}`));
      parts.push(make("span", kind, verdict));
      if (text.quorum_lost) parts.push(make("span", "bad", "quorum lost"));
      if (text.alarm) parts.push(make("span", "bad", "alarm: servers that look dead are retained"));
      this.title.replaceChildren(...parts.flatMap(part => [part, " "]), this.sums);
      this.find = [text.name, text.key, text.scheduler, text.health].join(" ").toLowerCase();
    }
    setSums(sums) {
      say(this.sums, sums ? `${sums[1]} conn/s, ${bytes(sums[2])} in, ${bytes(sums[3])} out` : "not in the kernel's table");
    }
    // Shows what is looked for; returns how many servers that are.
    filter(words, onlyTrouble) {
      let shown = 0;
      for (const row of this.rows) {
        const found = words.every(word => row.find.includes(word) || this.find.includes(word));
        const hidden = !found || (onlyTrouble && isWell(row.text));
        if (row.node.hidden !== hidden) row.node.hidden = hidden;
        shown += hidden ? 0 : 1;
      }
      const own = words.every(word => this.find.includes(word)) && (!onlyTrouble || this.text.health !== "up");
      this.node.hidden = shown === 0 && !own;
      return shown;
    }
  }

  const eventLine = event => {
    const line = make("li", event.level);
    const time = make("time", "", new Date(event.time).toLocaleTimeString([], { hour12: false }));
    time.dateTime = event.time;
    time.title = event.time;
    const took = event.took_ms === undefined ? "" : ` (${event.took_ms.toFixed(0)} ms after the first evidence)`;
    const service = event.service && !event.message.includes(event.service) ? `${event.service}: ` : "";
    line.append(time, make("span", "level", event.level), make("span", "", service + event.message + took));
    return line;
  };
  const addEvents = events => {
    const list = byId("events");
    for (const event of events) list.prepend(eventLine(event));
    while (list.children.length > EVENTS) list.lastChild.remove();
    byId("quiet").hidden = list.children.length > 0;
  };

  const setAgent = value => {
    agent = value;
    const verdict = { up: "all is up", degraded: "degraded", "no-server": "a service has no server" }[agent.health];
    const badge = byId("verdict");
    say(badge, `${agent.up} of ${agent.servers} servers up, ${verdict}`);
    badge.className = `badge ${agent.health}`;
    document.title = `${agent.health === "up" ? "" : "! "}${agent.up}/${agent.servers} up – ${location.host}`;
    const warnings = byId("warnings");
    warnings.replaceChildren(...agent.warnings.map(text => make("li", "", text)));
    warnings.hidden = agent.warnings.length === 0;
  };
  const showFacts = () => {
    if (!agent) return;
    const observed = agent.observed === undefined ? "" : `, nothing is written (${agent.observed} edits would have been made)`;
    say(byId("facts"), `${agent.version}, ${agent.mode}${observed}, up for ${age(now() - agent.started)}`);
  };
  const filter = () => {
    const words = byId("find").value.toLowerCase().split(/\s+/).filter(Boolean);
    const only = byId("trouble").checked;
    const shown = services.reduce((sum, service) => sum + service.filter(words, only), 0);
    const all = services.reduce((sum, service) => sum + service.rows.length, 0);
    say(byId("shown"), words.length || only ? `${shown} of ${all} servers` : "");
    byId("empty").hidden = services.length > 0;
  };

  const onAll = message => {
    every = message.every_ms;
    offset = message.now - Date.now() / 1000;
    services = message.services.map(service => new Service(service));
    for (const body of [...table.tBodies]) body.remove();
    table.append(...services.map(service => service.node));
    setAgent(message.agent);
    byId("events").replaceChildren();
    addEvents(message.events);
    filter();
    showFacts();
  };
  const onChanges = message => {
    offset = message.now - Date.now() / 1000;
    for (const [at, text] of message.services || []) services[at].setText(text);
    for (const [at, sums] of message.sums || []) services[at].setSums(sums);
    for (const [at, row, text] of message.servers || []) services[at].rows[row].setText(text);
    for (const [at, row, numbers] of message.numbers || []) services[at].rows[row].setNumbers(numbers);
    if (message.sample) for (const service of services) for (const row of service.rows) row.sample();
    if (message.agent) setAgent(message.agent);
    if (message.events) addEvents(message.events);
    if (message.services || message.servers) filter();
  };

  const setLink = (text, lost) => {
    say(byId("link"), text);
    document.body.classList.toggle("lost", lost);
  };
  const close = () => { if (source) source.close(); source = null; clearTimeout(timer); };
  const lost = () => {
    close();
    const since = heard ? `, this is how it was at ${new Date(heard).toLocaleTimeString([], { hour12: false })}` : "";
    setLink(`not connected${since}`, true);
    retry = Math.min(retry + 1, 5);
    timer = setTimeout(open, 500 * 2 ** retry);
  };
  function open() {
    close();
    if (paused || document.hidden) return;
    source = new EventSource("events");
    const listen = (name, act) => source.addEventListener(name, event => {
      heard = Date.now();
      retry = 0;
      setLink("", false);
      act(JSON.parse(event.data));
    });
    listen("all", onAll);
    listen("changes", onChanges);
    listen("trouble", message => setLink(message.text, true));
    source.onerror = lost;
    heard = heard || 0;
    opened = Date.now();
  }
  let opened = 0;

  // Ages go on; a stream that has fallen silent is opened anew.
  setInterval(() => {
    if (paused || document.hidden) return;
    showFacts();
    for (const service of services) if (!service.node.hidden) for (const row of service.rows) row.tick();
    if (source && Date.now() - Math.max(heard, opened) > PATIENCE * every) lost();
  }, 1000);
  // A page that nobody sees costs the agent nothing.
  document.addEventListener("visibilitychange", () => {
    if (document.hidden) { hiddenSince = Date.now(); setTimeout(() => {
      if (document.hidden && Date.now() - hiddenSince >= 20000) close();
    }, 20000); } else if (!source) { retry = 0; open(); }
  });
  for (const name of ["online", "pageshow"]) addEventListener(name, () => { if (!source) { retry = 0; open(); } });
  addEventListener("offline", lost);
  byId("controls").addEventListener("submit", event => event.preventDefault());
  byId("controls").addEventListener("input", filter);
  byId("pause").addEventListener("click", () => {
    paused = !paused;
    byId("pause").setAttribute("aria-pressed", String(paused));
    say(byId("pause"), paused ? "Go on" : "Pause");
    if (paused) { close(); setLink("paused", false); } else { retry = 0; setLink("", false); open(); }
  });
  say(byId("host"), location.host);
  open();
})();
