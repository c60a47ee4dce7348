// One model: what it takes and gives, a form that asks it, and its statistics.
import { byId, freshId, lasting, make, shaped, sized, table } from "./elements.js";
import { inputOf } from "./inputs.js";
import { shown } from "./outputs.js";
import { SAVED, requestOf } from "./request.js";
import { HEADER, addressOf, ask, documentOf, hasToken, pathOf } from "./server.js";
import { shownStatistics } from "./statistics.js";
import { NOT_IN_JSON, ROUNDED, countOf, readResponse } from "./tensors.js";

/** Elements up to which outputs come as JSON, which people can read behind curl. */
const READABLE = 1000;

/** The states that the server says, and how they are shown. */
export function stateOf(entry) {
  if (entry.state === "READY") return { className: "ready", word: "ready" };
  if (entry.state === "LOADING" || entry.state === "UNLOADING") return { className: "changing", word: entry.state.toLowerCase() };
  if (!entry.state || entry.reason === "unloaded") return { className: "unloaded", word: "not loaded" };
  return { className: "not-ready", word: "not ready" };
}

export function chip({ className, word }) {
  return make("span", { class: `state ${className}` }, make("span", { class: "mark", "aria-hidden": "true" }), word);
}

/** What the server says of a model: metadata, config, and the largest extents of its inputs by name. */
export async function described(name) {
  const [metadata, config, openapi] = await Promise.all([
    documentOf(pathOf(name, "").slice(0, -1)),
    documentOf(pathOf(name, "config")),
    documentOf("openapi.json"),
  ]);
  return { metadata, config, most: mostOf(openapi, name) };
}

function mostOf(openapi, name) {
  const operation = openapi.paths[`/v2/models/${encodeURIComponent(name)}/infer`]?.post;
  const named = operation?.requestBody.content["application/json"].schema.$ref?.split("/").at(-1);
  const items = openapi.components.schemas[named]?.properties.inputs.items ?? {};
  const found = {};
  for (const each of items.oneOf ?? [items]) {
    if (each.properties) found[each.properties.name.const] = (each.properties.shape.prefixItems ?? []).map((axis) => axis.maximum ?? axis.const ?? null);
  }
  return found;
}

/** The whole section of a model. `update` shows newer statistics and another state. */
export function modelView(name, { metadata, config, most }) {
  const state = make("span", {});
  const why = make("p", { class: "why", hidden: true });
  const statistics = make("div", { class: "stack" }, make("p", { class: "quiet" }, "…"));
  const element = make(
    "div",
    {},
    make("div", { class: "detail-head" }, make("h2", { id: "detail-name" }, name, make("span", { class: "quiet" }, ` version ${metadata.versions.join(", ")}`)), state),
    why,
    make(
      "div",
      { class: "columns" },
      make("div", { class: "panel" }, make("h3", {}, "Try it"), config.model_transaction_policy?.decoupled ? decoupled() : form(name, metadata, config, most)),
      make(
        "div",
        { class: "stack" },
        make("div", { class: "panel" }, make("h3", {}, "Now"), statistics),
        make("div", { class: "panel" }, make("h3", {}, "Tensors"), tensors(metadata, most), batching(config)),
      ),
    ),
  );
  return {
    element,
    update(entry, history) {
      state.replaceChildren(chip(stateOf(entry)));
      why.textContent = entry.reason ?? "";
      why.hidden = !entry.reason;
      if (history?.samples.length) statistics.replaceChildren(...shownStatistics(history));
    },
  };
}

function decoupled() {
  return make("p", { class: "quiet" }, "This model answers in parts, so it is asked over gRPC (ModelStreamInfer), which a page cannot speak.");
}

function tensors(metadata, most) {
  const row = (direction) => (tensor) => {
    const largest = (most[tensor.name] ?? []).map((extent, axis) => (tensor.shape[axis] === -1 && extent ? extent : null));
    const note = direction === "in" && largest.some(Boolean) ? ` up to ${shaped(largest.map((extent, axis) => extent ?? tensor.shape[axis]))}` : "";
    return [direction, make("code", {}, tensor.name), tensor.datatype, `${shaped(tensor.shape)}${note}`];
  };
  return table(["", "name", "datatype", "shape"], [...metadata.inputs.map(row("in")), ...metadata.outputs.map(row("out"))]);
}

function batching(config) {
  const text = config.max_batch_size
    ? `The first axis is the batch: up to ${config.max_batch_size} rows a request, which go into batches with those of others.`
    : "No batch axis: a request is one item. The pipeline makes its batches itself, of requests of all clients.";
  return make("p", { class: "quiet" }, text);
}

// -- the form -------------------------------------------------------------------------------------

function form(name, metadata, config, most) {
  const batched = config.max_batch_size > 0;
  const inputs = metadata.inputs.map((spec) => inputOf(spec, batched, most[spec.name] ?? spec.shape.map(() => null)));
  const place = make("div", { id: "answer" });
  const said = make("p", { role: "status", class: "hidden-text" });
  const send = make("button", { type: "submit", class: "main" }, "Send");
  const stop = make("button", { type: "button", hidden: true, onclick: () => running?.abort() }, "Stop");
  const id = freshId();
  const binary = make("input", { type: "checkbox", id });
  let running = null;

  async function run() {
    const parts = [];
    for (const input of inputs) parts.push(await input.part());
    const outputs = metadata.outputs.map((output) => output.name);
    const asBytes = binary.checked ? outputs : metadata.outputs.filter(needsBytes).map((output) => output.name);
    const path = pathOf(name, "infer");
    const request = requestOf(addressOf(path), parts, outputs, asBytes, hasToken());
    const begun = performance.now();
    const done = (element) => place.replaceChildren(element, curlLine(request));
    try {
      const response = await ask(path, { method: "POST", headers: request.headers, body: request.body, signal: running.signal });
      const body = await response.arrayBuffer();
      const took = performance.now() - begun;
      const answer = readResponse(body, response.headers.get(HEADER));
      const line = `Answered in ${lasting(took * 1e6)}`;
      const sizes = `${sized(request.body.length)} sent, ${sized(body.byteLength)} received, version ${answer.parsed.model_version}`;
      done(make("div", { class: "answer" }, make("p", {}, make("span", { class: "latency" }, line), make("span", { class: "quiet" }, ` · ${sizes}`)), shown(answer.outputs)));
      said.textContent = line;
    } catch (error) {
      if (error.name === "AbortError") done(make("div", { class: "answer" }, make("p", {}, "Stopped: the pipeline drops the request.")));
      else done(failure(error, lasting((performance.now() - begun) * 1e6)));
    }
  }

  const element = make(
    "form",
    {
      novalidate: true,
      onsubmit: async (event) => {
        event.preventDefault();
        if (running) return;
        running = new AbortController();
        // Not `disabled`, which would take the keyboard's focus away.
        send.setAttribute("aria-disabled", "true");
        stop.hidden = false;
        said.textContent = "";
        try {
          await run();
        } catch (error) {
          // Before anything was sent: a field has not what the request needs.
          place.replaceChildren(make("div", { class: "answer" }, make("p", { class: "trouble", role: "alert" }, error.message)));
        } finally {
          running = null;
          send.removeAttribute("aria-disabled");
          stop.hidden = true;
        }
      },
    },
    inputs.map((input) => input.element),
    make("div", { class: "row" }, send, stop, make("span", { class: "choices" }, make("label", { for: id }, binary, "outputs as bytes, not as JSON"))),
    said,
    place,
  );
  return element;
}

/** Whether an output must not come as JSON: it cannot, it would be rounded, or it is long. */
function needsBytes({ datatype, shape }) {
  if (NOT_IN_JSON.includes(datatype) || ROUNDED.includes(datatype)) return true;
  return datatype !== "BYTES" && (shape.slice(1).includes(-1) || countOf(shape.map(Math.abs)) > READABLE);
}

function failure(error, took) {
  const status = error.status ? `Status ${error.status} after ${took}` : "No answer";
  return make("div", { class: "answer" }, make("p", { class: "trouble", role: "alert" }, make("strong", {}, status), error.message));
}

function curlLine(request) {
  const code = make("pre", { tabindex: "0", "aria-label": "The same request with curl" }, request.curl);
  const copied = make("span", { class: "quiet", role: "status" });
  const copy = async () => {
    try {
      await navigator.clipboard.writeText(request.curl);
      copied.textContent = "copied";
    } catch {
      // Browsers have a clipboard only on localhost and over TLS: then it is selected, for Ctrl+C.
      getSelection().selectAllChildren(code);
      copied.textContent = "selected: copy it with Ctrl+C";
    }
  };
  return make(
    "details",
    { open: true },
    make("summary", {}, "The same with curl"),
    code,
    make(
      "div",
      { class: "row" },
      make("button", { type: "button", onclick: copy }, "Copy"),
      request.saved ? make("button", { type: "button", onclick: () => save(request.body) }, `Save ${SAVED}`) : null,
      copied,
    ),
  );
}

/** Have the browser keep the body as a file. */
function save(body) {
  const link = make("a", { href: URL.createObjectURL(new Blob([body])), download: SAVED });
  byId("detail").append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}
