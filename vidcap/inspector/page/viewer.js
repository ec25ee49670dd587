// One clip: player, transcript, captions side by side, scores, and where it all comes from.

const viewer = document.getElementById("viewer");
let video = null;
let shown = null;

function view(entry, position) {
  shown = entry;
  if (video) video.pause();
  video = null;
  viewer.setAttribute("aria-label", `Clip ${entry.key}`);
  viewer.replaceChildren(
    head(entry, position),
    make("div", { class: "body" },
      make("div", { class: "stage" }, player(entry), frames(entry)),
      make("div", { class: "side" }, entry.stopped ? verdict(entry) : null, transcript(entry), scores(entry))),
    captions(entry),
    provenance(entry),
  );
  if (!viewer.open) viewer.showModal();
  viewer.focus();  // not the first button: Space is to play
  viewer.scrollTop = 0;
}

function head(entry, position) {
  const where = `${clock(entry.span.start)}–${clock(entry.span.end)}`;
  return make(
    "header", { class: "viewer-head" },
    make("div", {}, make("h2", {}, fileName(entry.source.uri)),
      make("p", { class: "sub" }, `${where} · ${seconds(entry.seconds)}`, entry.video ? ` · ${entry.video.width}×${entry.video.height}` : "",
        position ? ` · ${position}` : "")),
    tags(entry),
    make("div", { class: "steps" },
      make("button", { type: "button", class: "quiet", "aria-label": "Previous clip", onclick: () => step(-1) }, "←"),
      make("button", { type: "button", class: "quiet", "aria-label": "Next clip", onclick: () => step(1) }, "→"),
      make("button", { type: "button", class: "quiet", "aria-label": "Close", onclick: () => viewer.close() }, "✕")),
  );
}

function player(entry) {
  const url = entry.stopped ? "" : source.clip(entry);
  const middle = entry.pictures[Math.floor(entry.pictures.length / 2)];
  if (!url) {
    const why = entry.stopped ? "Not packed: there is no clip of it." : "The clip is not in this file: its budget for clips was spent.";
    return make("figure", { class: "screen still" }, poster(entry), make("figcaption", {}, why));
  }
  const failed = make("p", { class: "failed", hidden: true }, "This browser cannot play the clip. Its pictures are below.");
  video = make("video", {
    src: url, poster: middle ? middle.src : null, controls: true, playsinline: true, preload: "metadata", loop: true,
    onerror: () => { failed.hidden = false; },
    ontimeupdate: follow,
  });
  return make("div", { class: "screen" }, video, failed);
}

function seek(time) {
  if (!video) return;
  video.currentTime = Math.max(0, time);
  follow();
}

function frames(entry) {
  return make("div", { class: "frames" }, ...entry.pictures.map((found, at) => make(
    "button", { type: "button", disabled: !video, "aria-label": `Go to ${clock(found.time)}`, onclick: () => seek(found.time) },
    picture(entry, at, "frame"), make("span", {}, clock(found.time)))));
}

function verdict(entry) {
  const { kind, stage, reason, value, detail } = entry.stopped;
  const border = data.borders.find((found) => found.reason === reason) || {};
  const measured = value === null || value === undefined ? "" : `${border.measure || "value"} ${shortNumber(value)}${border.unit ? ` ${border.unit}` : ""}`;
  return make("section", { class: "verdict" },
    make("h3", {}, `${kind} by ${stage}`),
    make("p", {}, make("code", {}, reason), " ", ...coded(border.meaning || "")),
    make("p", { class: "sub" }, [measured, detail].filter(Boolean).join(" · ")),
    border.mend ? make("p", { class: "sub" }, ...coded(`Mend: ${border.mend}`)) : null);
}

// Lines end at pauses of 0.6 seconds, and after ten words.
function lines(words) {
  const found = [];
  words.forEach((word, at) => {
    const line = found[found.length - 1];
    if (!line || line.length === 10 || word.start - words[at - 1].end > 0.6) found.push([word]);
    else line.push(word);
  });
  return found;
}

function transcript(entry) {
  const speech = entry.transcript;
  const block = make("section", { class: "transcript" }, make("h3", {}, "Transcript"));
  if (!speech.text) {
    block.append(make("p", { class: "none" }, "No speech was recognised."));
    return block;
  }
  const facts = [languageName(speech.language) || "language unknown"];
  if (speech.confidence !== undefined) facts.push(`language ${speech.confidence.toFixed(2)}`);
  if (speech.route) facts.push(`route ${speech.route}`);
  if (speech.trusted === false) facts.push("not trusted");
  block.append(make("p", { class: "sub" }, facts.join(" · ")));
  if (!speech.words.length) block.append(make("p", {}, speech.text));
  for (const line of lines(speech.words)) {
    block.append(make("div", { class: "line" },
      make("button", { type: "button", class: "time", "aria-label": `Go to ${clock(line[0].start)}`, onclick: () => seek(line[0].start) }, clock(line[0].start)),
      make("p", {}, ...line.flatMap((word) => [make("span", {
        class: word.p < 0.6 ? "word unsure" : "word", "data-start": word.start, "data-end": word.end,
        title: `${clock(word.start)}, certainty ${word.p.toFixed(2)}`, onclick: () => seek(word.start),
      }, word.word), " "]))));
  }
  if (speech.english && speech.english !== speech.text) block.append(make("h4", {}, "In English"), make("p", {}, speech.english));
  return block;
}

function follow() {
  for (const word of viewer.querySelectorAll(".word")) {
    const now = video.currentTime;
    word.classList.toggle("now", now >= Number(word.dataset.start) && now < Number(word.dataset.end));
  }
}

function scores(entry) {
  const found = KINDS.filter((kind) => scoreOf(entry, kind) !== null).map((kind) => bar(kind, scoreOf(entry, kind)));
  const motion = scoreOf(entry, "motion");
  if (motion !== null) found.push(bar("motion", motion, "motion"));
  return make("section", {}, make("h3", {}, "Scores"),
    found.length ? make("div", { class: "bars wide" }, ...found) : make("p", { class: "none" }, "Not scored."));
}

function captions(entry) {
  return make("section", { class: "captions", "aria-label": "Captions by kind" }, ...KINDS.map((kind) => {
    const text = entry.captions[kind];
    const score = scoreOf(entry, kind);
    return make("div", { class: `caption-card kind-${kind}${text ? "" : " empty"}` },
      make("h3", {}, make("b", {}, kind), ` ${KIND_NAMES[kind]}`, entry.primary === kind && text ? tag("primary", "primary") : null),
      make("p", { lang: "en" }, text || "–"),
      score === null ? null : make("p", { class: "sub" }, `similarity ${score.toFixed(4)}`));
  }));
}

function provenance(entry) {
  const { span, video: facts, audio, provenance: made, source: from } = entry;
  const rows = [["Key", entry.key], ["Source", from.uri], ["Licence", from.license || "unknown"], ["SHA-256", from.sha256]];
  rows.push(["Clip", `${span.start.toFixed(3)}–${span.end.toFixed(3)} s, frames ${span.first_frame}–${span.last_frame}`]);
  if (span.shot_first !== undefined) rows.push(["Shot", `frames ${span.shot_first}–${span.shot_last}`]);
  if (facts) {
    rows.push(["Video", `${facts.codec} (source ${facts.source_codec}), ${facts.fps} fps${facts.vfr ? ", variable" : ""}, ${facts.frames} frames, cut ${facts.cut}, check ${facts.check}`]);
    rows.push(["Audio", audio.present ? `${audio.codec}, ${audio.sample_rate} Hz, ${plural(audio.channels, "channel")}${audio.silent ? ", silent" : ""}` : "none"]);
    rows.push(["Shard", `${entry.shard} (${Object.entries(entry.bytes).map(([name, size]) => `.${name} ${number(size)} B`).join(", ")})`]);
  }
  for (const [name, value] of Object.entries(from.meta || {})) rows.push([`Meta: ${name}`, typeof value === "string" ? value : JSON.stringify(value)]);
  const models = made ? Object.entries(made.backends).map(([role, name]) => [role.replaceAll("_", " "), String(name)]) : [];
  return make("details", { class: "provenance", open: true },
    make("summary", {}, "Provenance"),
    table(rows),
    made ? make("h4", {}, made.embedded ? "Models (embedded: they measure, they do not understand)" : "Models") : null,
    made ? table(models) : null,
    made ? make("p", { class: "sub" }, `Stages: ${Object.entries(made.stages).map(([name, version]) => `${name} ${typeof version === "object" ? JSON.stringify(version) : version}`).join(", ")}`) : null);
}

function table(rows) {
  return make("dl", { class: "facts" }, ...rows.filter(([, value]) => value).flatMap(([name, value]) => [make("dt", {}, name), make("dd", {}, value)]));
}

viewer.addEventListener("close", () => {
  if (video) video.pause();
  const opener = shown && [...document.querySelectorAll(".card .open")].find((found) => found.dataset.key === shown.key && found.offsetParent);
  if (opener) opener.focus();
});
viewer.addEventListener("click", (event) => { if (event.target === viewer) viewer.close(); });
