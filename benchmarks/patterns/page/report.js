"use strict";
// Draws the charts of the page from its data. Each figure says which workload
// and which chart it is for; a chart that cannot be drawn says so in its place.
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const width = 1140, names = data.reports;
  const colours = ["#0969da", "#bc4c00", "#1a7f37", "#8250df", "#bf3989", "#57606a"];
  const seconds = ns => ns / 1e9;
  const timeText = s => s >= 1 ? +s.toPrecision(3) + " s" : s >= 1e-3 ? +(s * 1e3).toPrecision(3) + " ms" : s >= 1e-6 ? +(s * 1e6).toPrecision(3) + " µs" : Math.round(s * 1e9) + " ns";
  const short = d3.format("~s");
  const panels = rows => ({ domain: names.filter(n => rows.some(r => r.report === n)), label: null });
  const decades = values => { // a logarithmic axis of times from one power of ten to another
    const [lo, hi] = d3.extent(values.filter(v => v > 0)).map(Math.log10);
    const from = Math.floor(lo), to = Math.max(Math.ceil(hi), from + 1);
    return { type: "log", domain: [10 ** from, 10 ** to], ticks: d3.range(from, to + 1).map(e => 10 ** e), tickFormat: timeText };
  };
  const whole = rows => { // marks at whole seconds
    const last = d3.max(rows, r => r.second) || 0;
    return d3.range(0, last + 1, Math.ceil((last + 1) / (24 / names.length)));
  };
  const perSecond = (w, f) => w.runs.flatMap(run => run.perSecond.flatMap(s => f(s).map(r => ({ report: run.report, second: s.second, ...r }))));
  const lines = (rows, y, series, more) => Plot.plot({
    width, height: 260, marginLeft: 60, fx: panels(rows), marginTop: 34, x: { label: "second", ticks: whole(rows), tickFormat: "d" },
    color: { legend: true, domain: series, range: colours }, ...more,
    marks: [Plot.frame({ stroke: "#d1d9e0" }), Plot.gridY({ stroke: "#d1d9e0" }),
      Plot.lineY(rows, { x: "second", y, stroke: "series", fx: "report", strokeWidth: 2 }),
      Plot.dot(rows, { x: "second", y, fill: "series", fx: "report", r: 2, tip: true, title: r => `${r.series}, second ${r.second}: ${r.text}` })],
  });
  const latency = which => w => {
    const rows = perSecond(w, s => ["P50", "P99", "Max"].filter(p => s[which + p] > 0)
      .map(p => ({ series: p.toLowerCase(), value: seconds(s[which + p]), text: timeText(seconds(s[which + p])) })));
    return lines(rows, "value", ["p50", "p99", "max"], { y: { label: "latency", ...decades(rows.map(r => r.value)) } });
  };
  const charts = {
    ack: latency("ack"),
    delivery: latency("delivery"),
    throughput(w) {
      const series = ["put", "delivered", "throttled"].filter(n => n === "put" || w.runs.some(r => r[n] > 0));
      const rows = perSecond(w, s => [["put", s.records], ["delivered", s.delivered], ["throttled", s.throttled]]
        .filter(([n]) => series.includes(n)).map(([series, value]) => ({ series, value, text: short(value) })));
      return lines(rows, "value", series, { y: { label: "records", zero: true, tickFormat: short } });
    },
    histogram(w) {
      const rows = w.runs.flatMap(run => ["ack", "delivery"].flatMap(kind => (run[kind].buckets || []).map(b => ({
        report: run.report, kind: kind === "ack" ? "put to ack" : "put to delivery",
        from: seconds(Math.max(b.from, 100)), to: seconds(b.to), share: b.count / run[kind].count, count: b.count }))));
      return Plot.plot({
        width, height: 260, marginLeft: 60, fx: panels(rows),
        marginTop: 34, x: { label: "latency", ...decades(rows.flatMap(r => [r.from, r.to])) },
        y: { label: "% of records", percent: true }, color: { legend: true, domain: ["put to ack", "put to delivery"], range: colours },
        marks: [Plot.frame({ stroke: "#d1d9e0" }), Plot.ruleY([0]),
          Plot.rectY(rows, { x1: "from", x2: "to", y2: "share", y1: 0, fill: "kind", fillOpacity: 0.6, fx: "report", inset: 0.3, tip: true,
            title: r => `${r.kind}: ${r.count} records from ${timeText(r.from)} to ${timeText(r.to)}` })],
      });
    },
    shards(w) {
      const rows = w.runs.flatMap(run => run.perSecond.flatMap(s => s.storedRecords.map((n, i) => ({ report: run.report, second: s.second, shard: run.shards[i].id.replace(/^shardId-0*(?=\d)/, ""), value: n, bytes: s.storedBytes[i] }))));
      const count = new Set(rows.map(r => r.shard)).size;
      return Plot.plot({
        width, height: 70 + Math.max(60, Math.min(count * 22, 640)), marginLeft: 60, fx: panels(rows), padding: 0,
        x: { type: "band", label: "second", ticks: whole(rows), tickFormat: v => whole(rows).includes(v) ? String(v) : "" },
        y: { type: "band", label: "shard", tickFormat: v => count <= 32 || v % Math.ceil(count / 32) === 0 ? v : "" },
        color: { legend: true, scheme: "YlGnBu", label: "stored records a second", zero: true },
        marks: [Plot.cell(rows, { x: "second", y: "shard", fill: "value", fx: "report", inset: count > 64 ? 0 : 0.5, tip: true,
          title: r => `shard ${r.shard}, second ${r.second}: ${r.value} records, ${short(r.bytes)}B` })],
      });
    },
    keys(w) {
      const rows = w.runs.flatMap(run => run.keys.slice(0, 10).map(k => ({ report: run.report, ...k })));
      return Plot.plot({
        width, height: 60 + 22 * new Set(rows.map(r => r.key)).size, marginLeft: 150, fx: panels(rows),
        x: { label: "% of records", percent: true, grid: true }, y: { label: null },
        marks: [Plot.barX(rows, { x: "share", y: "key", fill: colours[0], fx: "report", sort: { y: "-x" }, tip: true, title: r => `${r.key}: ${r.records} records, ${(r.share * 100).toFixed(2)} %` }), Plot.ruleX([0])],
      });
    },
    sizes(w) {
      const rows = w.runs.flatMap(run => run.sizes.map(s => ({ report: run.report, from: s.upTo / 2, to: s.upTo, share: s.records / d3.sum(run.sizes, x => x.records), records: s.records })));
      return Plot.plot({
        width, height: 200, marginLeft: 60, marginTop: 34, fx: panels(rows), x: { type: "log", base: 2, label: "bytes of data", tickFormat: v => v >= 1024 ? v / 1024 + "Ki" : String(v) },
        y: { label: "% of records", percent: true, zero: true },
        marks: [Plot.rectY(rows, { x1: "from", x2: "to", y2: "share", y1: 0, fill: colours[2], fx: "report", inset: 0.5, tip: true, title: r => `${r.records} records up to ${r.to} B` }), Plot.ruleY([0])],
      });
    },
  };
  for (const figure of document.querySelectorAll("figure.chart")) {
    try {
      figure.append(charts[figure.dataset.chart](data.workloads[+figure.dataset.workload]));
    } catch (e) {
      figure.dataset.failed = String(e);
      figure.append("This chart could not be drawn: " + e);
    }
  }
  document.documentElement.dataset.drawn = document.querySelectorAll("figure.chart svg").length;
})();
