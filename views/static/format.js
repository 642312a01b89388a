// Words and numbers for people: names, units, values, times. No DOM here.

const UNITS = {
  Cel: "°C", "%RH": "% RH", "1/min": "rpm", count: "", "kg/kg": "kg/kg",
  mm_hg: "mmHg", "m/s": "m/s", "/": "", "%": "%",
};
const WORDS = { co2: "CO₂", kwh: "kWh", hvac: "HVAC", rh: "RH", ppm: "ppm" };

export const unitOf = (unit) => (unit == null ? "" : (UNITS[unit] ?? unit));

export function titleOf(name) {
  const words = name.replace(/[_-]+/g, " ").split(" ").map((word) => WORDS[word.toLowerCase()] ?? word);
  const text = words.join(" ");
  return text.charAt(0).toUpperCase() + text.slice(1);
}

const plain = (digits) => new Intl.NumberFormat("en", { maximumFractionDigits: digits, useGrouping: true });
const byDigits = [0, 1, 2, 3, 4, 5].map(plain);
const tiny = new Intl.NumberFormat("en", { maximumSignificantDigits: 3 });

// Three or four telling digits: 23.18, 721.3, 1,204, 0.00479.
export function number(value) {
  const size = Math.abs(value);
  if (size !== 0 && size < 0.01) return tiny.format(value);
  return byDigits[size >= 1000 ? 0 : size >= 100 ? 1 : 2].format(value);
}

export function valueText(value) {
  if (typeof value === "boolean") return value ? "yes" : "no";
  return typeof value === "number" ? number(value) : String(value);
}

const clock = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit" });
const day = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short", hour: "2-digit", minute: "2-digit" });
const date = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short", year: "numeric", hour: "2-digit", minute: "2-digit" });

export function when(ms, now = Date.now()) {
  const far = Math.abs(now - ms);
  return (far < 64_800_000 ? clock : far < 15_552_000_000 ? day : date).format(ms);
}

export function age(ms, now = Date.now()) {
  const seconds = Math.round((now - ms) / 1000);
  if (seconds < -5) return when(ms, now);
  if (seconds < 2) return "now";
  if (seconds < 100) return `${seconds} s ago`;
  if (seconds < 5400) return `${Math.round(seconds / 60)} min ago`;
  if (seconds < 64_800) return `${Math.round(seconds / 3600)} h ago`;
  return when(ms, now);
}

export const plural = (count, one, many = `${one}s`) => `${byDigits[0].format(count)} ${count === 1 ? one : many}`;
