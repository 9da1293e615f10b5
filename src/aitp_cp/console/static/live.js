// Live regions: one stream for all tabs of a browser says which topics changed, each visible tab asks for what it shows.
const EVERY_MS = 1000; // between two requests of one region, at least
const JITTER_MS = 300;
const RETRY_MS = 3000; // after a failure
const SILENT_MS = 8000; // four times as long as between two frames
const POLL_MS = 10000; // where there is no stream
const MAX_ROWS = 500;
const RATE_MS = 10000;
const regions = new Map(); // by id: { topics, tag, dirty, busy, asked }
const channel = new BroadcastChannel("acp-bell");
const offset = Number(document.querySelector("[data-asof]")?.dataset.asof || Date.now()) - Date.now();
let polling = 0;
let heard = 0; // when the last frame came
let last = null; // that frame, in the tab that holds the stream
let away = false; // the server is silent, or cannot read its log
let paused = false;
let unseen = 0;
let rung = []; // when events were heard of, and how many

// The only place where text becomes nodes. What it is given comes from our own pages, where every value is escaped.
const policy = globalThis.trustedTypes
  ? trustedTypes.createPolicy("console", { createHTML: (text) => text })
  : { createHTML: (text) => text };
export const parsed = (text) => new DOMParser().parseFromString(policy.createHTML(text), "text/html");

export function follow() {
  for (const element of document.querySelectorAll("[data-live]")) {
    regions.set(element.id, { topics: element.dataset.live.split(" "), tag: "", dirty: false, busy: false, asked: 0 });
  }
  if (!document.getElementById("live")) return;
  channel.onmessage = ({ data }) => {
    if (data !== "hello") ring(data);
    else if (last) channel.postMessage({ ...last, topics: {} });
  };
  channel.postMessage("hello");
  document.addEventListener("visibilitychange", () => document.hidden || refreshAll());
  for (const button of document.querySelectorAll("[data-pause]")) button.addEventListener("click", () => pause(!paused));
  document.addEventListener("click", (event) => event.target.closest?.("[data-show-new]") && pause(false));
  const list = document.querySelector("[data-next] .scroll");
  list?.addEventListener("scrollend", () => list.scrollTop === 0 && !paused && pause(false));
  setInterval(() => {
    if (polling || !heard || Date.now() - heard < SILENT_MS) return;
    away = true;
    old("not connected");
  }, EVERY_MS);
  if (navigator.locks && globalThis.EventSource) lead();
  else poll();
}

// One tab holds the lock and the stream, and tells the others; when it is closed the next one takes over.
function lead() {
  navigator.locks.request("acp-bell", () => new Promise((release) => {
    const source = new EventSource("/console/live");
    let first = true;
    source.onopen = () => { first = true; };
    source.addEventListener("bell", (event) => {
      last = JSON.parse(event.data);
      if (first && heard) last.topics = null; // nobody heard what rang since the last stream
      first = false;
      ring(last);
      channel.postMessage(last);
    });
    source.onerror = () => {
      state("slow", "reconnecting");
      if (source.readyState === EventSource.CLOSED) { // refused: signed out, or no stream is free
        poll();
        setTimeout(() => { release(); lead(); }, 3 * POLL_MS);
      }
    };
  }));
  setTimeout(() => heard || poll(), 2 * EVERY_MS + POLL_MS / 2); // nobody leads, or he hears nothing
}

function poll() {
  if (polling) return;
  polling = setInterval(() => { if (!document.hidden) { state("slow", "every 10 s"); refreshAll(); } }, POLL_MS);
}

// A frame; topics of null mean that anything may have changed.
function ring({ seq, topics, health }) {
  if (!heard && seq > Number(document.getElementById("live").dataset.seq)) topics = null; // newer than the page
  heard = Date.now();
  clearInterval(polling);
  polling = 0;
  const recovered = away && health === "ok";
  away = health !== "ok";
  if (away) old("the database does not answer");
  else if (!document.body.classList.contains("stale")) state("on", "Live");
  if (recovered) {
    old("");
    topics = null;
  }
  if (topics?.events) rung.push([heard, topics.events]);
  if (topics?.events && waits(document.querySelector("[data-next]"))) notice(topics.events);
  for (const [id, region] of regions) {
    if (topics === null || region.topics.some((topic) => topics[topic])) mark(id, region);
  }
}

function state(kind, words) {
  const live = document.getElementById("live");
  live.className = `live ${kind}`;
  live.dataset.words = words;
  live.title = words;
}

function refreshAll() {
  for (const [id, region] of regions) mark(id, region);
}

// A growing list waits while it is paused, and while somebody reads further down.
function waits(element) {
  return Boolean(element?.dataset.next) && (paused || element.querySelector(".scroll")?.scrollTop > 0);
}

// Hidden tabs ask nothing; they remember that they have to.
function mark(id, region) {
  region.dirty = true;
  if (document.hidden || region.busy || waits(document.getElementById(id))) return;
  region.busy = true;
  const wait = Math.max(0, region.asked + EVERY_MS - Date.now()) + Math.random() * JITTER_MS;
  setTimeout(() => ask(id, region), wait);
}

async function ask(id, region) {
  region.dirty = false;
  region.asked = Date.now();
  try {
    const element = document.getElementById(id);
    const headers = { "X-Fragment": id };
    if (region.tag && !element.dataset.next) headers["If-None-Match"] = region.tag;
    const answer = await fetch(element.dataset.next || document.getElementById("live").dataset.path, { headers, cache: "no-store" });
    if (answer.status === 401) { signedOut(id, region); return; }
    region.refused = 0;
    if (answer.status === 200) await put(element, region, answer);
    old(answer.status >= 500 ? "the server cannot answer now" : "");
    if (answer.status < 400) asOf();
    else setTimeout(mark, RETRY_MS, id, region);
  } catch {
    old("not connected");
    setTimeout(mark, RETRY_MS, id, region);
  } finally {
    region.busy = false;
    if (region.dirty) mark(id, region);
  }
}

// What is shown is old: it says so, and no form can be sent from it.
function old(reason) {
  if (reason) state("off", reason);
  else if (document.body.classList.contains("stale")) state(polling ? "slow" : "on", polling ? "every 10 s" : "Live");
  document.body.classList.toggle("stale", reason !== "");
  for (const form of document.querySelectorAll("main form[method=post]")) {
    form.inert = reason !== "";
    form.title = reason;
  }
}

// A session gets a new name when its person proves who he is; what was asked under the old one is refused once.
function signedOut(id, region) {
  region.refused = (region.refused || 0) + 1;
  if (region.refused > 1) location.reload();
  else setTimeout(mark, RETRY_MS, id, region);
}

async function put(element, region, answer) {
  region.tag = answer.headers.get("etag") || "";
  const fresh = parsed(await answer.text()).getElementById(element.id);
  if (!fresh) return;
  if (element.dataset.next && fresh.dataset.next && document.querySelector(`#${element.id} tbody`)) prepend(element, fresh);
  else await morph(element, fresh);
  show(document.getElementById(element.id));
}

async function morph(element, fresh) {
  const { Idiomorph } = await import("./idiomorph.min.js");
  Idiomorph.morph(element, fresh, {
    morphStyle: "outerHTML",
    head: { style: "none" },
    callbacks: {
      beforeAttributeUpdated: (name, node) => !(name === "open" && node.localName === "details"),
      beforeNodeMorphed: (old, next) => { if (old.type === "checkbox") next.checked = old.checked; },
    },
  });
}

// Newer rows come before those that are there, which stay as they are; the oldest leave.
function prepend(element, fresh) {
  const body = element.querySelector("tbody");
  element.dataset.next = fresh.dataset.next;
  const rows = [...fresh.querySelectorAll("tbody > tr")].filter((row) => !document.getElementById(row.id));
  body.prepend(...rows.map((row) => document.adoptNode(row)));
  while (body.children.length > MAX_ROWS) body.lastElementChild.remove();
}

function pause(wanted) {
  paused = wanted;
  unseen = 0;
  for (const button of document.querySelectorAll("[data-pause]")) button.setAttribute("aria-pressed", String(paused));
  notice(0);
  if (paused) return;
  document.querySelector("[data-next] .scroll")?.scrollTo(0, 0);
  refreshAll();
}

function notice(more) {
  unseen += more;
  for (const button of document.querySelectorAll("[data-show-new]")) {
    button.hidden = unseen === 0;
    button.textContent = `▲ ${unseen.toLocaleString("en")} new: show`;
  }
}

function asOf() {
  const shown = document.querySelector("[data-asof]");
  if (shown) shown.textContent = `${new Date(Date.now() + offset).toISOString().slice(11, 19)}Z`;
}

// Times as the reader wants them: how long ago, and in his own zone.
const steps = [[60, 1, "s"], [3600, 60, "min"], [86400, 3600, "h"], [Infinity, 86400, "d"]];

function distance(secs) {
  const size = Math.abs(secs);
  const [, unit, name] = steps.find(([limit]) => size < limit);
  const rest = secs < 0 && name === "min" ? ` ${Math.floor(size % unit)} s` : ""; // of what ends soon
  const text = `${Math.floor(size / unit)} ${name}${rest}`;
  return secs >= 0 ? `${text} ago` : `in ${text}`;
}

function local(moment) {
  const two = (value, width = 2) => String(value).padStart(width, "0");
  const date = `${moment.getFullYear()}-${two(moment.getMonth() + 1)}-${two(moment.getDate())}`;
  const clock = [moment.getHours(), moment.getMinutes(), moment.getSeconds()].map((value) => two(value)).join(":");
  return `${date} ${clock}.${two(moment.getMilliseconds(), 3)}`;
}

export function show(root) {
  const zone = document.documentElement.dataset.zone;
  for (const element of root.querySelectorAll("time[data-time]")) {
    const millis = Number(element.dataset.time);
    let text = null;
    if ("ago" in element.dataset) text = distance((Date.now() - millis) / 1000);
    else if (zone === "local") text = local(new Date(millis));
    if (text !== null && element.textContent !== text) element.textContent = text;
  }
}

// Once a second: what ends within the hour counts down, and the log says how fast it grows. None of it is announced.
export function tick() {
  const now = Date.now();
  for (const element of document.querySelectorAll("time[data-ago]")) {
    const left = Number(element.dataset.time) - now;
    if (left > -1000 && left < 3600e3) element.textContent = distance(-left / 1000);
  }
  rung = rung.filter(([at]) => now - at < RATE_MS);
  const events = rung.reduce((sum, [, count]) => sum + count, 0) * 1000 / RATE_MS;
  for (const element of document.querySelectorAll("[data-rate]")) {
    element.textContent = heard ? `${events.toLocaleString("en", { maximumFractionDigits: events < 10 ? 1 : 0 })}/s` : "";
  }
}
