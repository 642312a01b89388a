// The page: follow the feed, keep the cards, say how the connection and the system are.

import { Devices, make } from "./cards.js";
import { rangeAll, tickAll } from "./charts.js";
import { age, plural, when } from "./format.js";

const SILENCE_MS = 12_000; // the feed says something every 2 s
const RETRY_MS = 2000;
const BOOKS_SHOWN = 200;

const $ = (id) => document.getElementById(id);
const devices = new Devices($("devices"));
let source, heardAt = 0, lostAt = 0, retryTimer;

function follow() {
  clearTimeout(retryTimer);
  source?.close();
  source = new EventSource("/feed");
  source.addEventListener("change", (event) => heard(() => JSON.parse(event.data).devices.forEach((each) => devices.show(each))));
  source.addEventListener("status", (event) => heard(() => showStatus(JSON.parse(event.data))));
  source.addEventListener("error", lost);
}

function heard(act) {
  const first = !heardAt;
  heardAt = Date.now();
  act();
  if (lostAt || first) {
    lostAt = 0;
    connection("good", "Live");
    $("lost").hidden = true;
    document.body.classList.remove("stale");
    $("loading")?.remove();
    $("devices").removeAttribute("aria-busy");
  }
  $("empty").hidden = devices.count > 0;
}

function lost() {
  if (!lostAt) lostAt = Date.now();
  connection("bad", "Reconnecting…");
  if (heardAt) {
    $("lost").textContent = `No connection to ${location.host} since ${when(heardAt)}. What is shown is as of then; trying again every ${RETRY_MS / 1000} s.`;
    $("lost").hidden = false;
    document.body.classList.add("stale");
  }
  source?.close();
  clearTimeout(retryTimer);
  retryTimer = setTimeout(follow, RETRY_MS);
}

function connection(state, text) {
  const pill = $("connection");
  pill.dataset.state = state;
  if (pill.lastElementChild.textContent !== text) pill.lastElementChild.textContent = text;
}

const LINK = { live: ["good", "Live"], "catching-up": ["warn", "Catching up"], offline: ["bad", "Offline"] };

function showStatus(status) {
  const tiles = [];
  if (devices.count) tiles.push(["Devices online", `${devices.online} of ${devices.count}`, devices.online === devices.count ? "good" : "warn"]);
  if (Array.isArray(status.gateways)) {
    const online = status.gateways.filter((gateway) => gateway.online).length;
    tiles.push(["Gateways connected", `${online} of ${status.gateways.length}`, online === status.gateways.length ? "good" : "bad"]);
  }
  const link = typeof status.link === "string" ? { state: status.link } : status.link;
  if (link?.state) {
    const [state, word] = LINK[String(link.state).replace(/[ _]/g, "-")] ?? ["unknown", String(link.state)];
    const since = link.since ? ` since ${when(Date.parse(link.since))}` : "";
    tiles.push(["Link to the cloud", word + since, state]);
  }
  if (typeof status.queued === "number") {
    const depth = status.queued;
    tiles.push(["Waiting to be sent", depth ? plural(depth, "reading") : "nothing", depth > 1000 ? "warn" : "good"]);
  }
  if (status.ledger) tiles.push(...ledgerTiles(status.ledger));
  $("whoami").textContent = ["Plantroom", status.identity?.spiffe_id].filter(Boolean).join(" · ");
  drawTiles(tiles);
}

function ledgerTiles({ books, stored, holes, quarantined }) {
  $("ledger").hidden = !books;
  const line = holes ? `${plural(holes, "reading")} outstanding` : "complete";
  $("ledger-line").textContent = `${plural(books, "book")} · ${line}`;
  const tiles = [["Readings kept", plural(stored, "reading").replace(/ readings?$/, ""), "good"]];
  tiles.push(["Ledger", holes ? `${plural(holes, "reading").replace(/ readings?$/, "")} outstanding` : "complete", holes ? "warn" : "good"]);
  if (quarantined) tiles.push(["Quarantined", plural(quarantined, "reading"), "warn"]);
  return tiles;
}

function drawTiles(tiles) {
  const root = $("tiles");
  while (root.children.length > tiles.length) root.lastElementChild.remove();
  tiles.forEach(([name, text, state], at) => {
    let tile = root.children[at];
    if (!tile) {
      tile = root.appendChild(make("div", "tile"));
      tile.append(make("dt"), make("dd"));
    }
    tile.dataset.state = state;
    if (tile.firstChild.textContent !== name) tile.firstChild.textContent = name;
    if (tile.lastChild.textContent !== text) tile.lastChild.textContent = text;
  });
}

async function showBooks() {
  if (!$("ledger").open) return;
  const answer = await fetch("/api/status").catch(() => null);
  if (!answer?.ok) return;
  const { books = [] } = await answer.json();
  const missing = (book) => (book.holes ?? []).reduce((sum, [first, last]) => sum + last - first + 1, 0);
  const sorted = books.sort((a, b) => missing(b) - missing(a) || String(a.device).localeCompare(b.device) || b.epoch - a.epoch);
  $("books").replaceChildren(...sorted.slice(0, BOOKS_SHOWN).map((book) => {
    const row = make("tr");
    const holes = (book.holes ?? []).slice(0, 3).map(([first, last]) => (first === last ? first : `${first}–${last}`));
    const more = (book.holes ?? []).length > 3 ? ` and ${book.holes.length - 3} more` : "";
    const cells = [book.device, book.epoch, book.first, book.last, book.count, holes.join(", ") + more || "none", book.quarantined ?? 0];
    cells.forEach((cell, at) => {
      const element = make(at ? "td" : "th", at > 1 && at !== 5 ? "figure" : "", String(cell ?? "–"));
      if (!at) element.scope = "row";
      row.append(element);
    });
    row.className = holes.length ? "open" : "";
    return row;
  }));
  $("books-more").hidden = sorted.length <= BOOKS_SHOWN;
  $("books-more").textContent = `${sorted.length - BOOKS_SHOWN} more in /api/status`;
}

$("ranges").addEventListener("change", (event) => {
  const range = Number(event.target.value);
  devices.setRange(range);
  rangeAll(range);
});
$("ledger").addEventListener("toggle", showBooks);
setInterval(showBooks, 10_000);
setInterval(() => {
  devices.grow();
  tickAll();
  const silent = heardAt && Date.now() - heardAt;
  if (silent > SILENCE_MS && !lostAt) lost();
  if (lostAt && heardAt) connection("bad", `No connection, last ${age(heardAt)}`);
}, 1000);
document.addEventListener("visibilitychange", () => { if (!document.hidden) tickAll(); });
follow();
