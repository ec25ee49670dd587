// Small parts of the page. Every text goes in as text: no string is ever read as markup.

function make(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === false || value === null || value === undefined) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (name === "class") node.className = value;
    else node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.filter((child) => child !== null && child !== undefined && child !== ""));
  return node;
}

// `code` in a sentence of ours.
const coded = (text) => text.split("`").map((part, at) => (at % 2 ? make("code", {}, part) : part));

const clock = (seconds) => {
  const tenths = Math.round(seconds * 10);
  const minutes = Math.floor(tenths / 600);
  return `${minutes}:${((tenths - 600 * minutes) / 10).toFixed(1).padStart(4, "0")}`;
};
const seconds = (value) => `${value.toFixed(value < 10 ? 1 : 0)} s`;
const number = (value) => value.toLocaleString("en");
const plural = (count, word) => `${number(count)} ${word}${count === 1 ? "" : "s"}`;
const shortNumber = (value) => (Math.abs(value) < 10 ? String(Math.round(value * 1e4) / 1e4) : value.toFixed(1));
const fileName = (uri) => uri.split(/[\\/]/).pop() || uri;
const languageName = (code) => (data.languages.find(([known]) => known === code) || [code, code])[1] || code;

// A bar is full at the next round number above the highest score of its kind.
function scaleOf(kind) {
  const highest = data.highest[kind] || 0;
  if (kind === "motion") return Math.max(1, highest);
  return [0.25, 0.5, 1].find((top) => highest <= top) || 1;
}

function bar(kind, value, label) {
  const fill = make("i");
  fill.style.width = `${Math.max(0, Math.min(1, value / scaleOf(kind))) * 100}%`;
  return make(
    "div", { class: `bar kind-${kind}`, title: `${KIND_NAMES[kind] || "Motion"}: ${shortNumber(value)}` },
    make("span", { class: "bar-label" }, label || kind),
    make("span", { class: "bar-track", "aria-hidden": "true" }, fill),
    make("span", { class: "bar-value" }, kind === "motion" ? value.toFixed(1) : value.toFixed(2)),
  );
}

function bars(entry) {
  const found = KINDS.filter((kind) => scoreOf(entry, kind) !== null);
  return make("div", { class: "bars" }, ...found.map((kind) => bar(kind, scoreOf(entry, kind))));
}

function tag(text, kind = "", title = null) {
  return make("span", { class: `tag ${kind}`, title }, text);
}

function tags(entry) {
  const found = [];
  if (entry.transcript.language) {
    const sure = entry.transcript.trusted === false ? "recognised speech, not trusted" : "language of the speech";
    found.push(tag(languageName(entry.transcript.language), entry.transcript.trusted === false ? "unsure" : "language", sure));
  }
  if (entry.audio && !entry.audio.present) found.push(tag("no sound", "plain"));
  else if (entry.audio && entry.audio.silent) found.push(tag("silent", "plain"));
  if (entry.source.license) found.push(tag(entry.source.license, "license", "licence"));
  return make("div", { class: "tags" }, ...found);
}

function picture(entry, at, className) {
  const shown = entry.pictures[at];
  if (!shown) return make("span", { class: `${className} blank`, "aria-hidden": "true" });
  const image = make("img", { class: className, src: shown.src, alt: "", loading: "lazy", decoding: "async" });
  image.addEventListener("error", () => image.replaceWith(make("span", { class: `${className} blank` }, className === "poster" ? noPicture(entry) : "")));
  return image;
}

const noPicture = (entry) => (entry.stopped ? "neither evidence nor source is there" : "no picture could be decoded");

function poster(entry) {
  if (entry.pictures.length) return picture(entry, Math.floor(entry.pictures.length / 2), "poster");
  return make("span", { class: "poster blank" }, noPicture(entry));
}

function strip(entry) {
  return make("div", { class: "strip", "aria-hidden": "true" }, ...entry.pictures.map((_, at) => picture(entry, at, "frame")));
}

// A card of the sheet. `value` is what was held against a threshold.
function card(entry, open, value = "") {
  const caption = entry.captions[entry.primary] || "";
  const name = `${fileName(entry.source.uri)}, ${clock(entry.span.start)}`;
  const playable = data.served ? Boolean(entry.clip) : entry.clip === "inside";
  return make(
    "article", { class: entry.stopped ? "card stopped" : "card" },
    make(
      "button", { type: "button", class: "open", "data-key": entry.key, "aria-label": `Open ${name}. ${caption}`, onclick: () => open(entry) },
      make(
        "span", { class: "screen" }, poster(entry),
        make("span", { class: "badge" }, `${playable ? "▶ " : ""}${seconds(entry.seconds)}`),
        value ? make("span", { class: entry.stopped ? "badge value out" : "badge value in" }, value) : null,
      ),
      strip(entry),
    ),
    make("div", { class: "about" }, make("p", { class: caption ? "caption" : "caption none" }, caption || "no caption yet"),
      bars(entry), tags(entry), make("p", { class: "origin", title: entry.source.uri }, name)),
  );
}
