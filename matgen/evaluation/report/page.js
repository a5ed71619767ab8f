"use strict";
// Values under the pointer.
(() => {
  const tip = document.getElementById("tip");
  document.addEventListener("pointermove", (event) => {
    const mark = event.target instanceof Element ? event.target.closest("[data-tip]") : null;
    tip.classList.toggle("on", mark !== null);
    if (!mark) return;
    tip.textContent = mark.getAttribute("data-tip");
    const box = tip.getBoundingClientRect();
    tip.style.left = Math.max(4, Math.min(event.clientX + 14, innerWidth - box.width - 8)) + "px";
    tip.style.top = (event.clientY + box.height + 26 > innerHeight ? event.clientY - box.height - 12 : event.clientY + 16) + "px";
  });
})();

// Crystals in three dimensions, on a plain canvas: atoms, bonds and cell edges, painted from back to front.
(() => {
  const data = JSON.parse(document.getElementById("crystal-data").textContent);
  const get = (id) => document.getElementById(id);
  const dialog = get("viewer"), canvas = get("viewer-canvas"), context = canvas.getContext("2d");
  const ATOM = 0.42, REACH = 1.18, FACE = 0.02, MAX_ATOMS = 1600;
  let current = 0, scene = null, view = null, zoom = 1;

  const turn = (axis, angle) => {
    const c = Math.cos(angle), s = Math.sin(angle);
    return axis === "x" ? [[1, 0, 0], [0, c, -s], [0, s, c]] : axis === "y" ? [[c, 0, s], [0, 1, 0], [-s, 0, c]] : [[c, -s, 0], [s, c, 0], [0, 0, 1]];
  };
  const multiply = (a, b) => a.map((row) => [0, 1, 2].map((j) => row[0] * b[0][j] + row[1] * b[1][j] + row[2] * b[2][j]));
  const apply = (m, v) => m.map((row) => row[0] * v[0] + row[1] * v[1] + row[2] * v[2]);
  const cartesian = (lattice, f) => [0, 1, 2].map((j) => f[0] * lattice[0][j] + f[1] * lattice[1][j] + f[2] * lattice[2][j]);
  const UPRIGHT = [[1, 0, 0], [0, 0, 1], [0, -1, 0]];
  const start = () => multiply(UPRIGHT, multiply(turn("x", 0.244), turn("z", -0.419)));

  // Balls of one or several cells; listed joins are (ball, ball, cell of the second), and end half-way where that cell is not shown.
  function build(crystal, repeat, blocks) {
    const given = blocks ? crystal.blocks : crystal, listed = given.bonds, atoms = [], segments = [], home = [];
    given.coords.forEach((raw, i) => {
      const base = listed ? raw : raw.map((x) => { const y = x - Math.floor(x); return y > 1 - FACE ? y - 1 : y; });
      const shifts = base.map((x) => { const list = []; for (let n = 0; n < repeat + (!listed && Math.abs(x) < FACE ? 1 : 0); n++) list.push(n); return list; });
      home.push(atoms.length);
      for (const p of shifts[0]) for (const q of shifts[1]) for (const r of shifts[2]) {
        const at = cartesian(crystal.lattice, [base[0] + p, base[1] + q, base[2] + r]);
        if (blocks) { atoms.push({ at, color: given.colors[i], radius: given.radii[i] }); continue; }
        const radius = data.radii[given.numbers[i]];
        atoms.push({ at, color: data.colors[given.numbers[i]], radius: ATOM * radius, reach: REACH * radius });
      }
    });
    if (listed) for (const [i, j, u, v, w] of listed) for (let p = 0; p < repeat; p++) for (let q = 0; q < repeat; q++) for (let r = 0; r < repeat; r++) {
      for (const [from, to, sign] of [[i, j, 1], [j, i, -1]]) {
        const cell = [p + sign * u, q + sign * v, r + sign * w], inside = cell.every((x) => x >= 0 && x < repeat);
        if (inside && sign < 0) continue;
        const a = atoms[home[from] + (p * repeat + q) * repeat + r], b = cartesian(crystal.lattice, given.coords[to].map((x, k) => x + cell[k]));
        segments.push({ a: a.at, b: inside ? b : a.at.map((x, k) => (x + b[k]) / 2), start: 0.9 * a.radius, end: inside ? 0.9 * atoms[home[to]].radius : 0 });
      }
    }
    else if (atoms.length <= MAX_ATOMS) for (let i = 0; i < atoms.length; i++) for (let j = i + 1; j < atoms.length; j++) {
      const a = atoms[i].at, b = atoms[j].at, reach = atoms[i].reach + atoms[j].reach;
      const d = (a[0] - b[0]) ** 2 + (a[1] - b[1]) ** 2 + (a[2] - b[2]) ** 2;
      if (d < reach * reach && d > 0.16) segments.push({ a, b, start: 0.9 * atoms[i].radius, end: 0.9 * atoms[j].radius });
    }
    const corners = [];
    for (let n = 0; n < 8; n++) corners.push(cartesian(crystal.lattice, [n & 1, (n >> 1) & 1, n >> 2]));
    const far = cartesian(crystal.lattice, [repeat, repeat, repeat]);
    const centre = far.map((x) => x / 2);
    const size = Math.max(...atoms.map((atom) => Math.hypot(...atom.at.map((x, k) => x - centre[k])) + atom.radius), Math.hypot(...centre));
    return { atoms, segments, corners, centre, size, thick: blocks ? 0.3 : 0.17 };
  }

  const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const mix = (hex, to, share) => "rgb(" + [1, 3, 5].map((i) => { const c = parseInt(hex.slice(i, i + 2), 16); return Math.round(c + share * (to - c)); }).join(",") + ")";

  function draw() {
    if (!scene || !dialog.open) return;
    const ratio = devicePixelRatio || 1, width = canvas.clientWidth, height = canvas.clientHeight;
    if (canvas.width !== Math.round(width * ratio)) { canvas.width = Math.round(width * ratio); canvas.height = Math.round(height * ratio); }
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.clearRect(0, 0, width, height);
    const scale = (0.46 * Math.min(width, height) * zoom) / scene.size, depth = 5 * scene.size;
    const place = (v) => {
      const [x, y, z] = apply(view, v.map((t, k) => t - scene.centre[k])), near = depth / Math.max(depth - z, 0.2 * depth);
      return { x: width / 2 + scale * near * x, y: height / 2 - scale * near * y, z, near };
    };
    const items = [], points = scene.atoms.map((atom) => place(atom.at));
    const segment = (a, b, color, thick) => items.push([(a.z + b.z) / 2, () => {
      context.strokeStyle = color; context.lineWidth = thick; context.beginPath(); context.moveTo(a.x, a.y); context.lineTo(b.x, b.y); context.stroke();
    }]);
    context.lineCap = "round";
    if (get("viewer-cell").checked) {
      const color = css("--edge");
      for (let i = 0; i < 8; i++) for (const bit of [1, 2, 4]) if (!(i & bit)) {
        const a = scene.corners[i], b = scene.corners[i | bit], at = (t) => place(a.map((x, k) => x + t * (b[k] - x)));
        for (let n = 0; n < 6; n++) segment(at(n / 6), at((n + 1) / 6), color, 1.4);
      }
    }
    if (get("viewer-bonds").checked) {
      const color = css("--bond");
      for (const { a, b, start, end } of scene.segments) {
        const long = Math.hypot(...a.map((x, k) => b[k] - x)), at = (t) => place(a.map((x, k) => x + t * (b[k] - x)));
        if (long > start + end) segment(at(start / long), at(1 - end / long), color, scene.thick * scale);
      }
    }
    scene.atoms.forEach((atom, i) => {
      const p = points[i], radius = Math.max(0.5, atom.radius * scale * p.near), color = atom.color;
      items.push([p.z, () => {
        const shade = context.createRadialGradient(p.x - 0.3 * radius, p.y - 0.36 * radius, 0.05 * radius, p.x, p.y, 1.08 * radius);
        shade.addColorStop(0, mix(color, 255, 0.65)); shade.addColorStop(0.45, color); shade.addColorStop(1, mix(color, 0, 0.42));
        context.fillStyle = shade; context.beginPath(); context.arc(p.x, p.y, radius, 0, 2 * Math.PI); context.fill();
      }]);
    });
    items.sort((a, b) => a[0] - b[0]);
    for (const [, paint] of items) paint();
  }

  let waiting = false;
  const redraw = () => { if (!waiting) { waiting = true; requestAnimationFrame(() => { waiting = false; draw(); }); } };
  const rebuild = () => {
    const crystal = data.crystals[current], wanted = get("viewer-super").checked ? 2 : 1;
    scene = build(crystal, wanted, Boolean(crystal.blocks) && get("viewer-blocks").checked); redraw();
  };
  function show(index) {
    current = (index + data.crystals.length) % data.crystals.length;
    const crystal = data.crystals[current];
    get("viewer-blocks").parentElement.hidden = !crystal.blocks;
    get("viewer-title").innerHTML = crystal.title;
    get("viewer-key").innerHTML = crystal.key;
    get("viewer-facts").innerHTML = crystal.facts.map(([name, value]) => `<dt>${name}</dt><dd>${value}</dd>`).join("");
    const link = document.querySelector(`.picture[data-index="${current}"]`).closest("article").querySelector("a[download]");
    get("viewer-cif").href = link.href; get("viewer-cif").download = link.download;
    view = start(); zoom = 1;
    if (!dialog.open) dialog.showModal();
    rebuild(); canvas.focus({ preventScroll: true });
  }
  const rotate = (dx, dy) => { view = multiply(multiply(turn("x", dy), turn("y", dx)), view); redraw(); };
  const rescale = (factor) => { zoom = Math.min(12, Math.max(0.2, zoom * factor)); redraw(); };

  document.addEventListener("click", (event) => {
    const picture = event.target instanceof Element ? event.target.closest("button.picture") : null;
    if (picture) { get("viewer-blocks").checked = picture.dataset.view === "blocks"; show(Number(picture.dataset.index)); }
  });
  const pointers = new Map();
  canvas.addEventListener("pointerdown", (event) => { try { canvas.setPointerCapture(event.pointerId); } catch (error) { /* a pointer that is gone already */ } pointers.set(event.pointerId, [event.clientX, event.clientY]); });
  canvas.addEventListener("pointermove", (event) => {
    const last = pointers.get(event.pointerId);
    if (!last) return;
    const now = [event.clientX, event.clientY];
    if (pointers.size === 1) rotate(0.009 * (now[0] - last[0]), 0.009 * (now[1] - last[1]));
    else {
      const other = [...pointers].find(([id]) => id !== event.pointerId)[1];
      const apart = (p) => Math.hypot(p[0] - other[0], p[1] - other[1]) || 1;
      rescale(apart(now) / apart(last));
    }
    pointers.set(event.pointerId, now);
  });
  for (const kind of ["pointerup", "pointercancel"]) canvas.addEventListener(kind, (event) => pointers.delete(event.pointerId));
  canvas.addEventListener("wheel", (event) => { event.preventDefault(); rescale(Math.exp(-0.0014 * event.deltaY)); }, { passive: false });
  const keys = { ArrowLeft: [-0.12, 0], ArrowRight: [0.12, 0], ArrowUp: [0, -0.12], ArrowDown: [0, 0.12] };
  canvas.addEventListener("keydown", (event) => {
    if (keys[event.key]) { event.preventDefault(); rotate(...keys[event.key]); }
    if (event.key === "+" || event.key === "=") rescale(1.15);
    if (event.key === "-") rescale(1 / 1.15);
  });
  get("viewer-axes").addEventListener("click", (event) => {
    const axis = event.target.dataset.axis;
    if (axis === undefined) return;
    const lattice = data.crystals[current].lattice, unit = (v) => v.map((x) => x / Math.hypot(...v));
    const cross = (a, b) => [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]];
    const front = unit(lattice[axis]), right = unit(cross(lattice[(Number(axis) + 2) % 3], front)), up = cross(front, right);
    view = [right, up, front]; redraw();
  });
  get("viewer-close").addEventListener("click", () => dialog.close());
  get("viewer-previous").addEventListener("click", () => show(current - 1));
  get("viewer-next").addEventListener("click", () => show(current + 1));
  for (const id of ["viewer-super", "viewer-blocks"]) get(id).addEventListener("change", rebuild);
  for (const id of ["viewer-bonds", "viewer-cell"]) get(id).addEventListener("change", redraw);
  dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
  addEventListener("resize", redraw);
})();
