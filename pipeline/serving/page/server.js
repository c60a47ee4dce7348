// The server: its calls, with the token if there is one. Paths are relative, so that a proxy may add a prefix.

const KEPT = "trtlab-token";
let token = "";
try {
  // Of this tab alone, and only until it is closed.
  token = sessionStorage.getItem(KEPT) ?? "";
} catch {
  // A browser that keeps nothing: then it is asked for again.
}

export const HEADER = "Inference-Header-Content-Length";

/** What the server, or the way to it, has said instead of an answer. */
export class Refused extends Error {
  constructor(message, status) {
    super(message);
    this.status = status;
  }
}

/** Whether there is a token. */
export function hasToken() {
  return token !== "";
}

/** Use this token from now on; empty: none. */
export function useToken(text) {
  token = text;
  try {
    if (text) sessionStorage.setItem(KEPT, text);
    else sessionStorage.removeItem(KEPT);
  } catch {
    // As above.
  }
}

/** The whole address of a path of the server. */
export function addressOf(path) {
  return new URL(path, document.baseURI).href;
}

/** The path of a call of one model. */
export function pathOf(model, call) {
  return `v2/models/${encodeURIComponent(model)}/${call}`;
}

/**
 * The response to a call.
 * Throws Refused if it is not 200, with the server's own words.
 */
export async function ask(path, { method = "GET", headers = {}, body, signal } = {}) {
  const sent = token ? { ...headers, Authorization: `Bearer ${token}` } : headers;
  let response;
  try {
    response = await fetch(addressOf(path), { method, headers: sent, body, signal, cache: "no-cache" });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Refused("The server does not answer.", 0);
  }
  if (response.ok) return response;
  const text = await response.text();
  let said = text.slice(0, 4000);
  try {
    said = JSON.parse(text).error ?? said;
  } catch {
    // Not the gateway's own: what stands before it.
  }
  throw new Refused(String(said) || `status ${response.status} without a message`, response.status);
}

/** The document that a call answers. */
export async function documentOf(path, options) {
  return (await ask(path, options)).json();
}
