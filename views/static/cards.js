// The devices: one card each, grouped by site and place; made once, then only changed where news is.

import { Chart } from "./charts.js";
import { age, titleOf, unitOf, valueText, when } from "./format.js";

const TONES = { hvac: "--hvac", occupancy: "--occupancy", energy: "--energy" };
const SVG = "http://www.w3.org/2000/svg";
const collator = new Intl.Collator("en", { numeric: true });

export function make(tag, className, text) {
  const element = document.createElement(tag);
  if (className) element.className = className;
  if (text !== undefined) element.textContent = text;
  return element;
}

function icon(kind) {
  const known = ["hvac", "occupancy", "energy", "gateway"].includes(kind) ? kind : "other";
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("class", "icon");
  svg.setAttribute("aria-hidden", "true");
  svg.appendChild(document.createElementNS(SVG, "use")).setAttribute("href", `#kind-${known}`);
  return svg;
}

// Keep children sorted by their `sortKey` while they come in any order.
function place(parent, child, key) {
  child.sortKey = key;
  const after = [...parent.children].find((other) => other.sortKey !== undefined && collator.compare(other.sortKey, key) > 0);
  parent.insertBefore(child, after ?? null);
}

class Tile {
  constructor(card, name, point) {
    this.element = make("section", "point");
    const head = this.element.appendChild(make("header"));
    head.append(make("h4", "", titleOf(name)));
    this.age = head.appendChild(make("time", "muted"));
    this.now = this.element.appendChild(make("p", "now"));
    this.value = this.now.appendChild(make("data"));
    this.unit = this.now.appendChild(make("span", "unit"));
    const box = this.element.appendChild(make("div", "chart"));
    this.chart = new Chart(box, { ...card.key, point: name, unit: point.unit, tone: card.tone, range: card.range });
    this.show(point);
  }

  show(point) {
    const text = valueText(point.value);
    if (text !== this.value.textContent) {
      this.value.textContent = text;
      this.now.classList.toggle("long", text.length > 9);
    }
    this.value.value = String(point.value);
    this.unit.textContent = unitOf(point.unit);
    this.time = point.time ? Date.parse(point.time) : null;
    this.age.dateTime = point.time ?? "";
    this.age.title = point.time ?? "the device has no clock yet";
    const skipped = this.last && (point.epoch !== this.last.epoch || point.seq > this.last.seq + 1);
    this.last = point;
    if (this.time !== null) this.chart.add(this.time, point.value, skipped);
    this.grow();
  }

  grow(now) {
    const text = this.time === null ? "time unknown" : age(this.time, now);
    if (text !== this.age.textContent) this.age.textContent = text;
  }
}

class Card {
  constructor(device, range) {
    this.key = { site: device.site, device: device.device };
    this.range = range;
    this.tiles = new Map();
    this.element = make("article", "card");
    this.head = this.element.appendChild(make("header"));
    this.badge = this.head.appendChild(make("span", "badge"));
    const names = this.head.appendChild(make("div", "names"));
    this.name = names.appendChild(make("h3", "", device.device));
    this.about = names.appendChild(make("p", "muted"));
    this.state = this.head.appendChild(make("p", "pill"));
    this.state.append(make("i"), make("span"));
    this.grid = this.element.appendChild(make("div", "points"));
    this.show(device);
  }

  show(device) {
    this.device = { ...device, info: { ...this.device?.info, ...device.info } };
    const { info } = this.device;
    this.tone = TONES[info.kind] ?? "--other";
    if (this.kind !== info.kind || !this.badge.firstChild) this.badge.replaceChildren(icon(info.kind));
    this.kind = info.kind;
    this.badge.dataset.kind = info.kind ?? "other";
    this.about.textContent = [info.label, info.description].filter(Boolean).join(" · ");
    this.online();
    for (const [name, point] of Object.entries(device.points)) {
      const tile = this.tiles.get(name);
      if (tile) tile.show(point);
      else {
        const made = new Tile(this, name, point);
        this.tiles.set(name, made);
        place(this.grid, made.element, name);
      }
    }
    this.element.classList.toggle("wide", this.tiles.size > 3);
  }

  online() {
    const { online, since } = this.device;
    const state = online === null ? "unknown" : online ? "good" : "bad";
    const text = online === null ? "not heard of" : online ? "online" : `offline${since ? ` since ${when(Date.parse(since))}` : ""}`;
    this.state.dataset.state = state;
    if (this.state.lastChild.textContent !== text) this.state.lastChild.textContent = text;
    this.element.classList.toggle("away", online === false);
  }
}

export class Devices {
  constructor(root) {
    this.root = root;
    this.cards = new Map();
    this.groups = new Map();
    this.range = 86_400;
  }

  get count() { return this.cards.size; }
  get online() { return [...this.cards.values()].filter((card) => card.device.online).length; }

  show(device) {
    const key = `${device.site}/${device.device}`;
    let card = this.cards.get(key);
    if (!card) {
      card = new Card(device, this.range);
      this.cards.set(key, card);
    } else card.show(device);
    this.group(card);
  }

  group(card) {
    const { site, device, info } = card.device;
    const where = info.place ?? "";
    if (card.where === where) return;
    card.where = where;
    const key = `${site}/${where}`;
    let group = this.groups.get(key);
    if (!group) {
      group = make("section", "group");
      group.append(make("h2", "", where || (info.kind === "gateway" ? "Gateway" : "Elsewhere")), make("span", "muted site", site));
      group.cards = group.appendChild(make("div", "cards"));
      this.groups.set(key, group);
      place(this.root, group, `${site} ${where ? 0 : 1} ${where}`);
    }
    place(group.cards, card.element, device);
    for (const [name, other] of this.groups) {
      if (!other.cards.children.length) { other.remove(); this.groups.delete(name); }
    }
    this.root.dataset.sites = new Set([...this.cards.values()].map((each) => each.key.site)).size;
  }

  setRange(range) {
    this.range = range;
    this.cards.forEach((card) => { card.range = range; });
  }

  grow() {
    const now = Date.now();
    for (const card of this.cards.values()) {
      card.tiles.forEach((tile) => tile.grow(now));
    }
  }
}
