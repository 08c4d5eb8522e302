// Drawing, preparation as of MNIST's images, recognition here or by the server, and pictures of what each layer gives.

const SIDE = 28, BOX = 20, PEN = 22, STEP = 10;
const byId = (id) => document.getElementById(id);
const pad = byId("pad"), ink = pad.getContext("2d", { willReadFrequently: true });
const state = { config: null, session: null, ort: null, busy: false, again: false, drawn: false, last: null };

// pen

function strokeTo(from, to) {
  ink.strokeStyle = "#fff";
  ink.lineWidth = PEN;
  ink.lineCap = ink.lineJoin = "round";
  ink.beginPath();
  ink.moveTo(from.x, from.y);
  ink.lineTo(to.x + 0.01, to.y);
  ink.stroke();
  state.drawn = true;
  recognise();
}

function place(event) {
  const box = pad.getBoundingClientRect();
  return { x: ((event.clientX - box.left) * pad.width) / box.width, y: ((event.clientY - box.top) * pad.height) / box.height };
}

pad.addEventListener("pointerdown", (event) => {
  if (event.button > 0) return;
  pad.setPointerCapture(event.pointerId);
  state.last = place(event);
  strokeTo(state.last, state.last);
  event.preventDefault();
  pad.focus({ preventScroll: true });
});
pad.addEventListener("pointermove", (event) => {
  if (!state.last) return;
  for (const one of event.getCoalescedEvents?.() ?? [event]) {
    const next = place(one);
    strokeTo(state.last, next);
    state.last = next;
  }
});
for (const kind of ["pointerup", "pointercancel"]) {
  pad.addEventListener(kind, () => { if (state.last) { state.last = null; announce(); } });
}

// keys: a pen that arrows move

const pen = { x: 140, y: 140, down: false };
const MOVES = { ArrowLeft: [-STEP, 0], ArrowRight: [STEP, 0], ArrowUp: [0, -STEP], ArrowDown: [0, STEP] };
const within = (value) => Math.min(270, Math.max(10, value));

pad.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key in MOVES) {
    const [dx, dy] = MOVES[event.key];
    const from = { x: pen.x, y: pen.y };
    pen.x = within(pen.x + dx);
    pen.y = within(pen.y + dy);
    if (pen.down) strokeTo(from, pen);
    showPen();
  } else if (event.key === " " || event.key === "Enter") {
    pen.down = !pen.down;
    if (pen.down) strokeTo(pen, pen);
    else announce();
    showPen();
  } else if (event.key === "c" || event.key === "C" || event.key === "Delete" || event.key === "Backspace") {
    clear();
  } else return;
  event.preventDefault();
});

function showPen() {
  const column = Math.round(pen.x / STEP), row = Math.round(pen.y / STEP);
  say(`Pen ${pen.down ? "down" : "up"}, column ${column}, row ${row} of 28.${state.answer ? " " + sentence() : ""}`, 150);
}

function clear() {
  ink.clearRect(0, 0, pad.width, pad.height);
  Object.assign(pen, { x: 140, y: 140, down: false });
  Object.assign(state, { drawn: false, answer: null });
  byId("seen").getContext("2d").clearRect(0, 0, SIDE, SIDE);
  showProbabilities(null);
  byId("maps").replaceChildren();
  say("Nothing is drawn.", 0);
}
byId("clear").addEventListener("click", () => { clear(); pad.focus({ preventScroll: true }); });

// preparation: the drawing fits 20 x 20 pixels, with its centre of mass in the middle of 28 x 28

function prepared() {
  const { width, height } = pad, alpha = ink.getImageData(0, 0, width, height).data;
  let left = width, right = -1, top = height, bottom = -1;
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      if (alpha[4 * (y * width + x) + 3] > 40) {
        left = Math.min(left, x); right = Math.max(right, x); top = Math.min(top, y); bottom = Math.max(bottom, y);
      }
    }
  }
  if (right < 0) return null;
  const w = right - left + 1, h = bottom - top + 1, scale = BOX / Math.max(w, h);
  const sw = Math.max(1, Math.round(w * scale)), sh = Math.max(1, Math.round(h * scale));
  const small = new Float32Array(sw * sh);
  let mass = 0, mx = 0, my = 0;
  for (let y = 0; y < sh; y++) {
    for (let x = 0; x < sw; x++) {
      const value = meanOf(alpha, width, left + (x * w) / sw, left + ((x + 1) * w) / sw, top + (y * h) / sh, top + ((y + 1) * h) / sh);
      small[y * sw + x] = value;
      mass += value; mx += value * x; my += value * y;
    }
  }
  const centre = (SIDE - 1) / 2, at = (m, size) => Math.min(Math.max(Math.round(centre - m / mass), 0), SIDE - size);
  const x0 = at(mx, sw), y0 = at(my, sh), pixels = new Uint8Array(SIDE * SIDE);
  for (let y = 0; y < sh; y++) for (let x = 0; x < sw; x++) pixels[(y + y0) * SIDE + x + x0] = Math.round(small[y * sw + x]);
  return pixels;
}

function meanOf(alpha, width, x0, x1, y0, y1) {
  let sum = 0, count = 0;
  for (let y = Math.floor(y0); y < Math.max(Math.ceil(y1), Math.floor(y0) + 1); y++) {
    for (let x = Math.floor(x0); x < Math.max(Math.ceil(x1), Math.floor(x0) + 1); x++) {
      sum += alpha[4 * (y * width + x) + 3]; count++;
    }
  }
  return sum / count;
}

// recognition: one at a time, and once more for what was drawn meanwhile

async function recognise() {
  if (state.busy || !state.config) { state.again = true; return; }
  state.busy = true;
  try {
    do {
      state.again = false;
      const pixels = prepared();
      if (!pixels) break;
      picture(byId("seen"), pixels, SIDE, SIDE, 255);
      const answer = state.session ? await here(pixels) : await byServer(pixels);
      if (!state.drawn) break;
      state.answer = answer;
      showProbabilities(answer.probabilities);
      showLayers(answer.layers);
      await new Promise((done) => requestAnimationFrame(done));
    } while (state.again);
  } catch (error) {
    byId("place").textContent = `The drawing could not be recognised: ${error.message}`;
  } finally {
    state.busy = false;
  }
  if (!state.last && !pen.down) announce();
}

async function here(pixels) {
  const values = Float32Array.from(pixels, (value) => value / 255);
  const found = await state.session.run({ x: new state.ort.Tensor("float32", values, state.config.shape) });
  const layers = [];
  for (const [output, name] of Object.entries(state.config.outputs)) {
    layers.push({ name, shape: found[output].dims.slice(1), values: found[output].data });
  }
  return { probabilities: activation(Array.from(found.y.data)), layers };
}

function activation(scores) {
  if (state.config.activation === "SigmoidWithLoss") return scores.map((score) => 1 / (1 + Math.exp(-score)));
  const most = Math.max(...scores), powers = scores.map((score) => Math.exp(score - most));
  const sum = powers.reduce((a, b) => a + b, 0);
  return powers.map((power) => power / sum);
}

async function byServer(pixels) {
  const answer = await fetch("recognise", { method: "POST", body: pixels });
  if (!answer.ok) throw new Error(`the server says ${answer.status}`);
  const { probabilities, layers } = await answer.json();
  for (const layer of layers) {
    const bytes = Uint8Array.from(atob(layer.values), (one) => one.charCodeAt(0));
    layer.values = new Float32Array(bytes.buffer);
  }
  return { probabilities, layers };
}

// what is shown

function makeBars() {
  for (const name of state.config.classes) {
    const row = document.createElement("li");
    for (const part of ["name", "track", "value"]) {
      const element = document.createElement(part === "track" ? "div" : "span");
      element.className = part;
      row.append(element);
    }
    row.querySelector(".name").textContent = name;
    row.querySelector(".track").append(Object.assign(document.createElement("div"), { className: "fill" }));
    row.querySelector(".track").setAttribute("aria-hidden", "true");
    byId("bars").append(row);
  }
  showProbabilities(null);
}

function showProbabilities(probabilities) {
  const best = probabilities ? probabilities.indexOf(Math.max(...probabilities)) : -1;
  [...byId("bars").children].forEach((row, k) => {
    const share = probabilities ? probabilities[k] : 0;
    row.classList.toggle("first", k === best);
    row.querySelector(".fill").style.transform = `scaleX(${share})`;
    row.querySelector(".value").textContent = probabilities ? `${(100 * share).toFixed(1)} %` : "–";
  });
  byId("best").textContent = best < 0 ? "?" : state.config.classes[best];
}

function showLayers(layers) {
  const maps = byId("maps");
  const names = layers.map((layer) => layer.name).join();
  if (maps.dataset.names !== names || !maps.querySelector("figure")) {
    maps.dataset.names = names;
    maps.replaceChildren(...layers.map(() => {
      const figure = document.createElement("figure");
      figure.append(document.createElement("canvas"), document.createElement("figcaption"));
      return figure;
    }));
  }
  layers.forEach((layer, i) => {
    const [canvas, caption] = maps.children[i].children;
    const size = layer.shape.length === 3 ? tiles(canvas, layer) : strip(canvas, layer);
    caption.textContent = `${layer.name}: ${size}`;
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", `Output of ${layer.name}, ${size}`);
  });
}

function tiles(canvas, { shape: [count, height, width], values }) {
  const columns = Math.ceil(Math.sqrt(count)), rows = Math.ceil(count / columns), gap = 1;
  const w = columns * (width + gap) - gap, h = rows * (height + gap) - gap;
  const all = new Float32Array(w * h);
  for (let k = 0; k < count; k++) {
    const x0 = (k % columns) * (width + gap), y0 = Math.floor(k / columns) * (height + gap);
    for (let y = 0; y < height; y++) for (let x = 0; x < width; x++) all[(y0 + y) * w + x0 + x] = values[(k * height + y) * width + x];
  }
  picture(canvas, all, w, h);
  canvas.style.width = `${w * Math.max(1, Math.round(146 / w))}px`;
  return `${count} maps of ${height} × ${width}`;
}

function strip(canvas, { shape: [count], values }) {
  const columns = count > 16 ? Math.ceil(Math.sqrt(count)) : count, rows = Math.ceil(count / columns);
  const all = new Float32Array(columns * rows);
  all.set(values);
  picture(canvas, all, columns, rows);
  canvas.style.width = `${columns * 14}px`;
  return `${count} values`;
}

// grey values, the largest white
function picture(canvas, values, width, height, most = 0) {
  let low = Infinity, high = -Infinity;
  for (const value of values) { low = Math.min(low, value); high = Math.max(high, value); }
  if (most) { low = 0; high = most; }
  canvas.width = width; canvas.height = height;
  const context = canvas.getContext("2d"), image = context.createImageData(width, height);
  for (let i = 0; i < values.length; i++) {
    image.data.fill(high > low ? (255 * (values[i] - low)) / (high - low) : 0, 4 * i, 4 * i + 3);
    image.data[4 * i + 3] = 255;
  }
  context.putImageData(image, 0, 0);
}

function sentence() {
  const { probabilities } = state.answer, share = Math.max(...probabilities);
  return `Recognised as ${state.config.classes[probabilities.indexOf(share)]}, ${(100 * share).toFixed(0)} percent.`;
}

function announce() {
  if (state.answer && !state.busy) say(sentence(), 0);
}

// a screen reader reads the last of several sentences, and not each
let waiting = 0;
function say(text, delay) {
  clearTimeout(waiting);
  waiting = setTimeout(() => { byId("spoken").textContent = text; }, delay);
}

async function start() {
  state.config = await (await fetch("config.json")).json();
  makeBars();
  let place = "Recognised by xpdl on the server of this page.";
  if (state.config.runtime) {
    try {
      const base = new URL("runtime/", location.href).href;
      state.ort = await import(`${base}ort.wasm.min.mjs`);
      state.ort.env.wasm.wasmPaths = base;
      state.ort.env.wasm.numThreads = 1;
      state.session = await state.ort.InferenceSession.create("net.onnx", { executionProviders: ["wasm"] });
      place = "Recognised in this browser by onnxruntime-web.";
    } catch (error) {
      place = `onnxruntime-web does not run here (${error.message}); recognised by xpdl on the server of this page.`;
    }
  }
  byId("place").textContent = place;
  if (state.again) recognise();
}

start().catch((error) => { byId("place").textContent = `The page could not be set up: ${error.message}`; });
