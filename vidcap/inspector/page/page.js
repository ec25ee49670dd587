// The sheet: filters, pages, the borders between kept and rejected clips, and the keyboard.

const form = document.getElementById("filters");
const sheet = document.getElementById("samples");
const bordersView = document.getElementById("borders");
const status = document.getElementById("status");
const more = document.getElementById("more");
const help = document.getElementById("help");
let current = "samples";
let listed = [];
let total = 0;
let asked = 0;
const nearEnd = new IntersectionObserver((seen) => {
  if (seen.some((found) => found.isIntersecting) && !more.hidden) load(false);
}, { rootMargin: "600px" });

function options(select, pairs) {
  select.replaceChildren(...pairs.map(([value, label]) => make("option", { value }, label)));
}

const ANY = "*";
options(form.language, [[ANY, "Any"], ...data.languages.map(([code, name, count]) => [code, `${code ? name : "none heard"} (${number(count)})`])]);
options(form.license, [[ANY, "Any"], ...data.licenses.map(([name, count]) => [name, `${name || "unknown"} (${number(count)})`])]);
options(form.reason, [[ANY, "Any"], ...data.borders.map((border) => [border.reason, `${border.reason} (${number(border.count)})`])]);
options(form.score, [["primary", "primary"], ...KINDS.filter((kind) => data.highest[kind] > 0).map((kind) => [kind, kind]), ["motion", "motion"]]);
options(form.sort, [["key", "as stored"], ["highest", "highest score"], ["lowest", "lowest score"], ["longest", "longest"], ["shortest", "shortest"]]);
document.getElementById("reason-field").hidden = document.querySelector(".views").hidden = data.borders.length === 0;

function query() {
  const bound = (field) => (field.value.trim() === "" || Number.isNaN(Number(field.value)) ? null : Number(field.value));
  const choice = (field) => (field.value === ANY ? null : field.value);
  return {
    text: form.text.value.trim(), language: choice(form.language), license: choice(form.license), score: form.score.value,
    low: bound(form.low), high: bound(form.high), order: form.sort.value,
  };
}

// A fresh list overtakes whatever is under way; the next page is asked for once at a time.
let loading = null;

function load(fresh) {
  if (!fresh && loading) return loading;
  const mine = fetched(fresh).finally(() => { if (loading === mine) loading = null; });
  loading = mine;
  return mine;
}

async function fetched(fresh) {
  const turn = ++asked;
  const wanted = query();
  let found;
  try {
    found = await source.page(wanted, fresh ? 0 : listed.length);
  } catch (error) {
    status.textContent = `Cannot load: ${error.message}`;
    return;
  }
  if (turn !== asked) return;  // a later question is under way
  total = found.total;
  listed = fresh ? found.entries : [...listed, ...found.entries];
  const cards = found.entries.map((entry) => card(entry, open));
  if (fresh) sheet.replaceChildren(...cards);
  else sheet.append(...cards);
  more.hidden = current !== "samples" || listed.length >= total || found.entries.length === 0;
  nearEnd.unobserve(more);  // it tells of changes only, and the end may still be in sight
  nearEnd.observe(more);
  tell();
}

function tell() {
  const all = data.served ? data.total : data.entries.length;
  if (current === "borders") {
    const counts = Object.entries(data.counts).filter(([, count]) => count).map(([kind, count]) => `${number(count)} ${kind}`);
    status.textContent = `${counts.join(" · ")}. Shown are the clips nearest to each threshold.`;
  } else {
    status.textContent = total === 0 ? "No sample matches." : total === all ? `${plural(total, "sample")}` : `${number(total)} of ${plural(all, "sample")}`;
  }
}

function open(entry) {
  const { entries, at } = around(entry);
  view(entry, at < 0 ? "" : `${number(at + 1)} of ${number(current === "samples" ? total : entries.length)}`);
}

function around(entry) {
  const entries = current === "samples" ? listed : beside;
  return { entries, at: entries.indexOf(entry) };
}

async function step(by) {
  const { entries, at } = around(shown);
  if (current === "samples" && at + by >= listed.length && !more.hidden) await load(false);
  const next = around(shown).entries[Math.min(entries.length, Math.max(0, at + by))];
  if (next && next !== shown) open(next);
}

// Kept and rejected clips beside each other, nearest to the threshold first.
let beside = [];

function measured(border, value) {
  return value === null || value === undefined ? "" : `${shortNumber(value)}${border.unit ? ` ${border.unit}` : ""}`;
}

function column(title, cards, note) {
  return make("div", { class: "column" }, make("h3", {}, title),
    cards.length ? make("div", { class: "grid" }, ...cards) : make("p", { class: "none" }, note));
}

function showBorders() {
  const wanted = { ...query() };
  const reason = form.reason.value;
  beside = [];
  const take = (entry, value) => { beside.push(entry); return card(entry, open, value); };
  const sections = data.borders.filter((border) => reason === ANY || border.reason === reason).map((border) => {
    const out = border.stopped.filter((entry) => matches(entry, wanted));
    const kept = border.kept.map(({ key, value }) => [known.get(key), value]).filter(([entry]) => entry && matches(entry, wanted));
    const line = border.threshold === null ? null
      : make("p", { class: "threshold" }, "threshold ", make("b", {}, `${border.measure} ${measured(border, border.threshold)}`), ` · kept is ${border.keeps} it`);
    const stopped = column(`${border.kind || "stopped"}, ${number(border.count)} in all`, out.map((entry) => take(entry, measured(border, entry.stopped.value))), "None matches the filters.");
    const columns = border.threshold === null ? [stopped]
      : [stopped, column("kept", kept.map(([entry, value]) => take(entry, measured(border, value))), "None matches the filters.")];
    return make("section", { class: "border", "data-reason": border.reason },
      make("div", { class: "border-head" }, make("h2", {}, make("code", {}, border.reason)),
        make("p", { class: "sub" }, ...coded(`${border.meaning}. Mend: ${border.mend}.`)), line),
      make("div", { class: columns.length === 2 ? "columns" : "columns one" }, ...columns));
  });
  bordersView.replaceChildren(...sections);
}

function show(name) {
  current = name;
  sheet.hidden = name !== "samples";
  bordersView.hidden = name !== "borders";
  for (const button of document.querySelectorAll("[data-view]")) button.setAttribute("aria-pressed", String(button.dataset.view === name));
  refresh();
}

function refresh() {
  if (current === "borders") {
    more.hidden = true;
    showBorders();
    tell();
    return Promise.resolve();
  }
  return load(true);
}

// Keyboard.
function cards() {
  return [...document.querySelectorAll(".card .open")].filter((button) => button.offsetParent);
}

function move(by) {
  const all = cards();
  const at = all.indexOf(document.activeElement);
  const next = all[at < 0 ? 0 : Math.min(all.length - 1, Math.max(0, at + by))];
  if (!next) return;
  next.focus();
  next.closest(".card").scrollIntoView({ block: "nearest" });
  if (at + by >= all.length && !more.hidden) load(false);
}

function row(by) {
  const all = cards();
  const here = document.activeElement.getBoundingClientRect();
  const below = (rect) => by * (rect.top - here.top) > 8;
  const far = (rect) => Math.abs(rect.top - here.top) * 10 + Math.abs(rect.left - here.left);
  const rects = all.map((button) => [button, button.getBoundingClientRect()]).filter(([, rect]) => below(rect));
  rects.sort((one, other) => far(one[1]) - far(other[1]));
  if (rects.length) move(all.indexOf(rects[0][0]) - all.indexOf(document.activeElement));
}

function playOrPause() {
  if (video) video[video.paused ? "play" : "pause"]();
}

const KEYS = {
  j: () => (viewer.open ? step(1) : move(1)),
  k: () => (viewer.open ? step(-1) : move(-1)),
  ArrowRight: () => (viewer.open ? step(1) : move(1)),
  ArrowLeft: () => (viewer.open ? step(-1) : move(-1)),
  ArrowDown: () => (viewer.open ? false : cards().includes(document.activeElement) ? row(1) : false),
  ArrowUp: () => (viewer.open ? false : cards().includes(document.activeElement) ? row(-1) : false),
  " ": () => (viewer.open && document.activeElement.tagName !== "BUTTON" ? playOrPause() : false),
  ",": () => (viewer.open && video ? seek(video.currentTime - 1) : false),
  ".": () => (viewer.open && video ? seek(video.currentTime + 1) : false),
  "/": () => { if (viewer.open) viewer.close(); form.text.focus(); form.text.select(); },
  "?": () => (help.open ? help.close() : help.showModal()),
  1: () => (viewer.open ? false : show("samples")),
  2: () => (viewer.open || !data.borders.length ? false : show("borders")),
};

document.addEventListener("keydown", (event) => {
  const typing = event.target.closest("input, select, textarea");
  if (typing && event.key === "Escape") event.target.blur();
  if (typing || event.ctrlKey || event.metaKey || event.altKey || (help.open && event.key !== "?")) return;
  // The player's own keys stay its own.
  if (event.target.tagName === "VIDEO" && event.key.startsWith("Arrow")) return;
  const action = KEYS[event.key];
  if (action && action() !== false) event.preventDefault();
});

let waiting = 0;
form.addEventListener("input", () => {
  clearTimeout(waiting);
  waiting = setTimeout(refresh, data.served ? 200 : 60);
});
form.reason.addEventListener("change", () => { if (form.reason.value !== ANY && current !== "borders") show("borders"); });
form.addEventListener("reset", () => setTimeout(refresh));
form.addEventListener("submit", (event) => event.preventDefault());
const moreFilters = document.getElementById("more-filters");
moreFilters.addEventListener("click", () => moreFilters.setAttribute("aria-expanded", String(form.classList.toggle("all"))));
document.getElementById("help-button").addEventListener("click", () => help.showModal());
more.addEventListener("click", () => load(false));
for (const button of document.querySelectorAll("[data-view]")) button.addEventListener("click", () => show(button.dataset.view));

document.getElementById("summary").textContent = [
  `${plural(data.total, "sample")} in ${plural(data.shards, "shard")}`,
  !data.served && data.entries.length < data.total ? `${number(data.entries.length)} of them here, evenly spaced` : "",
].filter(Boolean).join(" · ");
load(true);
