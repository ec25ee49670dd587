// Where the clips come from: the page itself (a file) or the server that sent it. Both answer the same questions.

const data = JSON.parse(document.getElementById("data").textContent);
const KINDS = ["v", "a", "s", "av", "avs"];
const KIND_NAMES = { v: "Video", a: "Audio", s: "Speech", av: "Video and audio", avs: "Video, audio, speech" };
const MISSING = -1;
const PAGE = 48;

const known = new Map();
for (const entry of [...data.entries, ...data.near]) known.set(entry.key, entry);

function scoreOf(entry, name) {
  const field = name === "motion" ? "motion" : `similarity_${name === "primary" ? entry.primary : name}`;
  const value = entry.scores[field];
  return value === MISSING || value === undefined ? null : value;
}

function textOf(entry) {
  if (entry.haystack === undefined) {
    const speech = entry.transcript;
    const texts = [entry.key, entry.source.uri, ...KINDS.map((k) => entry.captions[k]), speech.text, speech.english];
    entry.haystack = texts.filter(Boolean).join("\n").toLowerCase();
  }
  return entry.haystack;
}

function matches(entry, query) {
  const value = scoreOf(entry, query.score);
  return (
    query.text.toLowerCase().split(/\s+/).every((term) => textOf(entry).includes(term)) &&
    (query.language === null || entry.transcript.language === query.language) &&
    (query.license === null || entry.source.license === query.license) &&
    (query.low === null || (value !== null && value >= query.low)) &&
    (query.high === null || (value !== null && value <= query.high))
  );
}

function ordered(entries, query) {
  if (query.order === "key") return entries;
  const byLength = query.order === "shortest" || query.order === "longest";
  const sign = query.order === "longest" || query.order === "highest" ? -1 : 1;
  const rank = (entry) => {
    const value = byLength ? entry.seconds : scoreOf(entry, query.score);
    return value === null ? Infinity : sign * value;
  };
  const difference = (one, other) => (one === other ? 0 : one < other ? -1 : 1);
  return [...entries].sort((one, other) => difference(rank(one), rank(other)));
}

// A page that carries its samples inside.
const held = {
  async page(query, offset) {
    const found = ordered(data.entries.filter((entry) => matches(entry, query)), query);
    return { total: found.length, entries: found.slice(offset, offset + PAGE) };
  },
  clip(entry) {
    const block = entry.clip === "inside" ? document.getElementById(`clip-${entry.key}`) : null;
    if (block === null) return "";
    if (entry.url === undefined) {
      const bytes = Uint8Array.from(atob(block.textContent), (char) => char.charCodeAt(0));
      entry.url = URL.createObjectURL(new Blob([bytes], { type: "video/mp4" }));
    }
    return entry.url;
  },
};

// A page of `vidcap inspect --serve`.
const served = {
  async page(query, offset) {
    const asked = new URLSearchParams({ offset, limit: PAGE });
    for (const [name, value] of Object.entries(query)) if (value !== null && value !== "") asked.set(name, value);
    // "" is a language and a licence of its own: samples without one.
    for (const name of ["language", "license"]) if (query[name] === "") asked.set(name, "");
    const answer = await fetch(`api/samples?${asked}`);
    if (!answer.ok) throw new Error(`the server answers ${answer.status}`);
    const found = await answer.json();
    for (const entry of found.entries) known.set(entry.key, entry);
    return found;
  },
  clip: (entry) => entry.clip || "",
};

const source = data.served ? served : held;
