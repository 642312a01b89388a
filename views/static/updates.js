// The page of updates: campaigns as they run, releases, devices, and what happened.

import { make } from "./cards.js";
import { age, plural, when } from "./format.js";

const EVERY_MS = 2000;
const DONE = new Set(["UPDATED", "ALREADY_CURRENT"]);
const FAILED = new Set(["FAILED", "ROLLED_BACK", "REJECTED", "CANCELED", "TIMED_OUT"]);
const PARTS = [["done", "have it"], ["busy", "at it"], ["failed", "failed"], ["waiting", "not yet"]];
const TONES = { running: "good", finished: "good", paused: "warn", aborted: "bad" };
const byId = (id) => document.getElementById(id);
const cards = new Map();

const partOf = (state) => (DONE.has(state) ? "done" : FAILED.has(state) ? "failed" : state === "PENDING" ? "waiting" : "busy");
const stateText = (state, code) => state.toLowerCase().replace(/_/g, " ") + (code ? ` (${code})` : "");
const bytes = (count) => (count < 1e6 ? `${Math.ceil(count / 1000)} kB` : `${(count / 1e6).toFixed(1)} MB`);

// Give a table just these rows of texts; what has not changed is left alone.
function fill(body, rows) {
  while (body.rows.length > rows.length) body.deleteRow(-1);
  rows.forEach((row, at) => {
    const line = body.rows[at] ?? body.insertRow();
    row.forEach((text, column) => {
      const cell = line.cells[column] ?? line.insertCell();
      if (cell.textContent !== text) cell.textContent = text;
    });
  });
}

class Campaign {
  constructor(name) {
    this.element = make("article", "panel campaign");
    this.element.dataset.name = name;
    const head = this.element.appendChild(make("header"));
    head.append(make("h2", "", name));
    this.pill = head.appendChild(make("p", "pill"));
    this.pill.append(make("i"));
    this.standing = this.pill.appendChild(make("span"));
    this.line = this.element.appendChild(make("p", "muted"));
    this.why = this.element.appendChild(make("p", "why"));
    this.bar = this.element.appendChild(make("div", "bar"));
    this.bar.setAttribute("role", "img");
    this.key = this.element.appendChild(make("ul", "key"));
    this.parts = new Map(PARTS.map(([part]) => {
      const piece = this.bar.appendChild(make("i"));
      const word = this.key.appendChild(make("li"));
      piece.dataset.part = word.dataset.part = part;
      return [part, { piece, word }];
    }));
    this.groups = this.element.appendChild(make("ol", "groups"));
    const details = this.element.appendChild(make("details"));
    this.summary = details.appendChild(make("summary"));
    const table = details.appendChild(make("div", "scroll")).appendChild(make("table"));
    const row = table.createTHead().insertRow();
    for (const title of ["Site", "Device", "Group", "State", "Chunks"]) row.append(make("th", "", title));
    this.members = table.createTBody();
  }

  show(told) {
    this.standing.textContent = told.standing;
    this.pill.dataset.state = TONES[told.standing] ?? "unknown";
    this.line.textContent = `${plural(told.devices, "device")} · release ${told.release.slice(0, 12)} · begun ${when(Date.parse(told.begun))}`;
    this.why.textContent = told.why;
    this.why.hidden = !told.why;
    const counts = { done: 0, busy: 0, failed: 0, waiting: 0 };
    for (const [state, count] of Object.entries(told.states)) counts[partOf(state)] += count;
    for (const [part, text] of PARTS) {
      const { piece, word } = this.parts.get(part);
      piece.hidden = word.hidden = counts[part] === 0;
      piece.style.flexGrow = String(counts[part]);
      word.textContent = `${counts[part]} ${text}`;
    }
    this.bar.setAttribute("aria-label", PARTS.map(([part, text]) => `${counts[part]} ${text}`).join(", "));
    this.showGroups(told);
    const hidden = told.devices - told.members.length;
    this.summary.textContent = hidden > 0 ? `The first ${told.members.length} devices` : plural(told.devices, "device");
    fill(this.members, told.members.map((one) => [
      one.site, one.device, String(one.group), stateText(one.state, one.code),
      one.chunks ? `${one.chunks_done} of ${one.chunks}` : "",
    ]));
  }

  showGroups(told) {
    while (this.groups.children.length > told.groups.length) this.groups.lastChild.remove();
    told.groups.forEach((group, at) => {
      const line = this.groups.children[at] ?? this.groups.appendChild(make("li"));
      const failed = group.failed ? `, ${group.failed} failed` : "";
      line.textContent = `${group.succeeded} of ${group.size} have it${failed}; ${group.success_pct} % wanted, stops at ${group.error_count || `${group.error_pct} %`} failed`;
      line.classList.toggle("current", at + 1 === told.group && told.standing === "running");
    });
  }
}

function showCampaigns(told) {
  for (const one of told) {
    if (!cards.has(one.name)) {
      cards.set(one.name, new Campaign(one.name));
      byId("campaigns").prepend(cards.get(one.name).element);
    }
    cards.get(one.name).show(one);
  }
  byId("campaigns").setAttribute("aria-busy", "false");
  byId("empty").hidden = told.length > 0;
}

const purpose = (one) => (one.revoked ? "nobody: revoked" : one.rollout === "all" ? "all" : one.rollout === "assigned" ? "assigned devices" : "superseded");

function show(told) {
  showCampaigns(told.campaigns);
  fill(byId("releases"), told.releases.map((one) => [one.site, one.class, one.version, bytes(one.size), purpose(one), one.release.slice(0, 12)]));
  fill(byId("fleet"), told.devices.map((one) => [
    one.site, one.device, one.running_version || "as delivered",
    one.state ? [one.version, stateText(one.state, one.code)].filter(Boolean).join(": ") : "none", one.at ? age(Date.parse(one.at)) : "",
  ]));
  fill(byId("audit"), told.audit.map((one) => [when(Date.parse(one.at)), one.event, one.site, one.device, one.text]));
  for (const name of ["releases", "fleet", "audit"]) byId(`${name}-panel`).hidden = byId(name).rows.length === 0;
  const more = told.devices_total - told.devices.length;
  byId("fleet-more").hidden = more <= 0;
  byId("fleet-more").textContent = `and ${plural(more, "device")} more`;
}

function say(state, text, trouble) {
  const pill = byId("connection");
  pill.dataset.state = state;
  pill.lastElementChild.textContent = text;
  byId("lost").hidden = !trouble;
  byId("lost").textContent = trouble;
}

async function look() {
  try {
    const answer = await fetch("/api/updates", { cache: "no-store", signal: AbortSignal.timeout(10_000) });
    if (!answer.ok) throw new Error(`status ${answer.status}`);
    show(await answer.json());
    say("good", "Live", "");
  } catch (error) {
    say("bad", "Offline", `Nobody answers (${error.message}). What you see is as it was.`);
  }
  setTimeout(look, document.hidden ? 10 * EVERY_MS : EVERY_MS);
}

look();
