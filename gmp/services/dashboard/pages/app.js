// Shows what the server sends. Whatever a node said is set as text or as an attribute's value, never as markup.
"use strict";
const SVG = "http://www.w3.org/2000/svg", WIDTH = 1000, HEIGHT = 700, MANY = 40;
const find = id => document.getElementById(id);
const PLOTS = [["messages", "messages per second", count], ["bytes", "bytes per second", bytes],
               ["queue", "bytes queued", bytes], ["lag", "event loop lag", seconds]];
let selected = null, points = [], snapshot = null, asking = false;

function make(name, attributes = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children);
  return element;
}
function draw(name, attributes = {}, text) {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  if (text !== undefined) element.textContent = text;
  return element;
}
function scaled(value, step, units) {
  let index = 0;
  while (value >= step && index < units.length - 1) { value /= step; index++ }
  return (value >= 100 || Number.isInteger(value) ? value.toFixed(0) : value.toFixed(1)) + units[index];
}
function count(value) { return scaled(Number(value) || 0, 1000, ["", "k", "M", "G"]) }
function bytes(value) { return scaled(Number(value) || 0, 1000, [" B", " kB", " MB", " GB"]) }
function seconds(value) {
  if (typeof value !== "number") return "–";
  return value >= 1 ? value.toFixed(1) + " s" : value >= 0.001 ? (value * 1000).toFixed(1) + " ms" : (value * 1e6).toFixed(0) + " µs";
}

// ---- the picture: seeds on an inner ring, the others around them beside their master

function place(nodes) {
  const positions = new Map(), seeds = nodes.filter(node => node.seed).sort(byId);
  const others = nodes.filter(node => !node.seed)
    .sort((a, b) => order(seeds, a) - order(seeds, b) || byId(a, b));
  const inner = seeds.length > 1 ? Math.min(150, 60 + 15 * seeds.length) : 0;
  ring(seeds, inner * 1.4, inner, positions, 0, 0);
  ring(others, WIDTH / 2 - 110, HEIGHT / 2 - 78, positions, 0, others.length > MANY ? 0.16 : others.length > 14 ? 0.08 : 0);
  return positions;
}
function byId(a, b) { return a.id < b.id ? -1 : a.id > b.id ? 1 : 0 }
function order(seeds, node) { return seeds.findIndex(seed => seed.id === node.master) }
function ring(nodes, wide, high, positions, start, alternate) {
  nodes.forEach((node, index) => {
    const angle = 2 * Math.PI * (index + start) / nodes.length - Math.PI / 2, part = 1 - alternate * (index % 3);
    positions.set(node.id, [WIDTH / 2 + wide * part * Math.cos(angle), HEIGHT / 2 + high * part * Math.sin(angle)]);
  });
}
// the observer's own node and its connections are drawn faintly, unless it is one of the network for itself
function faint(id) { return id === snapshot.own && snapshot.observer }
function by(link) { return `${link.unix ? ", by a Unix socket" : ""}${link.relay ? ", relayed by " + link.relay : ""}${link.tls ? ", " + link.tls : ""}` }
function list(value) { return Array.isArray(value) ? value : [] }
function label(id) { return id.length > 22 ? id.slice(0, 10) + "…" + id.slice(-10) : id }

function picture() {
  const net = find("net"), positions = place(snapshot.nodes), elements = [];
  net.setAttribute("viewBox", `0 0 ${WIDTH} ${HEIGHT}`);
  net.setAttribute("aria-label", snapshot.nodes.map(node => `${node.id} ${node.state}`).join(", "));
  document.body.classList.toggle("many", snapshot.nodes.length > MANY);
  for (const link of snapshot.links) {
    const from = positions.get(link.a), to = positions.get(link.b);
    if (!from || !to) continue;
    const [x, y] = [WIDTH / 2 + (from[0] + to[0] - WIDTH) / 4, HEIGHT / 2 + (from[1] + to[1] - HEIGHT) / 4];
    const line = draw("path", { class: `link${link.relay ? " relay" : ""}${link.busy ? " busy" : ""}${faint(link.a) || faint(link.b) ? " own" : ""}`,
      d: `M${from[0]} ${from[1]} Q${x} ${y} ${to[0]} ${to[1]}`, "stroke-width": 1 + Math.min(9, Math.log10(1 + link.bytes) * 1.1) });
    line.append(draw("title", {}, `${link.a} – ${link.b}: ${bytes(link.bytes)}/s, ${count(link.messages)} messages/s, ` +
      `round trip ${seconds(link.round_trip)}${by(link)}`));
    elements.push(line);
  }
  for (const node of snapshot.nodes) elements.push(symbol(node, ...positions.get(node.id)));
  const focused = document.activeElement && document.activeElement.dataset && document.activeElement.dataset.id;
  net.replaceChildren(...elements);
  if (focused) { const again = [...net.querySelectorAll(".node")].find(each => each.dataset.id === focused); if (again) again.focus() }
}
function symbol(node, x, y) {
  const group = draw("g", { class: `node ${node.state}${node.seed ? " seed" : ""}${node.private ? " private" : ""}${faint(node.id) ? " own" : ""}` +
    (node.id === selected ? " selected" : ""), transform: `translate(${x} ${y})`, tabindex: 0, role: "button" });
  group.dataset.id = node.id;
  group.append(draw("title", {}, `${node.id}: ${node.state}${node.reason ? ", " + node.reason : ""}`));
  if (node.seed) group.append(draw("rect", { class: "ring", x: -19, y: -19, width: 38, height: 38, rx: 6 }),
                              draw("rect", { class: "shape", x: -14, y: -14, width: 28, height: 28, rx: 4 }));
  else group.append(draw("circle", { class: "ring", r: 16 }), draw("circle", { class: "shape", r: 11 }));
  const below = y >= HEIGHT / 2;
  const text = draw("text", { y: below ? 34 : -24, "text-anchor": "middle" }), name = draw("tspan", {}, label(node.id));
  text.append(name);
  if (node.state !== "up") {   // under the name, or above it
    const state = draw("tspan", { class: "state", x: 0, dy: below ? "1.1em" : "-1.1em" },
      node.state === "busy" ? `busy ${node.silent.toFixed(0)} s` : node.state);
    if (!below) { name.setAttribute("x", 0); name.setAttribute("dy", "1.1em"); text.prepend(state) } else text.append(state);
  }
  group.append(text);
  group.onclick = () => select(node.id);
  group.onkeydown = event => { if (event.key === "Enter" || event.key === " ") { event.preventDefault(); select(node.id) } };
  return group;
}

// ---- the last ten minutes

function plots() {
  const figures = PLOTS.map(([key, title, format]) => {
    const values = points.map(point => point[key]), most = Math.max(...values, 0), last = values[values.length - 1] || 0;
    const chart = draw("svg", { viewBox: "0 0 600 100", preserveAspectRatio: "none", role: "img", "aria-label": `${title}: ${format(last)} now, ${format(most)} at most` });
    const from = 600 - values.length;
    chart.append(draw("polyline", { points: values.map((value, index) => `${from + index},${97 - 92 * value / (most || 1)}`).join(" ") }));
    const top = make("figcaption"), value = make("b");
    value.textContent = format(last);
    top.append(make("span", {}, title), value);
    const bottom = make("figcaption");
    bottom.append(make("span", {}, "ten minutes"), make("span", {}, `at most ${format(most)}`));
    return make("figure", {}, top, chart, bottom);
  });
  find("plots").replaceChildren(...figures);
}

// ---- tables

function grid(heads, rows, numeric = []) {
  const cells = (values, kind) => make("tr", {}, ...values.map((value, index) => {
    const cell = make(kind, numeric.includes(index) ? { class: "number" } : {});
    cell.append(value);
    return cell;
  }));
  return make("table", {}, cells(heads, "th"), ...rows.map(row => cells(row, "td")));
}
function families() {
  const opened = new Set([...document.querySelectorAll("#family-list details[open]")].map(each => each.dataset.name));
  const items = Object.entries(snapshot.families).map(([name, family]) => {
    const summary = make("summary"), details = make("details", opened.has(name) ? { open: "" } : {});
    summary.append(`${name} `);
    summary.append(make("span", { class: "dim" }, `${family.group ? "group" : "family"}, ${family.entries} ${family.group ? "members" : "entries"}`));
    details.dataset.name = name;
    details.append(summary, grid([family.group ? "port" : "key", "value"], family.items));
    return details;
  });
  find("family-list").replaceChildren(...(items.length ? items : [make("p", { class: "hint" }, "none yet")]));
}
function logline(line) {
  const item = make("li"), level = line.level >= 50 ? 50 : line.level >= 40 ? 40 : line.level >= 30 ? 30 : 20;
  for (const [kind, text] of [["dim", new Date(line.time * 1000).toLocaleTimeString()], ["dim", label(line.node)],
                              [`level-${level}`, line.logger], ["text", line.text]])
    item.append(make("span", { class: kind }, text));
  return item;
}

// ---- one node

function select(id) { selected = selected === id ? null : id; picture(); detail() }
async function detail() {
  const place = find("detail");
  if (selected === null) { place.replaceChildren(make("p", { class: "hint" }, "Click a node to see its ports, queues, connections and log lines.")); return }
  if (asking) return;
  asking = true;
  try {
    const answer = await fetch("node?id=" + encodeURIComponent(selected)), id = selected;
    if (!answer.ok) { place.replaceChildren(make("p", {}, `${id} is not known any more.`)); return }
    const opened = new Set([...place.querySelectorAll("details[open]")].map(each => each.dataset.name)), top = place.scrollTop;
    place.replaceChildren(...describe(await answer.json(), opened));
    place.scrollTop = top;
  } catch (error) {
    find("counts").textContent = "connection lost, trying again …";
  } finally { asking = false }
}
function describe(node, opened) {
  const info = node.info, ports = list(node.ports_list.ports), deaths = list(node.ports_list.deaths);
  const facts = [["state", node.state + (node.reason ? ": " + node.reason : "")], ["role", node.seed ? "seed" : node.private ? "private" : "node"],
    ["host, process", `${info.host || "?"}, ${info.pid || "?"}`], ["gmp, Python", `${info.version || "?"}, ${info.python || "?"}`],
    ["listens on", list(info.binds).join(", ") || "nothing"], ["up for", seconds(node.stats.uptime)],
    ["loop lag, peak", `${seconds(node.lag)}, ${seconds(node.stats.loop_lag_peak)}`],
    ["ports, waiting, peak", `${count(node.ports)}, ${count(node.waiting)}, ${count(node.peak)}`], ["messages dropped", count(node.stats.dropped)]];
  const title = make("h2");
  title.textContent = node.id;
  const found = [title, grid(["", ""], facts), heading("Connections"),
    grid(["to", "by", "msg/s", "bytes/s", "queue", "round trip"], node.links.map(link =>
      [label(link.b), link.relay ? "relay" : link.unix ? "Unix" : "TCP", count(link.messages), bytes(link.bytes), bytes(link.queue), seconds(link.round_trip)]), [2, 3, 4, 5]),
    heading(`Ports${node.ports_list.more ? ` (the fullest ${ports.length} of ${ports.length + node.ports_list.more})` : ""}`),
    grid(["port", "runs", "groups", "waiting", "peak"], ports.map(port =>
      [port.name, port.runs || "–", list(port.groups).join(", "), count(port.waiting), count(port.peak)]), [3, 4])];
  const services = list(node.stats.services).filter(each => each && typeof each === "object");
  if (services.length) {
    const took = each => node.durations[each.port] || {};
    const table = (title, heads, cells) => found.push(heading(title),
      grid(["service", ...heads], services.map(each => [String(each.name), ...cells(each)]), [1, 2, 3, 4, 5]));
    table("Services, in the last minute", ["calls/s", "median", "p99", "runs", "waits"], each =>
      [count(node.call_rates[each.port]), seconds(took(each).median), seconds(took(each).p99), count(each.running), count(each.waiting)]);
    table("Calls since they began, streams open now", ["calls", "errors", "refused", "stopped", "open"], each =>
      ["calls", "errors", "refused", "stopped", "open_streams"].map(name => count(each[name])));
  }
  if (deaths.length) {
    found.push(heading("Last abnormal deaths"));
    deaths.forEach(death => {
      const name = `${death.port} ${death.time}`, details = make("details", opened.has(name) ? { open: "" } : {}), summary = make("summary");
      details.dataset.name = name;
      summary.textContent = `${new Date(death.time * 1000).toLocaleTimeString()} ${death.port}: ${list(death.reason).slice(0, 2).join(", ")}`;
      const text = make("pre");
      text.textContent = [...list(death.reason).slice(2), ...list(death.history).map(message => "← " + message)].join("\n") || "no traceback";
      details.append(summary, text);
      found.push(details);
    });
  }
  if (node.lines.length) found.push(heading("Log lines"), grid(["", "", ""], node.lines.slice(-20).reverse().map(line =>
    [new Date(line.time * 1000).toLocaleTimeString(), line.logger, line.text])));
  return found;
}
function heading(text) { const element = make("h3"); element.textContent = text; return element }

// ---- what comes from the server

const source = new EventSource("events");
source.addEventListener("history", event => { points = JSON.parse(event.data).points });
source.addEventListener("snapshot", event => {
  snapshot = JSON.parse(event.data);
  if (snapshot.point) points = [...points, snapshot.point].slice(-600);
  const states = {};
  for (const node of snapshot.nodes) states[node.state] = (states[node.state] || 0) + 1;
  find("counts").textContent = `${snapshot.nodes.length} nodes, ${snapshot.links.length} connections` +
    ["busy", "lost", "left"].filter(state => states[state]).map(state => `, ${states[state]} ${state}`).join("");
  find("counts").classList.remove("off");
  picture(); plots(); families();
  const lines = find("lines");
  lines.prepend(...snapshot.lines.map(logline).reverse());
  while (lines.children.length > 300) lines.lastChild.remove();
  if (selected !== null) detail();
});
source.onerror = () => { find("counts").textContent = "connection lost, trying again …"; find("counts").classList.add("off") };
