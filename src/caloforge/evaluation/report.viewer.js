// The viewer: two showers as voxels in their detector, drawn back to front on plain canvases, turned together.
"use strict";

// Colours of voxel energies from faint to bright; each scheme starts where its background does not swallow it.
const COLOURS = {
  light: ["#b9c7e8", "#7fa6dd", "#4a86c9", "#3b6aa8", "#6a4c9c", "#a2397f", "#cf3a54", "#e8612c", "#f59a1b", "#ffc928"],
  dark: ["#2c3f73", "#2f6ea5", "#2a9d9f", "#45b97c", "#8fcf55", "#d9d34a", "#f9b13d", "#f97b3c", "#ee4b52", "#ff9db0"],
};

function colourOf(share) {
  const stops = COLOURS[document.documentElement.dataset.scheme === "dark" ? "dark" : "light"];
  const at = Math.min(Math.max(share, 0), 1) * (stops.length - 1), low = Math.min(Math.floor(at), stops.length - 2);
  const part = i => [1, 3, 5].map(k => parseInt(stops[i].slice(k, k + 2), 16));
  const a = part(low), b = part(low + 1), t = at - low;
  return a.map((v, i) => Math.round(v + (b[i] - v) * t));
}

function inMeV(energy) {
  const power = Math.floor(Math.log10(energy) + 1e-9);
  if (energy > 0 && (power < -3 || power > 5)) {
    const raised = String(power).replace(/[-0-9]/g, c => "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"["-0123456789".indexOf(c)]);
    const digits = (energy / 10 ** power).toPrecision(2).replace(/\.?0+$/, "");
    return `${digits === "1" ? "" : digits + "·"}10${raised} MeV`;
  }
  return `${Number(energy.toPrecision(3))} MeV`;
}

const inGeV = energy => `${Number((energy / 1000).toPrecision(3))} GeV`;

// -- from data to solids ------------------------------------------------------------------------------------------

// One voxel as prisms over four points (counter-clockwise seen from large z). Long arcs are cut finer to look round.
function prisms(grid, slow, fast, z0, z1) {
  const a0 = grid.edges0[slow], a1 = grid.edges0[slow + 1], b0 = grid.edges1[fast], b1 = grid.edges1[fast + 1];
  if (grid.kind === "cartesian") {
    const s0 = .04 * (b1 - b0), s1 = .04 * (a1 - a0); // a gap between neighbours
    return [{ base: [[b0 + s0, a0 + s1], [b1 - s0, a0 + s1], [b1 - s0, a1 - s1], [b0 + s0, a1 - s1]], z0, z1 }];
  }
  const pieces = Math.max(1, Math.ceil((a1 - a0) / .45)), found = [];
  for (let i = 0; i < pieces; i++) {
    const at = t => a0 + (a1 - a0) * t / pieces, p = (r, a) => [r * Math.cos(a), r * Math.sin(a)];
    const r0 = b0 + .03 * (b1 - b0), r1 = b1 - .03 * (b1 - b0);
    found.push({ base: [p(r0, at(i)), p(r1, at(i)), p(r1, at(i + 1)), p(r0, at(i + 1))], z0, z1 });
  }
  return found;
}

function unpack(shower, detector, starts) {
  const hits = [];
  let voxel = 0;
  shower.voxels.forEach((step, i) => {
    voxel += step;
    let layer = starts.findIndex(s => s > voxel) - 1;
    if (layer < 0) layer = detector.layers.length - 1;
    const [number, z0, z1] = detector.layers[layer], grid = detector.grids[number], fasts = grid.edges1.length - 1;
    const inside = voxel - starts[layer], slow = Math.floor(inside / fasts), fast = inside % fasts;
    const solids = prisms(grid, slow, fast, z0, z1);
    hits.push({ energy: shower.energies[i], layer, solids, grid, slow, fast });
  });
  return hits.sort((a, b) => a.energy - b.energy);
}

// -- the camera -----------------------------------------------------------------------------------------------------

class Camera {
  constructor(start) { this.start = start; this.reset(); }
  reset() { Object.assign(this, { yaw: this.start.yaw, pitch: this.start.pitch, zoom: 1, x: 0, y: 0 }); }
  turn(yaw, pitch) {
    this.yaw += yaw;
    this.pitch = Math.min(Math.PI / 2, Math.max(-Math.PI / 2, this.pitch + pitch));
  }
  enlarge(by) { this.zoom = Math.min(30, Math.max(.3, this.zoom * by)); }
  // A function from the world (x right, y up, z away, centred) to the canvas: x, y in pixels and the depth away from the eye.
  view(width, height, size) {
    const cy = Math.cos(this.yaw), sy = Math.sin(this.yaw), cp = Math.cos(this.pitch), sp = Math.sin(this.pitch);
    const scale = this.zoom * .9 * Math.min(width, height * 1.2) / size, far = 4.5 * size;
    const see = (x, y, z) => {
      const u = cy * x + sy * z, w = -sy * x + cy * z, v = cp * y + sp * w, depth = -sp * y + cp * w;
      const near = far / (far + depth);
      return [width / 2 + this.x * width + scale * near * u, height / 2 + this.y * height - scale * near * v, depth];
    };
    see.scale = scale;
    return see;
  }
}

// -- the viewer ---------------------------------------------------------------------------------------------------

function startViewer(box) {
  const data = JSON.parse(box.querySelector("script.scene").textContent), detector = data.detector;
  const [low, high] = data.range, decades = Math.log(high / low);
  const share = energy => Math.log(energy / low) / decades;
  const lego = detector.layers.length === 1; // a single layer has no depth to show: its height is the energy
  const starts = [];
  detector.layers.reduce((sum, [number]) => {
    starts.push(sum);
    const grid = detector.grids[number];
    return sum + (grid.edges0.length - 1) * (grid.edges1.length - 1);
  }, 0);
  const pairs = data.pairs.map(pair => pair.map(shower => unpack(shower, detector, starts)));
  const world = frame(detector, pairs, lego);
  const camera = new Camera(lego ? { yaw: .6, pitch: .62 } : { yaw: -.5, pitch: .32 });
  const state = { pair: Math.floor(data.pairs.length / 2), least: low, moving: false };
  box.hidden = false;
  const stages = [...box.querySelectorAll(".stage")].map((element, side) => ({
    element, side, canvas: element.querySelector("canvas"), tip: element.querySelector(".tip"), faces: [],
  }));

  // Where drawing is slow, showers on the move are drawn with one face a voxel, and in full when they rest.
  let asked = false, coarse = false, slow = false, rest = 0;
  const redraw = (moving = false) => {
    clearTimeout(rest);
    coarse = moving && slow;
    if (coarse) rest = setTimeout(() => redraw(), 200);
    if (asked) return;
    asked = true;
    requestAnimationFrame(() => {
      asked = false;
      const began = performance.now(), full = !coarse;
      for (const stage of stages) paint(stage);
      if (full) slow = performance.now() - began > 30;
    });
  };

  function paint(stage) {
    const { canvas } = stage, ratio = Math.min(devicePixelRatio || 1, 2);
    const width = canvas.clientWidth, height = canvas.clientHeight;
    if (!width) return;
    if (canvas.width !== Math.round(width * ratio)) canvas.width = Math.round(width * ratio);
    if (canvas.height !== Math.round(height * ratio)) canvas.height = Math.round(height * ratio);
    const pen = canvas.getContext("2d"), ink = getComputedStyle(box).getPropertyValue("--soft").trim();
    pen.setTransform(ratio, 0, 0, ratio, 0, 0);
    pen.clearRect(0, 0, width, height);
    pen.lineJoin = "round";
    const see = camera.view(width, height, world.size), at = p => see(...world.place(p));
    const shower = data.pairs[state.pair][stage.side], hits = pairs[state.pair][stage.side];
    outline(pen, world, at, ink, true);
    track(pen, shower, world, at, lego);
    stage.faces = solidFaces(hits.filter(hit => hit.energy >= state.least), world, at, hit => share(hit.energy), lego, coarse);
    for (const face of stage.faces) {
      pen.beginPath();
      face.points.forEach((p, i) => i ? pen.lineTo(p[0], p[1]) : pen.moveTo(p[0], p[1]));
      pen.closePath();
      pen.fillStyle = face.colour;
      pen.fill();
    }
    outline(pen, world, at, ink, false);
    axes(pen, world, see, height, ink, lego);
    say(stage, shower, hits);
  }

  function say(stage, shower, hits) {
    const shown = hits.filter(hit => hit.energy >= state.least);
    const energy = shown.reduce((sum, hit) => sum + hit.energy, 0);
    const percent = shower.total > 0 ? Math.min(100, 100 * energy / shower.total) : 0;
    stage.element.querySelector("p").textContent = shower.hits
      ? `${inGeV(shower.energy)} in, ${inMeV(shower.total)} seen in ${shower.hits} voxels; `
        + `drawn: ${shown.length} voxels, ${Number(percent.toPrecision(3))} % of the energy`
      : `${inGeV(shower.energy)} in, no voxel holds energy`;
  }

  // -- controls
  const energies = box.querySelector(".energies"), group = `energies-${Math.random()}`;
  data.pairs.forEach((pair, number) => {
    const label = document.createElement("label"), input = document.createElement("input"), text = document.createElement("span");
    Object.assign(input, { type: "radio", name: group, value: number, checked: number === state.pair });
    label.className = "pick";
    text.textContent = inGeV(pair[0].energy);
    label.append(input, text);
    energies.append(label);
    input.addEventListener("change", () => { state.pair = number; redraw(); });
  });
  const slider = box.querySelector(".threshold"), output = box.querySelector("output");
  const choose = () => {
    state.least = slider.value === "0" ? 0 : low * Math.exp(decades * slider.value / 100);
    output.textContent = state.least ? `≥ ${inMeV(state.least)}` : "all voxels";
    redraw();
  };
  slider.addEventListener("input", choose);
  const acts = {
    in: () => camera.enlarge(1.3),
    out: () => camera.enlarge(1 / 1.3),
    front: () => Object.assign(camera, lego ? { yaw: 0, pitch: Math.PI / 2 } : { yaw: -Math.PI / 2, pitch: 0 }),
    side: () => Object.assign(camera, { yaw: 0, pitch: 0 }),
    reset: () => { camera.reset(); slider.value = 0; choose(); },
  };
  box.querySelector(".buttons").addEventListener("click", event => {
    const act = acts[event.target.dataset.do];
    if (act) { act(); redraw(); }
  });
  for (const stage of stages) listen(stage, camera, acts, redraw, lego);
  const most = i => Math.max(...data.pairs.flat().map(shower => shower.left_out[i]));
  box.querySelector(".note").textContent = `Outline: ${world.text}. `
    + (lego ? "The detector has one layer: a voxel's height is its energy, on the same scale as its colour. " : "")
    + (most(0) ? `Not drawn: the faintest voxels, at most ${most(0)} a shower, together ${inMeV(most(1))}.` : "");
  const legend = () => paintScale(box.querySelector(".scale"), low, high);
  legend();
  choose();
  document.addEventListener("schemechange", () => { legend(); redraw(); });
  new ResizeObserver(() => redraw()).observe(box);
}

// The box that holds the shower, where it lies in the camera's world, and its lines.
function frame(detector, pairs, lego) {
  let side = [0, 0];
  const polar = detector.grids.every(grid => grid.kind === "polar");
  for (const grid of detector.grids) {
    const reach = edges => Math.max(...edges.map(Math.abs));
    const r = reach(grid.edges1);
    side = [Math.max(side[0], r), Math.max(side[1], grid.kind === "polar" ? r : reach(grid.edges0))];
  }
  const z0 = detector.layers[0][1], z1 = detector.layers[detector.layers.length - 1][2];
  const span = Math.max(2 * side[0], 2 * side[1]), top = .45 * span; // height of the brightest voxel of a single layer
  const middle = (z0 + z1) / 2;
  // Several layers: z runs to the right, y up, x away. One layer: x to the right, y away, energy up.
  const place = lego ? p => [p[0], p[2] * top - top / 5, p[1]] : p => [p[2] - middle, p[1], p[0]];
  const size = lego ? Math.hypot(span, span) * .86 : Math.hypot(2 * side[0], 2 * side[1], z1 - z0) * .9;
  const ends = lego ? [0, 1] : [z0, z1], lines = [];
  if (polar) {
    const ring = z => Array.from({ length: 65 }, (_, i) => [side[0] * Math.cos(i * Math.PI / 32), side[0] * Math.sin(i * Math.PI / 32), z]);
    lines.push(ring(ends[0]), ...(lego ? [] : [ring(ends[1])]));
    if (!lego) for (let i = 0; i < 64; i += 16) lines.push([ring(z0)[i], ring(z1)[i]]);
  } else {
    const corner = (i, z) => [[-1, -1], [1, -1], [1, 1], [-1, 1]].map(([a, b]) => [a * side[0], b * side[1], z])[i % 4];
    for (const z of lego ? [0] : ends) for (let i = 0; i < 4; i++) lines.push([corner(i, z), corner(i + 1, z)]);
    if (!lego) for (let i = 0; i < 4; i++) lines.push([corner(i, z0), corner(i, z1)]);
  }
  const text = polar ? `radius ${round(side[0])} mm` : `${round(2 * side[0])} × ${round(2 * side[1])} mm`;
  return { side, z0, z1, top, size, place, lines, lego, text: lego ? text : `${text}, ${round(z1 - z0)} mm deep` };
}

const round = value => Number(value.toPrecision(3));

// Lines of the detector: those behind its middle before the shower is drawn, the others thinly over it.
function outline(pen, world, at, ink, behind) {
  pen.strokeStyle = ink;
  pen.lineWidth = 1;
  for (const line of world.lines) {
    for (let i = 0; i + 1 < line.length; i++) {
      const a = at(line[i]), b = at(line[i + 1]), back = a[2] + b[2] > 0;
      if (back !== behind) continue;
      pen.globalAlpha = back ? .75 : .3;
      pen.beginPath();
      pen.moveTo(a[0], a[1]);
      pen.lineTo(b[0], b[1]);
      pen.stroke();
    }
  }
  pen.globalAlpha = 1;
}

// The incident particle: an arrow up to the front face, dashes beyond.
function track(pen, shower, world, at, lego) {
  const [x, y, tx, ty] = shower.axis, reach = .22 * (lego ? world.side[0] : world.z1 - world.z0);
  const point = z => [x + tx * z, y + ty * z, world.z0 + z];
  const style = getComputedStyle(document.documentElement).getPropertyValue("--accent").trim();
  pen.strokeStyle = pen.fillStyle = style;
  pen.lineWidth = 1.6;
  const line = (a, b, dash) => {
    pen.setLineDash(dash);
    pen.beginPath();
    pen.moveTo(a[0], a[1]);
    pen.lineTo(b[0], b[1]);
    pen.stroke();
    pen.setLineDash([]);
  };
  if (lego) { // seen from above: a cross where it enters, a line to where it would leave
    const s = .03 * world.side[0], p = (dx, dy) => at([x + dx, y + dy, 0]);
    line(p(-s, -s), p(s, s), []);
    line(p(-s, s), p(s, -s), []);
    const depth = world.z1 - world.z0;
    line(at([x, y, 0]), at([x + tx * depth, y + ty * depth, 0]), [4, 4]);
    return;
  }
  const start = at(point(-reach)), entry = at(point(0));
  line(start, entry, []);
  line(entry, at(point(world.z1 - world.z0)), [3, 5]);
  const angle = Math.atan2(entry[1] - start[1], entry[0] - start[0]);
  if (Math.hypot(entry[0] - start[0], entry[1] - start[1]) < 4) return;
  pen.beginPath();
  pen.moveTo(entry[0], entry[1]);
  for (const turn of [2.75, -2.75]) pen.lineTo(entry[0] + 10 * Math.cos(angle + turn), entry[1] + 10 * Math.sin(angle + turn));
  pen.fill();
}

// Visible faces of all solids, from back to front.
function solidFaces(hits, world, at, share, lego, coarse) {
  const solids = [];
  for (const hit of hits) {
    const part = share(hit), colour = colourOf(part);
    for (const solid of hit.solids) {
      const z0 = lego ? 0 : solid.z0, z1 = lego ? Math.max(part, .004) : solid.z1;
      const low = solid.base.map(p => at([p[0], p[1], z0])), high = solid.base.map(p => at([p[0], p[1], z1]));
      const depth = low.reduce((sum, p) => sum + p[2], 0) + high.reduce((sum, p) => sum + p[2], 0);
      solids.push({ hit, part, colour, low, high, depth });
    }
  }
  solids.sort((a, b) => b.depth - a.depth);
  const faces = [];
  for (const { hit, part, colour, low, high } of solids) {
    // Faint voxels let the core shine through; nothing hides behind the columns of a single layer.
    const alpha = lego ? 1 : .2 + .8 * part ** .8;
    const quads = [[low, 1, .86], [high, -1, 1]].map(([q, turn, light]) => [turn > 0 ? [...q].reverse() : q, light]);
    for (let i = 0; i < 4; i++) {
      const j = (i + 1) % 4;
      quads.push([[low[i], low[j], high[j], high[i]], i % 2 ? .72 : .84]);
    }
    if (coarse) quads.sort((a, b) => signedArea(a[0]) - signedArea(b[0])).splice(1);
    for (const [points, light] of quads) {
      const area = signedArea(points); // y runs down on canvases: faces turned to us are negative
      if (-area < .02) continue; // turned away, or too thin to be seen
      faces.push({ hit, points, colour: `rgba(${colour.map(c => Math.round(c * light)).join(",")},${alpha.toFixed(2)})` });
    }
  }
  return faces;
}

function signedArea(points) {
  let sum = 0;
  for (let i = 0; i < points.length; i++) {
    const a = points[i], b = points[(i + 1) % points.length];
    sum += a[0] * b[1] - a[1] * b[0];
  }
  return sum / 2;
}

// Small axes in the corner.
function axes(pen, world, see, height, ink, lego) {
  const centre = [38, height - 44], zero = see(0, 0, 0);
  const directions = { x: [1, 0, 0], y: [0, 1, 0], ...(lego ? { E: [0, 0, 1] } : { z: [0, 0, 1] }) };
  pen.strokeStyle = pen.fillStyle = ink;
  pen.font = "12px system-ui, sans-serif";
  pen.textAlign = "center";
  pen.textBaseline = "middle";
  pen.lineWidth = 1.3;
  const origin = world.place([0, 0, 0]);
  for (const [name, direction] of Object.entries(directions)) {
    const end = world.place(direction).map((v, i) => v - origin[i]), length = Math.hypot(...end);
    const p = see(...end.map(v => v / length * .1 * world.size));
    const dx = p[0] - zero[0], dy = p[1] - zero[1], full = see.scale * .1 * world.size;
    const x = centre[0] + 26 * dx / full, y = centre[1] + 26 * dy / full;
    pen.beginPath();
    pen.moveTo(...centre);
    pen.lineTo(x, y);
    pen.stroke();
    pen.fillText(name, centre[0] + 36 * dx / full, centre[1] + 36 * dy / full);
  }
}

function listen(stage, camera, acts, redraw, lego) {
  const { canvas, tip } = stage, fingers = new Map();
  let spread = 0;
  const distance = () => {
    const [a, b] = [...fingers.values()];
    return Math.hypot(a[0] - b[0], a[1] - b[1]);
  };
  canvas.addEventListener("pointerdown", event => {
    canvas.setPointerCapture(event.pointerId);
    fingers.set(event.pointerId, [event.clientX, event.clientY]);
    if (fingers.size === 2) spread = distance();
    tip.hidden = true;
  });
  canvas.addEventListener("pointermove", event => {
    const last = fingers.get(event.pointerId);
    if (!last) return point(event);
    const dx = event.clientX - last[0], dy = event.clientY - last[1];
    fingers.set(event.pointerId, [event.clientX, event.clientY]);
    if (fingers.size === 2) {
      const now = distance();
      if (spread > 0 && now > 0) camera.enlarge(now / spread);
      spread = now;
    } else if (event.shiftKey) {
      camera.x += dx / canvas.clientWidth;
      camera.y += dy / canvas.clientHeight;
    } else camera.turn(-dx * .009, dy * .009);
    redraw(true);
  });
  for (const name of ["pointerup", "pointercancel"]) canvas.addEventListener(name, event => fingers.delete(event.pointerId));
  canvas.addEventListener("pointerleave", () => { tip.hidden = true; });
  canvas.addEventListener("wheel", event => {
    event.preventDefault();
    camera.enlarge(Math.exp(-Math.sign(event.deltaY) * Math.min(Math.abs(event.deltaY), 120) * .0016));
    redraw(true);
  }, { passive: false });
  canvas.addEventListener("keydown", event => {
    const keys = {
      ArrowLeft: () => camera.turn(.1, 0), ArrowRight: () => camera.turn(-.1, 0), ArrowUp: () => camera.turn(0, -.1),
      ArrowDown: () => camera.turn(0, .1), "+": acts.in, "=": acts.in, "-": acts.out, 0: acts.reset,
    };
    if (!keys[event.key] || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    keys[event.key]();
    redraw();
  });

  // The voxel under the pointer: the last face drawn there.
  function point(event) {
    const box = canvas.getBoundingClientRect(), x = event.clientX - box.left, y = event.clientY - box.top;
    let face = null;
    for (let i = stage.faces.length - 1; i >= 0 && !face; i--) if (inside(stage.faces[i].points, x, y)) face = stage.faces[i];
    tip.hidden = !face;
    if (!face) return;
    const { hit } = face, { grid } = hit, mid = (edges, i) => round((edges[i] + edges[i + 1]) / 2);
    const where = grid.kind === "cartesian"
      ? `x ${mid(grid.edges1, hit.fast)}, y ${mid(grid.edges0, hit.slow)} mm`
      : `r ${mid(grid.edges1, hit.fast)} mm, α ${mid(grid.edges0, hit.slow)} rad`;
    tip.textContent = `${inMeV(hit.energy)}\n${where}${lego ? "" : `\nlayer ${hit.layer}`}`;
    tip.style.left = `${Math.min(canvas.offsetLeft + x + 14, stage.element.clientWidth - tip.offsetWidth - 6)}px`;
    tip.style.top = `${canvas.offsetTop + y + 14}px`;
  }
}

function inside(points, x, y) {
  let found = false;
  for (let i = 0, j = points.length - 1; i < points.length; j = i++) {
    const [ax, ay] = points[i], [bx, by] = points[j];
    if (ay > y !== by > y && x < (bx - ax) * (y - ay) / (by - ay) + ax) found = !found;
  }
  return found;
}

function paintScale(box, low, high) {
  const bar = box.querySelector(".bar"), ticks = box.querySelector(".ticks"), steps = 24;
  const stops = Array.from({ length: steps + 1 }, (_, i) => `rgb(${colourOf(i / steps).join(",")})`);
  bar.style.background = `linear-gradient(to right, ${stops.join(",")})`;
  ticks.replaceChildren();
  const tick = energy => {
    const share = Math.log(energy / low) / Math.log(high / low), span = document.createElement("span");
    span.textContent = inMeV(energy);
    span.style.left = `${100 * share}%`;
    ticks.append(span);
  };
  const first = Math.ceil(Math.log10(low) - 1e-9), last = Math.floor(Math.log10(high) + 1e-9);
  if (last - first >= 1) {
    for (let power = first; power <= last; power++) {
      const share = Math.log(10 ** power / low) / Math.log(high / low);
      if (share >= .03 && share <= .97) tick(10 ** power);
    }
  } else for (const t of [.08, .5, .92]) tick(low * (high / low) ** t);
}
