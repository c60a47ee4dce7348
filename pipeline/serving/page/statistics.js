// Statistics: what the counts of the server say of the last minutes. The server has sums, so latencies are means.
import { lasting, make, table } from "./elements.js";

/** How long samples are kept, and over how long a rate is taken. */
const KEPT_MS = 120000;
const WINDOW_MS = 10000;

/** The samples of one model. */
export class History {
  constructor() {
    this.samples = [];
  }

  /** Take the statistics of a model, as /v2/models/stats has them. */
  add(stats, now) {
    const parts = stats.inference_stats;
    const sample = {
      now,
      success: parts.success.count,
      fail: parts.fail.count,
      ns: parts.success.ns,
      queue: parts.queue.ns,
      compute: parts.compute_infer.ns,
      inside: parts.compute_input.ns + parts.compute_output.ns,
    };
    const last = this.samples.at(-1);
    // Another life of the gateway counts from 0 again.
    if (last && (sample.success < last.success || sample.fail < last.fail)) this.samples = [];
    this.samples.push(sample);
    while (this.samples.length > 2 && this.samples[0].now < now - KEPT_MS) this.samples.shift();
    this.stats = stats;
  }

  /** What happened between the sample before the window and the last one; null: there is only one. */
  recent() {
    const last = this.samples.at(-1);
    const first = this.samples.findLast((sample) => sample.now <= last.now - WINDOW_MS) ?? this.samples[0];
    return first === last ? null : between(first, last);
  }

  /** Since the gateway began. */
  whole() {
    const last = this.samples.at(-1);
    return between({ now: 0, success: 0, fail: 0, ns: 0, queue: 0, compute: 0, inside: 0 }, last);
  }

  /** Requests a second, sample after sample. */
  rates() {
    return this.samples.slice(1).map((sample, at) => between(this.samples[at], sample).rate);
  }
}

function between(first, last) {
  const success = last.success - first.success;
  const fail = last.fail - first.fail;
  const mean = (name) => (success ? (last[name] - first[name]) / success : NaN);
  const seconds = (last.now - first.now) / 1000;
  return {
    success, fail, rate: seconds > 0 ? (success + fail) / seconds : 0,
    ns: mean("ns"), queue: mean("queue"), compute: mean("compute"), inside: mean("inside"),
  };
}

export function rateText(rate) {
  return `${rate >= 100 ? rate.toFixed(0) : rate.toFixed(1)}/s`;
}

/** One line for the list of models. */
export function lineOf(history) {
  const { success, fail } = history.whole();
  const recent = history.recent();
  const parts = [`${success} answered`];
  if (fail) parts.push(`${fail} failed`);
  if (recent?.rate) parts.push(rateText(recent.rate));
  if (recent?.success) parts.push(lasting(recent.ns));
  return parts.join(" · ");
}

/** The elements that show it all. */
export function shownStatistics(history) {
  const whole = history.whole();
  const recent = history.recent();
  const now = recent?.success ? recent : null;
  const figures = [
    ["Answered", String(whole.success)],
    ["Failed", String(whole.fail)],
    ["Requests", recent ? rateText(recent.rate) : "–"],
    [now ? "Mean latency, now" : "Mean latency", lasting((now ?? whole).ns)],
  ];
  const column = (name) => [lasting(now ? now[name] : NaN), lasting(whole[name])];
  const found = [
    make("dl", { class: "figures" }, figures.map(([name, value]) => make("div", {}, make("dt", {}, name), make("dd", {}, value)))),
    spark(history.rates()),
    table(
      ["mean of a request", "last 10 s", "since the start"],
      [
        ["request, in the gateway", ...column("ns")],
        ["of it: in queues", ...column("queue")],
        ["of it: in stages", ...column("compute")],
        ["of it: converting tensors", ...column("inside")],
      ],
    ),
  ];
  const batches = history.stats.batch_stats;
  if (batches.length) {
    found.push(
      table(
        ["batch size", "batches", "mean in stages"],
        batches.map((each) => [each.batch_size, each.compute_infer.count, lasting(each.compute_infer.ns / each.compute_infer.count)]),
        "Batches of the first stage that these requests were in",
      ),
    );
  }
  return found;
}

/** A line of the rates, and the same as text. */
function spark(rates) {
  const SVG = "http://www.w3.org/2000/svg";
  const most = Math.max(...rates, 0);
  const node = (name, attributes) => {
    const made = document.createElementNS(SVG, name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    return made;
  };
  const latest = rates.at(-1) ?? 0;
  const label = `Requests a second in the last two minutes: now ${rateText(latest)}, at most ${rateText(most)}`;
  const svg = node("svg", { class: "spark", viewBox: "0 0 100 40", preserveAspectRatio: "none", role: "img", "aria-label": label });
  const step = 100 / Math.max(1, rates.length - 1);
  const points = rates.map((rate, at) => `${(at * step).toFixed(1)},${(38 - (most ? rate / most : 0) * 36).toFixed(1)}`);
  svg.append(node("polyline", { points: points.join(" ") }));
  return make("figure", {}, svg, make("figcaption", { class: "quiet" }, `last two minutes, at most ${rateText(most)}`));
}
