// The page of a desk: strips, time line and transport. Sound and settings come over one socket.

const $ = (id) => document.getElementById(id);
const clamp = (x, low, high) => Math.min(Math.max(x, low), high);
const toDb = (factor) => (factor > 0 ? 20 * Math.log10(factor) : -Infinity);
const desk = { latencies: [], chunks: 0, gaps: 0 }; // figures, for tests and the curious
globalThis.desk = desk;

let socket, song, members = {}, strips = {}, levels = {};
let audio = null, node = null;
let generation = 0, playing = false, recording = false, at = 0; // position, s
let stream = { samples: 0, time: 0 }, chunks = []; // what the worklet reports; where chunks lie in the song
let loop = null, looping = false, moves = 0, lost = false, why = "connection lost";
const sentAt = new Map(), mine = new Map(); // moves on their way; faders that this page holds

// --- faders: dB and places, as on a console

const TAPER = [[12, 1], [6, 0.89], [0, 0.77], [-6, 0.65], [-12, 0.53], [-20, 0.37], [-30, 0.22], [-40, 0.12], [-60, 0]];
const MARKS = [12, 6, 0, -6, -12, -20, -30, -40, -60];

function place(db) {
  if (db <= -60) return 0;
  const i = Math.max(1, TAPER.findIndex(([level]) => level <= db));
  const [[a, p], [b, q]] = [TAPER[i - 1], TAPER[i]];
  return clamp(q + ((db - b) / (a - b)) * (p - q), 0, 1);
}

function level(where) {
  if (where <= 0.002) return -Infinity;
  const i = Math.max(1, TAPER.findIndex(([, p]) => p <= where));
  const [[a, p], [b, q]] = [TAPER[i - 1], TAPER[i]];
  return b + ((where - q) / (p - q)) * (a - b);
}

const shown = (db) => (db <= song.least ? "−∞" : `${db < -0.05 ? "−" : db > 0.05 ? "+" : ""}${Math.abs(db).toFixed(1)}`);
const spoken = (db) => (db <= song.least ? "silent" : `${db.toFixed(1)} dB`);

function along(member, time) {
  const points = member.curve;
  if (!points) return 1;
  const i = points.findIndex(([t]) => t > time);
  if (i === 0) return points[0][1];
  if (i < 0) return points.at(-1)[1];
  const [[t, a], [u, b]] = [points[i - 1], points[i]];
  const part = u > t ? (time - t) / (u - t) : 1;
  return member.lines === "db" ? Math.exp(Math.log(a) + part * Math.log(b / a)) : a + part * (b - a);
}

const gainAt = (member, time) => toDb(member.gain * along(member, time));

// --- the socket

function connect() {
  socket = new WebSocket(new URL("socket", location.href).href.replace(/^http/, "ws"));
  socket.binaryType = "arraybuffer";
  socket.onmessage = ({ data }) => (typeof data === "string" ? heard(JSON.parse(data)) : sound(data));
  socket.onclose = () => {
    lost = true;
    halt();
    say(`${why}; trying again`, true);
    setTimeout(connect, 1500);
  };
}

const send = (what) => socket.readyState === WebSocket.OPEN && socket.send(JSON.stringify(what));

function heard(word) {
  if (word.type === "welcome") {
    const first = !song;
    song = word;
    levels = word.levels;
    members = word.members;
    if (first) {
      build();
      at = clamp(Number(sessionStorage.getItem("at")) || 0, 0, song.seconds);
      const kept = JSON.parse(sessionStorage.getItem("loop") || "null");
      if (kept) [loop, looping] = kept;
    }
    settings(word);
    sendLoop();
    say(lost ? "connected again" : song.readOnly ? "for listening only" : "ready");
    [lost, why] = [false, "connection lost"];
  } else if (word.type === "settings") settings(word);
  else if (word.type === "levels") {
    Object.assign(levels, word.levels);
    paint();
  } else if (word.type === "reserve") {
    desk.reserve = word.times;
    facts();
  } else if (word.type === "end") {
    if (word.generation === generation) node?.port.postMessage(word);
  } else {
    if (word.stop) halt();
    if (word.final) why = word.text;
    say(word.text, word.type === "error");
  }
}

function settings(word) {
  members = word.members;
  desk.revision = word.revision;
  $("dirty").hidden = !word.dirty;
  $("undo").disabled = !word.undo;
  $("redo").disabled = !word.redo;
  for (const [name, strip] of Object.entries(strips)) strip.show(members[name], word.recording.includes(name));
  const any = Object.values(members).some((m) => m.solo);
  for (const [name, strip] of Object.entries(strips)) {
    const m = members[name];
    const inSolo = (n) => n && members[n] && (members[n].solo || inSolo(members[n].bus));
    strip.root.classList.toggle("off", m.mute || (any && m.kind === "track" && !inSolo(name)));
  }
  paint();
}

function say(text, bad = false) {
  $("status").textContent = text;
  $("status").classList.toggle("bad", bad);
}

function facts() {
  const parts = [`${Object.values(members).filter((m) => m.kind === "track").length} tracks`];
  if (desk.reserve) parts.push(`decodes ${desk.reserve.toFixed(1)}× real time`);
  if (desk.latencies.length) parts.push(`moves take ${Math.round(desk.latencies.at(-1))} ms`);
  if (desk.gaps) parts.push(`${desk.gaps} gap${desk.gaps > 1 ? "s" : ""}`);
  $("facts").textContent = parts.join(" · ");
}

function move(name, key, value) {
  if (song.readOnly) return;
  send({ do: "move", id: ++moves, name, key, value, at: now() });
  if (playing) sentAt.set(moves, performance.now());
}

// --- sound

function sound(buffer) {
  const view = new DataView(buffer);
  const u32 = (i) => view.getUint32(i, true);
  const [of, id, channels, count, rows, frames] = [0, 4, 24, 28, 32, 36].map(u32);
  const [start, from] = [8, 16].map((i) => Number(view.getBigUint64(i, true)));
  if (of !== generation || !playing) return;
  const meters = new Float32Array(buffer, 40, rows * frames);
  const parts = Array.from({ length: channels }, (_, c) => new Float32Array(buffer, 40 + 4 * (rows * frames + c * count), count));
  chunks = chunks.filter((c) => c.stream < start && c.stream + c.count > stream.samples - song.rate);
  chunks.push({ stream: start, song: from, count, meters, frames });
  desk.tap?.(start, from, parts);
  node.port.postMessage({ generation: of, stream: start, channels: parts });
  desk.chunks++;
  const arrived = performance.now();
  for (const [sent, time] of sentAt) {
    if (sent > id) continue;
    desk.latencies.push(arrived - time);
    sentAt.delete(sent);
    facts();
  }
}

async function ready() {
  if (audio) return audio.resume();
  audio = new AudioContext({ sampleRate: song.rate, latencyHint: "interactive" });
  await audio.audioWorklet.addModule("worklet.js");
  node = new AudioWorkletNode(audio, "stream", { numberOfInputs: 0, outputChannelCount: [2] });
  node.port.onmessage = ({ data }) => report(data);
  const analyser = new AnalyserNode(audio, { fftSize: 4096, smoothingTimeConstant: 0.2, minDecibels: -95, maxDecibels: -15 });
  node.connect(analyser).connect(audio.destination);
  picture.analyser = analyser;
}

function report(data) {
  if (data.generation !== generation) return;
  stream = { samples: data.samples, time: audio.currentTime };
  strips.master.measure(data);
  if (data.gaps) {
    desk.gaps += data.gaps - (desk.counted ?? 0);
    desk.counted = data.gaps;
    facts();
  }
  send({ do: "heard", generation, samples: data.samples });
  if (data.ended) {
    at = song.seconds;
    halt(false);
  }
}

async function play(from = now()) {
  await ready();
  if (from >= song.seconds - 0.05) from = 0;
  at = from;
  generation++;
  chunks = [];
  desk.counted = 0;
  stream = { samples: 0, time: audio.currentTime };
  sentAt.clear();
  playing = true;
  if ($("status").classList.contains("bad")) say("");
  node.port.postMessage({ type: "reset", generation });
  send({ do: "play", at: from, generation });
  $("play").setAttribute("aria-pressed", "true");
  $("play").setAttribute("aria-label", "Pause");
}

function halt(tell = true) {
  if (playing && tell) {
    at = now();
    send({ do: "pause" });
    node?.port.postMessage({ type: "stop" });
  }
  playing = false;
  $("play").setAttribute("aria-pressed", "false");
  $("play").setAttribute("aria-label", "Play");
  sessionStorage.setItem("at", at);
}

function seek(time) {
  at = clamp(time, 0, song.seconds);
  if (playing) play(at);
  else sessionStorage.setItem("at", at);
}

function current() {
  // The chunk that is heard, and the sample of the song.
  const played = stream.samples + Math.min(audio.currentTime - stream.time, 0.1) * song.rate;
  const chunk = chunks.findLast((c) => c.stream <= played) ?? chunks[0];
  return chunk ? { chunk, sample: chunk.song + clamp(played - chunk.stream, 0, chunk.count) } : null;
}

const now = () => (playing ? (current()?.sample ?? at * song.rate) / song.rate : at);

function sendLoop() {
  send({ do: "loop", span: looping && loop ? loop : null });
  sessionStorage.setItem("loop", JSON.stringify(loop ? [loop, looping] : null));
  $("loop").setAttribute("aria-pressed", String(looping && !!loop));
  const region = $("region");
  region.hidden = !loop;
  region.classList.toggle("on", looping);
  if (loop) region.style.cssText = `left:${(100 * loop[0]) / song.seconds}%;width:${(100 * (loop[1] - loop[0])) / song.seconds}%`;
}

function setLoop(a, b, on = true) {
  [a, b] = [Math.min(a, b), Math.max(a, b)].map((t) => clamp(t, 0, song.seconds));
  if (b - a < 0.1) return;
  [loop, looping] = [[a, b], on];
  sendLoop();
}

// --- strips

class Strip {
  constructor(name, member) {
    this.name = name;
    this.root = $("strip").content.cloneNode(true).firstElementChild;
    const find = (selector) => this.root.querySelector(selector);
    const title = member.kind === "master" ? "Master" : name;
    this.root.classList.add(member.kind);
    this.root.setAttribute("aria-label", member.kind === "bus" ? `Bus ${name}` : title);
    find("h2").textContent = title;
    find("h2").title = member.file ? `${title}: ${member.file}` : title;
    [this.fader, this.cap, this.field] = [find(".fader"), find(".cap"), find(".level")];
    this.fader.setAttribute("aria-label", `${title} level`);
    this.fader.setAttribute("aria-valuemin", song.least);
    this.fader.setAttribute("aria-valuemax", song.most);
    this.field.setAttribute("aria-label", `${title} level in dB`);
    this.field.readOnly = song.readOnly;
    for (const mark of MARKS) {
      const b = document.createElement("b");
      b.textContent = mark === -60 ? "∞" : Math.abs(mark);
      b.className = mark ? "" : "zero";
      b.style.top = `${100 * (1 - place(mark))}%`;
      find(".scale").append(b);
    }
    this.meters = Array.from({ length: member.kind === "master" ? 2 : 1 }, () => {
      const meter = document.createElement("div");
      meter.className = "meter";
      meter.append(document.createElement("u"), document.createElement("s"));
      find(".meters").append(meter);
      return { cover: meter.firstChild, mark: meter.lastChild, value: -120, held: -120, since: 0 };
    });
    this.buttons = {};
    for (const [key, words] of Object.entries({ mute: "Mute", solo: "Solo", invert: "Invert polarity of", curve: "Remove the automation of" })) {
      const button = (this.buttons[key] = find(`.${key}`));
      const none = member.kind === "master" && (key === "mute" || key === "solo");
      button.setAttribute("aria-label", `${words} ${title}`);
      button.title = { mute: "Mute (M)", solo: "Solo (S)", invert: "Polarity (I)", curve: "Remove the automation" }[key];
      button.style.visibility = none ? "hidden" : "";
      button.disabled = song.readOnly || none;
      button.onclick = () => move(name, key, key === "curve" ? null : !this.member[key]);
    }
    this.pan = find(".pan input");
    this.panned = find(".pan output");
    if (member.kind !== "track" || song.channels !== 2) find(".pan").replaceChildren();
    this.pan.setAttribute("aria-label", `${title} pan`);
    this.pan.disabled = song.readOnly;
    this.pan.oninput = () => move(name, "pan", this.pan.value / 100);
    this.pan.ondblclick = () => move(name, "pan", null);
    if (member.kind === "master") {
      const clip = (this.clip = document.createElement("button"));
      clip.className = "clip";
      clip.textContent = "CLIP";
      clip.title = "The mix was above full scale; press to reset";
      clip.onclick = () => clip.classList.remove("on");
      find(".pan").append(clip);
    }
    this.listen();
  }

  listen() {
    const { fader } = this;
    fader.onpointerdown = (e) => {
      if (song.readOnly || e.button) return;
      fader.setPointerCapture(e.pointerId);
      const box = fader.getBoundingClientRect();
      const grabbed = e.target === this.cap ? e.clientY - (box.bottom - place(this.db) * box.height) : 0;
      const drag = (event) => this.set(level((box.bottom - event.clientY + grabbed) / box.height));
      drag(e);
      fader.onpointermove = drag;
      fader.onpointerup = fader.onpointercancel = () => (fader.onpointermove = null);
      fader.focus();
      e.preventDefault();
    };
    fader.ondblclick = () => this.set(0);
    fader.onkeydown = (e) => {
      const fine = e.shiftKey ? 0.1 : 0.5;
      const base = Math.max(this.db, song.least);
      const to = {
        ArrowUp: base + fine, ArrowRight: base + fine, ArrowDown: base - fine, ArrowLeft: base - fine,
        PageUp: base + 3, PageDown: base - 3, Home: song.least, End: song.most, 0: 0,
      }[e.key];
      if (to === undefined) return;
      this.set(to);
      e.preventDefault();
      e.stopPropagation();
    };
    this.field.onchange = () => {
      const text = this.field.value.trim().replace("−", "-").replace(",", ".").replace(/dB$/i, "");
      const db = /inf|∞/i.test(text) ? song.least : Number.parseFloat(text);
      if (Number.isFinite(db)) this.set(db);
      this.draw(this.db, true);
    };
    this.root.onkeydown = (e) => {
      const key = { m: "mute", s: "solo", i: "invert" }[e.key.toLowerCase()];
      if (!key || e.ctrlKey || e.metaKey || e.target === this.field || this.buttons[key].disabled) return;
      this.buttons[key].click();
      e.stopPropagation();
    };
  }

  set(db) {
    if (song.readOnly) return;
    db = Math.round(clamp(db, song.least, song.most) * 10) / 10;
    if (db === this.db) return;
    mine.set(this.name, { db, until: performance.now() + 500 });
    this.draw(db);
    this.waiting ??= requestAnimationFrame(() => {
      this.waiting = null;
      move(this.name, "level", this.db);
    });
  }

  show(member, writing) {
    this.member = member;
    for (const key of ["mute", "solo", "invert"]) this.buttons[key].setAttribute("aria-pressed", String(!!member[key]));
    this.buttons.curve.disabled = song.readOnly || !member.curve;
    this.buttons.curve.classList.toggle("writing", writing);
    if (document.activeElement !== this.pan || !this.pan.matches(":active")) this.pan.value = Math.round(100 * (member.pan ?? 0));
    const pan = Math.round(100 * (member.pan ?? 0));
    this.panned.textContent = pan ? `${pan < 0 ? "L" : "R"} ${Math.abs(pan)}` : "C";
    this.pan.setAttribute("aria-valuetext", pan ? `${Math.abs(pan)} % ${pan < 0 ? "left" : "right"}` : "centre");
    this.follow();
  }

  follow(time = now()) {
    const held = mine.get(this.name);
    if (held && performance.now() < held.until) return;
    if (held) mine.delete(this.name);
    this.draw(Math.max(gainAt(this.member, time), song.least));
  }

  draw(db, force = false) {
    if (db === this.db && !force) return;
    this.db = db;
    this.cap.style.top = `${100 * (1 - place(db))}%`;
    this.fader.setAttribute("aria-valuenow", db.toFixed(1));
    this.fader.setAttribute("aria-valuetext", spoken(db));
    if (document.activeElement !== this.field || force) this.field.value = shown(db);
  }

  measure({ peak, rms }) {
    peak.forEach((x, i) => this.feed(i, toDb(rms[i]), toDb(x)));
    if (Math.max(...peak) > 1) this.clip.classList.add("on");
  }

  feed(i, db, peak = db) {
    const meter = this.meters[i];
    meter.value = Math.max(db, meter.value);
    if (peak >= meter.held) [meter.held, meter.since] = [peak, performance.now()];
  }

  fall(step) {
    for (const meter of this.meters) {
      meter.value = Math.max(meter.value - 26 * step, -120); // dB/s
      if (performance.now() - meter.since > 1200) meter.held -= 30 * step;
      meter.cover.style.transform = `scaleY(${1 - place(meter.value)})`;
      meter.mark.style.top = `${100 * (1 - place(meter.held))}%`;
      meter.mark.style.opacity = meter.held > -60 ? 1 : 0;
    }
  }
}

// --- the time line

const picture = { columns: new Map(), analyser: null, last: 0 };
const hue = (i, n) => `hsl(${Math.round((205 + (i * 360) / Math.max(n, 7)) % 360)} 58% `;
let lane = 30;

function shortener(names) {
  // Without what all begin with ("Song - "), which leaves no room for the rest.
  let same = names[0].length;
  for (const name of names) while (!name.startsWith(names[0].slice(0, same))) same--;
  const cut = names.length > 1 ? (names[0].slice(0, same).match(/^.*[\s_.-]/)?.[0].length ?? 0) : 0;
  return (name) => (names.includes(name) && name.slice(cut)) || name;
}

function build() {
  document.title = `${song.name} · lincae desk`;
  $("name").textContent = song.name;
  $("name").title = song.file;
  const names = Object.keys(members), tracks = names.filter((n) => members[n].kind === "track");
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const short = shortener(tracks);
  for (const name of names) {
    const strip = (strips[name] = new Strip(name, members[name]));
    if (members[name].kind !== "master") strip.root.querySelector("h2").textContent = short(name);
    const i = tracks.indexOf(name);
    if (i >= 0) strip.root.style.setProperty("--hue", `${hue(i, tracks.length)}${dark.matches ? 60 : 45}%)`);
    if (members[name].kind === "bus" && !document.querySelector(".strip.bus")) strip.root.classList.add("first");
    (members[name].kind === "master" ? $("master") : $("strips")).append(strip.root);
  }
  for (const name of [...tracks, "master"]) {
    const label = document.createElement("div"), text = document.createElement("span"), dot = document.createElement("i");
    text.textContent = name === "master" ? "Master" : short(name);
    text.title = name;
    dot.style.setProperty("--hue", strips[name].root.style.getPropertyValue("--hue") || "var(--accent)");
    label.append(dot, text);
    $("labels").append(label);
  }
  $("ruler").setAttribute("aria-valuemax", song.seconds.toFixed(1));
  if (song.readOnly) for (const id of ["record", "undo", "redo", "save"]) $(id).hidden = true;
  new ResizeObserver(paint).observe($("scroller"));
  dark.addEventListener("change", () => location.reload());
  requestAnimationFrame(tick);
}

function clock(seconds, digits = 1) {
  const all = Math.floor(seconds * 10 ** digits + 1e-6) / 10 ** digits, minutes = Math.floor(all / 60);
  const rest = (all % 60).toFixed(digits).padStart(digits ? 3 + digits : 2, "0");
  return minutes >= 60 ? `${Math.floor(minutes / 60)}:${String(minutes % 60).padStart(2, "0")}:${rest}` : `${minutes}:${rest}`;
}

function canvas(element, height) {
  const box = element.parentElement.getBoundingClientRect(), ratio = devicePixelRatio || 1;
  const width = element === $("lanes").lastElementChild ? box.width - $("labels").offsetWidth : box.width;
  element.style.height = `${height}px`;
  element.width = Math.max(1, Math.round(width * ratio));
  element.height = Math.max(1, Math.round(height * ratio));
  const draw = element.getContext("2d");
  draw.scale(ratio, ratio);
  return [draw, width];
}

let waiting = null;
function paint() {
  waiting ??= requestAnimationFrame(() => {
    waiting = null;
    paintRuler();
    paintLanes();
  });
}

function paintRuler() {
  const style = getComputedStyle(document.documentElement);
  const [draw, width] = canvas($("ruler").firstElementChild, 24);
  const steps = [0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 1200, 3600];
  const step = steps.find((s) => (s / song.seconds) * width > 62) ?? 3600;
  draw.font = "10px system-ui, sans-serif";
  draw.strokeStyle = style.getPropertyValue("--line");
  draw.fillStyle = style.getPropertyValue("--soft");
  for (let t = 0, i = 0; t <= song.seconds; t = ++i * (step / 5)) {
    const x = Math.round((t / song.seconds) * width) + 0.5, major = i % 5 === 0;
    draw.beginPath();
    draw.moveTo(x, major ? 13 : 19);
    draw.lineTo(x, 24);
    draw.stroke();
    if (major) draw.fillText(clock(t, step < 1 ? 1 : 0), x + 4, 15);
  }
}

function paintLanes() {
  const style = getComputedStyle(document.documentElement), wave = style.getPropertyValue("--wave").trim();
  const tracks = Object.keys(members).filter((n) => members[n].kind === "track");
  const least = innerWidth < 641 ? 22 : 26;
  lane = clamp(($("scroller").clientHeight - 56) / tracks.length, least, 76);
  for (const label of $("labels").children) label.style.height = `${lane}px`;
  $("labels").lastElementChild.style.height = "56px";
  const [draw, width] = canvas($("lanes").lastElementChild, lane * tracks.length + 56);
  const count = 600;
  tracks.forEach((name, i) => {
    const top = i * lane, middle = top + lane / 2, member = members[name], colour = hue(i, tracks.length);
    const off = strips[name].root.classList.contains("off");
    draw.fillStyle = style.getPropertyValue("--faint");
    draw.fillRect(0, top + lane - 1, width, 1);
    const found = levels[name];
    if (found) {
      draw.fillStyle = `${colour}${wave} / ${off ? 0.22 : 0.85})`;
      draw.beginPath();
      const heights = found.map((db, k) => clamp((db + gainAt(member, ((k + 0.5) / found.length) * song.seconds) + 54) / 54, 0, 1));
      const y = heights.map((h) => Math.max(0.5, h * (lane / 2 - 2)));
      const x = (k) => ((k + 0.5) / found.length) * width;
      y.forEach((h, k) => draw.lineTo(x(k), middle - h));
      for (let k = y.length; k--; ) draw.lineTo(x(k), middle + y[k]);
      draw.fill();
    }
    if (member.curve) {
      draw.strokeStyle = style.getPropertyValue("--text");
      draw.lineWidth = 1.4;
      draw.beginPath();
      for (let k = 0; k <= count; k++) {
        const where = place(gainAt(member, (k / count) * song.seconds));
        draw.lineTo((k / count) * width, top + 3 + (1 - where) * (lane - 7));
      }
      draw.stroke();
      draw.fillStyle = style.getPropertyValue("--accent");
      if (member.curve.length < 80) {
        for (const [t, g] of member.curve) {
          draw.beginPath();
          draw.arc((t / song.seconds) * width, top + 3 + (1 - place(toDb(g * member.gain))) * (lane - 7), 2.4, 0, 7);
          draw.fill();
        }
      }
    }
  });
  picture.top = lane * tracks.length;
  picture.width = width;
  for (const [x, column] of picture.columns) paintColumn(draw, x, column);
}

// The master's spectrogram, drawn at its place in the song while it plays.
const COLUMNS = 1000, ROWS = 54;

function listenTo(time) {
  const { analyser } = picture, bins = new Uint8Array(analyser.frequencyBinCount);
  analyser.getByteFrequencyData(bins);
  const column = new Uint8Array(ROWS);
  for (let i = 0; i < ROWS; i++) {
    const [low, high] = [i, i + 1].map((k) => Math.round((40 * 450 ** (k / ROWS) * 2 * bins.length) / song.rate));
    column[i] = Math.max(...bins.subarray(low, Math.max(high, low + 1)));
  }
  const x = Math.min(Math.floor((time / song.seconds) * COLUMNS), COLUMNS - 1), draw = $("lanes").lastElementChild.getContext("2d");
  const gap = x - picture.last;
  for (let i = gap > 0 && gap < 30 ? picture.last + 1 : x; i <= x; i++) {
    picture.columns.set(i, column);
    paintColumn(draw, i, column);
  }
  picture.last = x;
}

function paintColumn(draw, x, column) {
  const left = (x / COLUMNS) * picture.width, width = picture.width / COLUMNS + 0.6;
  for (let i = 0; i < ROWS; i++) {
    const v = column[i] / 255;
    draw.fillStyle = `rgb(${Math.round(255 * clamp(1.7 * v - 0.25, 0, 1))} ${Math.round(255 * clamp(1.5 * v - 0.6, 0, 1))} ${Math.round(
      255 * clamp(v < 0.45 ? 1.5 * v + 0.06 : 1.05 - v * 0.95, 0.06, 1))})`;
    draw.fillRect(left, picture.top + 1 + (ROWS - 1 - i), width, 1.2);
  }
}

let before = 0;
function tick(time) {
  const step = Math.min((time - before) / 1000, 0.1);
  before = time;
  const where = now();
  if (playing) {
    const here = current();
    if (here) {
      const { chunk, sample } = here;
      const frame = clamp(Math.floor(sample / song.frame) - Math.floor(chunk.song / song.frame), 0, chunk.frames - 1);
      let row = 0;
      for (const [name, member] of Object.entries(members)) {
        if (member.kind === "master") continue;
        strips[name].feed(0, chunk.meters[row++ * chunk.frames + frame]);
      }
    }
    if (picture.analyser && stream.samples) listenTo(where);
  }
  for (const [name, strip] of Object.entries(strips)) {
    if (members[name].curve) strip.follow(where);
    strip.fall(step);
  }
  $("clock").textContent = clock(where);
  $("length").textContent = clock(song.seconds);
  $("head").style.transform = `translateX(${(where / song.seconds) * $("over").clientWidth}px)`;
  if (!playing || time - (tick.told ?? 0) > 1000) {
    tick.told = time;
    $("ruler").setAttribute("aria-valuenow", where.toFixed(1));
    $("ruler").setAttribute("aria-valuetext", clock(where));
    if (playing) sessionStorage.setItem("at", where);
  }
  requestAnimationFrame(tick);
}

const timeAt = (e) => {
  const box = $("over").getBoundingClientRect();
  return clamp((e.clientX - box.left) / box.width, 0, 1) * song.seconds;
};

$("ruler").onpointerdown = (e) => {
  const ruler = $("ruler"), first = timeAt(e), x = e.clientX;
  ruler.setPointerCapture(e.pointerId);
  ruler.onpointermove = (event) => Math.abs(event.clientX - x) > 4 && setLoop(first, timeAt(event));
  ruler.onpointerup = ruler.onpointercancel = (event) => {
    ruler.onpointermove = ruler.onpointerup = null;
    if (Math.abs(event.clientX - x) <= 4) seek(first);
  };
};
$("scroller").onclick = (e) => e.target.tagName === "CANVAS" && seek(timeAt(e));
$("ruler").onkeydown = (e) => {
  const to = { ArrowLeft: now() - 1, ArrowRight: now() + 1, ArrowUp: now() + 1, ArrowDown: now() - 1, PageUp: now() + 10,
    PageDown: now() - 10, Home: 0, End: song.seconds }[e.key];
  if (to === undefined) return;
  seek(to);
  e.preventDefault();
  e.stopPropagation();
};

const act = {
  play: () => (playing ? halt() : play()),
  start: () => seek(0),
  loop: () => {
    if (!loop) return say("drag over the ruler, or press [ and ], to choose what to repeat");
    looping = !looping;
    sendLoop();
  },
  record: () => {
    if (song.readOnly) return;
    recording = !recording;
    $("record").setAttribute("aria-pressed", String(recording));
    send({ do: "record", on: recording });
    say(recording ? "fader moves are written as curves while the song plays" : "fader moves are not written");
  },
  undo: () => send({ do: "undo" }),
  redo: () => send({ do: "redo" }),
  save: () => !song.readOnly && send({ do: "save" }),
};
for (const [id, run] of Object.entries(act)) $(id).onclick = () => song && run();
$("export").onclick = (e) => {
  if (e.target.tagName !== "A") return;
  say("rendering; the download begins when it is done");
  $("export").open = false;
};

addEventListener("keydown", (e) => {
  const typing = e.target.matches?.("input.level");
  if ((e.ctrlKey || e.metaKey) && !typing) {
    const run = { s: act.save, z: e.shiftKey ? act.redo : act.undo, y: act.redo }[e.key.toLowerCase()];
    if (run) {
      run();
      e.preventDefault();
    }
    return;
  }
  if (typing || e.ctrlKey || e.altKey || e.metaKey || !song) return;
  if (e.key === " " && e.target.closest?.("button, summary, a") && e.target.id !== "play") return;
  const keys = { " ": act.play, Home: act.start, l: act.loop, r: act.record,
    "[": () => setLoop(now(), loop && loop[1] > now() + 0.1 ? loop[1] : song.seconds, looping),
    "]": () => setLoop(loop && loop[0] < now() - 0.1 ? loop[0] : 0, now(), true) };
  const run = keys[e.key.length > 1 ? e.key : e.key.toLowerCase()];
  if (!run || e.target.type === "range") return;
  run();
  e.preventDefault();
});

connect();
