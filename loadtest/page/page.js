// Draws the reports of #data into #page: tiles, charts (uPlot) and tables. All text goes through
// textContent, so that nothing in a report is taken for HTML.
(() => {
"use strict";
const data = JSON.parse(document.getElementById("data").textContent);

// --- numbers for people ---

const three = n => Math.abs(n) >= 100 ? n.toFixed(0) : Math.abs(n) >= 10 ? n.toFixed(1) : n.toFixed(2);
const grouped = n => Math.round(n).toString().replace(/\B(?=(\d{3})+$)/g, "\u202f");
const number = n => Math.abs(n) < 100 && !Number.isInteger(n) ? three(n) : grouped(n);
const percent = share => three(share * 100) + " %";
const steps = (n, units, base) => {
  let at = 0;
  while (at + 1 < units.length && Math.abs(n) >= base) { n /= base; at += 1; }
  return (at === 0 ? n.toFixed(0) : three(n)) + " " + units[at];
};
const nanos = n => steps(n, ["ns", "µs", "ms", "s"], 1000);
const bytes = n => steps(n, ["B", "KiB", "MiB", "GiB"], 1024);
const rate = n => number(Math.abs(n) < 100 ? n : Math.round(n)) + "/s";
const compact = n => Math.abs(n) >= 1e6 ? +(n / 1e6).toPrecision(3) + " M" : Math.abs(n) >= 1e3 ? +(n / 1e3).toPrecision(3) + " k"
  : String(+n.toPrecision(3));
const round = (n, units, base) => {
  let at = 0;
  while (at + 1 < units.length && Math.abs(n) >= base) { n /= base; at += 1; }
  return +n.toPrecision(3) + " " + units[at];
};
// A unit: how values read in the legend, and at an axis.
const UNITS = {
  nanos: [nanos, n => round(n, ["ns", "µs", "ms", "s"], 1000)],
  bytes: [bytes, n => n === 0 ? "0" : round(n, ["B", "KiB", "MiB", "GiB"], 1024)],
  rate: [rate, compact],
  count: [number, compact],
  cores: [n => n.toFixed(2), compact],
  seconds: [n => n.toFixed(1) + " s", compact],
  nines: [n => +((1 - 10 ** -n) * 100).toFixed(Math.max(0, Math.ceil(n))) + " %", n => String(+((1 - 10 ** -n) * 100).toFixed(6))],
};

// --- elements ---

const el = (tag, attributes = {}, ...children) => {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children.filter(child => child !== null && child !== undefined));
  return node;
};
const section = (title, ...parts) => {
  const shown = parts.flat().filter(Boolean);
  return shown.length ? el("section", {}, el("h2", {}, title), ...shown) : null;
};
// Rows of cells below a head; a cell that begins with "!" is bad, one with "✓" is good.
const table = (head, rows, words = false) => {
  if (!rows.length) return null;
  const cell = text => {
    const bad = text.startsWith("!");
    const kind = bad ? "bad" : text.startsWith("✓") ? "good" : "";
    return el("td", kind ? { class: kind } : {}, bad ? text.slice(1) : text);
  };
  const body = rows.map(row => el("tr", {}, ...row.map(cell)));
  return el("div", { class: words ? "wide words" : "wide", tabindex: "0" }, el("table", {},
    el("thead", {}, el("tr", {}, ...head.map(text => el("th", { scope: "col" }, text)))), el("tbody", {}, ...body)));
};
const given = list => list.map(({ title, head, rows, words }) => section(title, table(head, rows, words)));
const tile = (name, value, note = "") => el("div", { class: "tile" }, el("span", {}, name), el("b", {}, value), el("small", {}, note));
// In one row, or in two of about the same length.
const tiles = list => el("div", { class: "tiles", style: `--columns: ${list.length <= 8 ? list.length : Math.ceil(list.length / 2)}` }, ...list);
const pairs = list => el("div", { class: "card" }, el("dl", {}, ...list.flatMap(([name, value]) => [el("dt", {}, name), el("dd", {}, value)])));
const list = (texts, kind) => texts.length ? el("ul", { class: "reasons" }, ...texts.map(text => el("li", { class: kind }, text))) : null;
const chip = (text, kind = "") => el("span", { class: "chip " + kind }, text);

// --- charts ---

const pending = [];
const color = name => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

// Fills the stretches of `shades` ([from, to, name]) behind the lines.
const shading = shades => ({
  hooks: {
    drawClear: plot => {
      const { ctx, bbox } = plot;
      ctx.save();
      ctx.beginPath();
      ctx.rect(bbox.left, bbox.top, bbox.width, bbox.height);
      ctx.clip();
      for (const [from, to, name] of shades) {
        const left = plot.valToPos(from, "x", true), right = plot.valToPos(to, "x", true);
        ctx.fillStyle = color("--shade");
        ctx.fillRect(left, bbox.top, right - left, bbox.height);
        ctx.font = 11 * devicePixelRatio + "px system-ui, sans-serif";
        ctx.fillStyle = color("--soft");
        ctx.textBaseline = "top";
        ctx.textAlign = "left";
        if (ctx.measureText(name).width < right - left - 8) ctx.fillText(name, left + 5, bbox.top + 4);
      }
      ctx.restore();
    },
  },
});

// Lines ([name, color, points, style]) on one x: where a line has no point it has none drawn.
const joined = lines => {
  const all = [...new Set(lines.flatMap(line => line.points.map(point => point[0])))].sort((a, b) => a - b);
  const values = lines.map(line => { const at = new Map(line.points); return all.map(x => at.get(x) ?? null); });
  return [all, ...values];
};

const build = ({ box, chart }) => {
  const { lines, x, y, log, shades } = chart;
  const soft = color("--soft"), grid = { stroke: color("--line"), width: 1 }, font = "12px system-ui, -apple-system, sans-serif";
  const axis = unit => ({ stroke: soft, font, grid, ticks: { show: false } });
  const values = joined(lines);
  const series = lines.map(line => ({
    label: line.name,
    stroke: color("--c" + line.color),
    fill: line.area ? color("--c" + line.color) + "22" : undefined,
    width: 2,
    dash: line.dashed ? [5, 5] : undefined,
    spanGaps: true,
    points: { show: values[0].length < 3 },
    value: (_, value) => value === null || value === undefined ? "–" : UNITS[y][0](value),
  }));
  const xAxis = { ...axis(x), values: (_, at) => at.map(UNITS[x][1]), label: chart.label, labelSize: 18, labelFont: font, size: 32 };
  if (x === "nines") {
    const most = Math.max(1, Math.floor(values[0][values[0].length - 1] + 0.01));
    // Labels need some room each.
    const every = plot => Math.ceil((most + 1) * 52 / Math.max(1, plot.width - 90));
    xAxis.splits = plot => Array.from({ length: most + 1 }, (_, at) => at).filter(at => at % every(plot) === 0);
  }
  const yAxis = { ...axis(y), values: (_, at) => at.map(value => value === null ? "" : UNITS[y][1](value)), size: 62 };
  if (y === "bytes") yAxis.incrs = Array.from({ length: 50 }, (_, at) => 2 ** at);
  if (log) {
    yAxis.splits = (_, __, min, max) => {
      const decades = [];
      for (let at = Math.ceil(Math.log10(min) - 1e-9); 10 ** at <= max * 1.0001; at += 1) decades.push(10 ** at);
      return decades.length > 1 ? decades : [...new Set([min, ...decades, max])];
    };
  }
  const range = (_, min, max) => min === null ? [0, 1] : log ? [10 ** Math.floor(Math.log10(Math.max(min, 1))), 10 ** Math.ceil(Math.log10(Math.max(max, 10)))]
    : [0, max > 0 ? max * 1.08 : 1];
  const width = () => Math.max(200, Math.floor(box.clientWidth));
  const plot = new uPlot({
    width: width(), height: chart.full ? 300 : 240,
    plugins: shades ? [shading(shades)] : [],
    cursor: { drag: { x: true, y: false } },
    scales: { x: { time: false }, y: { distr: log ? 3 : 1, range } },
    series: [{ label: chart.reading, value: (_, value) => value === null || value === undefined ? "–" : UNITS[x][0](value) }, ...series],
    axes: [xAxis, yAxis],
  }, values, box);
  const resize = new ResizeObserver(() => { if (plot.width !== width()) plot.setSize({ width: width(), height: plot.height }); });
  resize.observe(box);
  return () => { resize.disconnect(); plot.destroy(); };
};

const line = (name, color, points, style = {}) => ({ name, color, points: points.filter(point => Number.isFinite(point[1])), ...style });
const AREA = { area: true }, DASHED = { dashed: true };

const chart = (title, note, y, lines, more = {}) => {
  const shown = lines.filter(one => one.points.length > 0);
  if (!shown.some(one => one.points.length > 1 || more.always)) return null;
  const box = el("div", {});
  const figure = el("figure", { class: more.full ? "chart full" : "chart" }, el("figcaption", {}, el("b", {}, title), el("span", {}, note)), box);
  const time = { x: "seconds", label: "seconds since the run began", reading: "at" };
  pending.push({ box, chart: { ...time, ...more, y, lines: shown } });
  return figure;
};
const charts = all => { const shown = all.filter(Boolean); return shown.length ? el("div", { class: "charts" }, ...shown) : null; };

const percentiles = (curves, full = true) => {
  // The last point, of the longest, has no nines to stand at: it is drawn one step behind.
  const points = latency => latency.curve.map(([quantile, value]) => [-Math.log10(Math.max(1 - quantile, 1e-9)), value]);
  const lines = curves.filter(([, latency]) => latency.count > 0).map(([name, latency], at) => line(name, at % 6, points(latency)));
  return chart("Latency by percentile", "both axes logarithmic", "nanos", lines,
    { full, log: true, x: "nines", label: "percentile, %", reading: "up to" });
};

// --- parts of a report ---

const curves = report => {
  const all = [];
  for (const flow of report.flows) {
    all.push([flow.name, flow.latency]);
    if (flow.answer) all.push([flow.name + ": HTTP answer", flow.answer]);
  }
  if (report.churn) all.push(["reconnect", report.churn.latency]);
  if (report.heartbeats) all.push(["heartbeat", report.heartbeats.latency]);
  if (!all.length) all.push(["TCP connect", report.connect.connected], ["ready", report.connect.ready_latency]);
  return all;
};
const main = report => report.flows.length ? [report.flows[0].latency, "from intended time"]
  : report.churn ? [report.churn.latency, "to ready again"]
  : report.heartbeats ? [report.heartbeats.latency, "heartbeat"] : [report.connect.ready_latency, "to ready"];
const sum = (all, of) => all.reduce((total, one) => total + of(one), 0);

const SIX = ["p50", "p90", "p99", "p999", "p9999", "max"];
const LATENCY_HEAD = ["", "count", "p50", "p90", "p99", "p99.9", "p99.99", "max"];
const latencyRow = (name, latency) => [name, number(latency.count), ...SIX.map(of => latency.count ? nanos(latency[of]) : "–")];

const head = (title, small, text, chips) => el("header", {},
  el("div", {}, el("h1", {}, title, small ? el("small", {}, small) : null), el("p", {}, text)), el("div", { class: "chips" }, ...chips));

const header = report => {
  const verdict = report.verdict;
  const product = { passed: chip("✓ passed", "good"), failed: chip("✗ failed", "bad"), invalid: chip("measurement invalid", "warn"),
    no_samples: chip("no samples", "warn") }[verdict.judgment] ?? chip(verdict.passed ? "✓ passed" : "✗ failed", verdict.passed ? "good" : "bad");
  const chips = [product, verdict.generator_bound ? chip("▲ generator-bound", "warn") : chip("generator had room")];
  if (data.missed) chips.unshift(chip("✗ " + data.missed, "bad"));
  if (report.interrupted) chips.push(chip("interrupted", "warn"));
  const when = new Date(report.started_at * 1000).toISOString().slice(0, 16).replace("T", " ") + " UTC";
  const text = `${report.protocol} at ${report.target} · measured ${report.measured_seconds.toFixed(1)} s · ${when}`;
  return [head(report.scenario, report.label, text, chips), list(verdict.reasons, "bad"),
    list([...(verdict.invalid ?? []), ...(verdict.unjudged ?? []), ...verdict.generator_reasons], "warn")];
};

const overview = report => {
  const [latency, what] = main(report);
  const all = latency.count ? [tile("p50", nanos(latency.p50), what), tile("p99", nanos(latency.p99), what), tile("p99.9", nanos(latency.p999), what),
    tile("max", nanos(latency.max), "of " + number(latency.count))] : [];
  if (report.flows.length) {
    const open = report.flows.some(flow => flow.offered !== null);
    const least = Math.min(...report.flows.map(flow => flow.ratio));
    all.push(tile("delivered", rate(sum(report.flows, flow => flow.delivered)), open ? percent(least) + " of what was offered" : "closed loop"));
    all.push(tile("lost", number(sum(report.flows, flow => flow.conservation.lost)), "of " + number(sum(report.flows, flow => flow.conservation.owed))));
  }
  all.push(tile("connections", number(report.connect.ready), rate(report.connect.per_second) + " to open"));
  if (report.server) {
    if (report.server.messages > 0) all.push(tile("server CPU", nanos(report.server.cpu_nanos_per_message), "a message"));
    all.push(tile("server memory", bytes(report.server.rss_bytes_per_connection), "RSS a connection"));
  }
  all.push(tile("generator", percent(Math.max(0, ...report.generator.busy)), "busiest worker"));
  return tiles(all);
};

const SECONDS = { label: "seconds since traffic started" };
const bySecond = (seconds, of) => seconds.map(second => [second.second, of(second)]);
const latencyBySecond = (seconds, more) => {
  const some = seconds.filter(second => second.delivered > 0);
  return chart("Latency over time", "each second", "nanos", [line("max", 3, bySecond(some, second => second.max)),
    line("p99", 1, bySecond(some, second => second.p99)), line("p50", 0, bySecond(some, second => second.p50))], { ...SECONDS, log: true, ...more });
};
const deliveries = (seconds, offered, more) => {
  const owed = offered > 0 ? line("offered", 1, bySecond(seconds, () => offered), DASHED) : line("owed", 1, bySecond(seconds, second => second.owed), DASHED);
  return chart("Deliveries", "each second", "rate", [owed, line("delivered", 0, bySecond(seconds, second => second.delivered), AREA)], { ...SECONDS, ...more });
};
const over = (samples, of) => samples.map(sample => [sample.time, of(sample)]);
const processors = (samples, report) => chart("Processors in use", "1.0 is one core", "cores", [
  ...(report.server ? [line("server", 0, over(samples, sample => sample.server_cpu), AREA)] : []),
  line("generator", 1, over(samples, sample => sample.generator_cpu)),
  line("everything else", 3, over(samples, sample => sample.other_cpu), DASHED)]);
const memory = (samples, report) => chart("Resident memory", "both programs", "bytes", [
  ...(report.server ? [line("server", 2, over(samples, sample => sample.server_rss), AREA)] : []),
  line("generator", 1, over(samples, sample => sample.generator_rss))]);
const wakeups = samples => chart("Server's threads", "wake-ups and preemptions a second", "rate", [
  line("wake-ups", 0, over(samples, sample => sample.server_wakeups), AREA), line("preemptions", 3, over(samples, sample => sample.server_preemptions))]);
const comings = samples => {
  const step = samples.slice(1).map((sample, at) =>
    [sample.time, Math.abs(sample.ready - samples[at].ready) / Math.max(0.01, sample.time - samples[at].time)]);
  return chart("Rate", "connections that came or went, between two samples", "rate", [line("connections", 0, step, AREA)]);
};
const slab = samples => {
  const read = samples.filter(sample => sample.slab && Object.keys(sample.slab).length);
  const peak = read.reduce((most, sample) => sum(Object.values(sample.slab), size => size) > most[0] ? [sum(Object.values(sample.slab), size => size), sample.slab]
    : most, [0, {}])[1];
  const names = Object.keys(peak).sort((a, b) => peak[b] - peak[a]).slice(0, 5);
  return chart("Kernel slab", "both sides, by cache", "bytes", names.map((name, at) => line(name, at, over(read, sample => sample.slab[name] ?? 0))));
};
const turns = samples => {
  const read = samples.filter(sample => sample.metrics && "gateway_turn_duration_seconds_sum" in sample.metrics).map(sample =>
    [sample.time, sample.metrics.gateway_turn_duration_seconds_sum, sample.metrics.gateway_turn_duration_seconds_count]);
  const mean = read.slice(1).map((now, at) => [now[0], (now[1] - read[at][1]) * 1e9 / Math.max(1, now[2] - read[at][2])]);
  return chart("Turn of a worker", "mean between two looks at /metrics", "nanos", [line("mean turn", 5, mean, AREA)]);
};

// A run of one stage, over time.
const single = report => {
  const end = report.warmup_seconds + report.measured_seconds;
  const last = report.seconds.length ? report.seconds[report.seconds.length - 1].second + 1 : 0;
  const shades = [[0, report.warmup_seconds, "warm-up"], [end, Math.max(last, end), "settling"]];
  // A second that the end cuts short would look like a collapse.
  const whole = report.seconds.filter(second => second.second + 1 <= end);
  const offered = sum(report.flows, flow => (flow.offered ?? 0) * flow.fan_out);
  return charts([percentiles(curves(report)), deliveries(whole.length > 1 ? whole : report.seconds, offered, { shades }),
    latencyBySecond(report.seconds, { shades }), processors(report.samples, report), memory(report.samples, report)]);
};

// A run of several stages, over time.
const several = report => {
  const { samples, stages } = report;
  const last = samples.length ? samples[samples.length - 1].time : 0;
  const shades = stages.map((stage, at) => [stage.traffic_at, at + 1 < stages.length ? stages[at + 1].traffic_at : last, stage.name])
    .filter((_, at) => at % 2 === 0);
  const connections = chart("Connections", "ready, as the generator sees them", "count",
    [line("connections", 0, over(samples, sample => sample.ready), AREA)], { full: true, shades });
  return charts([connections, processors(samples, report), memory(samples, report), slab(samples), wakeups(samples),
    chart("Memory left", "of the machine", "bytes", [line("MemAvailable", 4, over(samples, sample => sample.memory_available))]), turns(samples)]);
};

const stretch = (report, from, to) => report.samples.filter(sample => sample.time >= from - 0.6 && sample.time <= to + 0.6);

const ramp = report => {
  const { connect, stages } = report;
  return section("Ramp", tiles([tile("connections", number(connect.ready), "of " + number(connect.asked)),
    tile("rate", rate(connect.per_second), "connect and log in"), tile("TCP connect", nanos(connect.connected.p99), "p99"),
    tile("ready", nanos(connect.ready_latency.p99), "p99, log-in included")]),
  charts([comings(stretch(report, 0, stages[0].traffic_at)), percentiles([["TCP connect", connect.connected], ["ready", connect.ready_latency]], false)]));
};

const stageLatency = stage => stage.flows.length ? [stage.flows[0].latency, "delivery, from the intended time"]
  : stage.churn ? [stage.churn.latency, "from the intended close to ready again"]
  : stage.connect ? [stage.connect.ready_latency, "from connect to ready"]
  : stage.departure ? [stage.departure.latency, "from close to its confirmation"]
  : stage.heartbeats ? [stage.heartbeats.latency, "heartbeat to its answer"] : null;
const stageDone = stage => {
  const seconds = Math.max(1e-9, stage.to - stage.from);
  return stage.flows.length ? [sum(stage.flows, flow => flow.delivered * flow.seconds), "deliveries", seconds]
    : stage.churn ? [stage.churn.measured, "reconnects", seconds]
    : stage.connect ? [stage.connect.ready, "connects", Math.max(1e-9, stage.connect.seconds)]
    : stage.departure ? [stage.departure.closed, "closes", Math.max(1e-9, stage.departure.seconds)]
    : [stage.heartbeats ? stage.heartbeats.measured : 0, "heartbeats", seconds];
};

const oneStage = (report, stage) => {
  const [count, what, seconds] = stageDone(stage);
  const all = [tile(what, number(Math.round(count)), rate(count / seconds))];
  const latency = stageLatency(stage);
  if (latency && latency[0].count > 0) {
    all.push(tile("mean", nanos(latency[0].mean), latency[1]));
    for (const [name, of] of [["p50", "p50"], ["p99", "p99"], ["p99.9", "p999"], ["max", "max"]]) all.push(tile(name, nanos(latency[0][of])));
  }
  if (stage.server) {
    const watched = Math.max(1e-9, stage.to - stage.from, stage.departure?.server_seconds ?? 0);
    all.push(tile("server CPU", percent(stage.server.cpu_seconds / watched), "of one core"));
    all.push(tile("server RSS", bytes(stage.server.rss_after), bytes(stage.server.rss_before) + " at its start"));
  }
  if (stage.departure?.server_seconds) all.push(tile("server empty", stage.departure.server_seconds.toFixed(1) + " s", "by its own count"));
  const samples = stretch(report, stage.traffic_at, stage.settled_at);
  const flows = stage.flows.length ? [deliveries(stage.seconds, 0, {}), latencyBySecond(stage.seconds, {})]
    : [stage.kind === "hold" ? wakeups(samples) : comings(samples)];
  const curve = latency ? percentiles([[stage.name, latency[0]]], false) : null;
  const rows = stage.flows.flatMap(flow => [latencyRow("delivery, from the intended time", flow.latency),
    ...(flow.answer ? [latencyRow("HTTP answer", flow.answer)] : []), latencyRow("send lag (generator)", flow.lag)]);
  const name = stage.name.charAt(0).toUpperCase() + stage.name.slice(1);
  return section(name, tiles(all), charts([...flows, processors(samples, report), curve]), table(LATENCY_HEAD, rows));
};

const traffic = report => table(["flow", "pace", "payload", "offered/s", "sent/s", "fan-out", "delivered/s", "achieved"],
  report.flows.map(flow => [flow.name, flow.pace, bytes(flow.payload_size), flow.offered === null ? "–" : number(flow.offered), number(flow.sent),
    number(flow.fan_out), number(flow.delivered), percent(flow.ratio)]));
const latencies = report => table(LATENCY_HEAD, [...curves(report).map(([name, latency]) => latencyRow(name, latency)),
  ...report.flows.filter(flow => flow.offered !== null).map(flow => latencyRow(flow.name + ": send lag (generator)", flow.lag))]);

const FAULTS = [["lost", "lost"], ["duplicated", "twice"], ["reordered", "disordered"], ["misdelivered", "misdelivered"], ["damaged", "damaged"]];
const bad = count => count ? "!" + number(count) : "0";
const conservation = report => {
  const rows = report.flows.map(({ name, conservation: c }) => [name, ...[c.operations, c.not_sent, c.refused, c.owed, c.delivered].map(number),
    ...FAULTS.map(([key]) => bad(c[key])), ...(c.answers ? [bad(c.answers.unanswered), bad(c.answers.duplicated)] : ["–", "–"])]);
  return [table(["flow", "sent", "not sent", "refused", "owed", "delivered", ...FAULTS.map(([, name]) => name), "unanswered", "answered twice"], rows),
    table(["violation", "count"], Object.entries(report.violations).map(([what, count]) => [what, bad(count)])),
    report.examples.length ? el("pre", {}, report.examples.join("\n")) : null];
};
const connections = report => {
  const { connect } = report;
  const counts = (what, all) => Object.entries(all).map(([why, count]) => [what + why, number(count)]);
  const rows = [...counts("attempt failed: ", connect.failures), ...counts("closed while ready: ", connect.lost), ...counts("notice: ", report.notices)];
  const slow = report.slow_readers;
  if (slow) rows.push(["slow readers closed by the server", `${slow.closed_by_server} of ${slow.connections}`]);
  return [table(LATENCY_HEAD, [latencyRow("TCP connect", connect.connected), latencyRow("ready (after auth)", connect.ready_latency)]),
    table(["event", "count"], rows)];
};
const run = report => {
  const { generator, server } = report;
  const facts = [...Object.entries(report.machine), ["generator",
    `${generator.backend} × ${generator.workers} worker(s), busiest ${percent(Math.max(0, ...generator.busy))}, RSS ${bytes(generator.rss_bytes)}`]];
  if (server) {
    facts.push(["server", `${server.command} (pid ${server.pids.join(", ")})`]);
    facts.push(["server CPU", `${server.user_seconds.toFixed(2)} s user, ${server.system_seconds.toFixed(2)} s system while measured; `
      + `${server.starved_seconds.toFixed(2)} s waiting for a processor`]);
    facts.push(["server RSS", `${bytes(server.rss_before)} before, ${bytes(server.rss_connected)} connected, ${bytes(server.rss_after)} after`]);
  }
  const metrics = Object.entries(report.metrics).map(([name, [before, after]]) => [name, number(before), number(after), number(after - before)]);
  return [el("pre", {}, report.command), pairs(facts), metrics.length ? el("details", {}, el("summary", {},
    `Server metrics, before and after (${metrics.length})`), table(["metric", "before", "after", "change"], metrics)) : null];
};

const oneReport = report => [header(report), overview(report), ...given(data.before),
  section("Over time", report.stages.length ? several(report) : single(report)),
  section("Goals", table(["goal", "found", ""], report.goals.map(goal => [goal.goal, goal.found, goal.met ? "✓ met" : "!✗ missed"]))),
  ...(report.stages.length ? [ramp(report), ...report.stages.map(stage => oneStage(report, stage))]
    : [section("Traffic", traffic(report)), section("Latency from the intended time", latencies(report))]),
  section("Conservation", ...conservation(report)), section("Connections", ...connections(report)), ...given(data.after),
  section("Notes", list(data.notes, "note")), section("Run", ...run(report))];

const comparison = reports => {
  const bound = reports.filter(one => one.report.verdict.generator_bound).map(one =>
    one.name + ": generator-bound, so its rates are lower bounds and its latencies upper bounds");
  return [head("Comparison", reports.map(one => one.name).join(" · "), reports[0].report.scenario, []), list([...data.notes, ...bound], "warn"),
    ...given(data.before), section("Latency", charts([percentiles(reports.map(one => [one.name, main(one.report)[0]]))])), ...given(data.after)];
};

const page = document.getElementById("page");
const parts = data.reports.length === 1 ? oneReport(data.reports[0].report) : comparison(data.reports);
const version = data.reports[0].report.version;
page.replaceChildren(...parts.flat().filter(Boolean), el("footer", {}, `loadtest ${version} · latency counts from the intended time of each `
  + "operation, not from the moment it could be sent · drag over a chart to zoom, double-click to see all · charts: uPlot 1.6.32, MIT"));
let ends = pending.map(build);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
  ends.forEach(end => end());
  ends = pending.map(build);
});
})();
