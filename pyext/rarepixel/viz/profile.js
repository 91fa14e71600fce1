// The page: what is chosen, its tables and plots. DATA comes before, and window.rarepixel from profile_formulas.js.
(() => {
  const { GRID, PARTS, logistic, measured, population, profile } = window.rarepixel;
  const MOST = 7; // colours
  const one = (selector) => document.querySelector(selector);
  const element = (name, attributes = {}, ...children) => {
    const made = document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    made.append(...children);
    return made;
  };

  // A name that may go on in the next line where its options do.
  const breaking = (name) => element("span", {}, ...name.split(/(?<=[:,/])/).flatMap((part) => [part, element("wbr")]));

  // ---- State ----

  const copy = (value) => JSON.parse(JSON.stringify(value));
  const given = DATA.given;
  // JSON has no NaN.
  for (const { curve } of given.filter((loss) => !loss.kind)) {
    for (const name of ["loss", "gradient", "weight"]) curve[name] = curve[name].map((values) => values.map((value) => value ?? NaN));
  }
  const others = Object.keys(DATA.usual)
    .filter((kind) => !given.some((loss) => loss.kind === kind && same(loss.parameters, DATA.usual[kind])))
    .map((kind) => ({ name: kind, kind, parameters: DATA.usual[kind] }));
  const entries = [...given, ...others];
  let state, quantiles, pixels;

  function same(a, b) {
    return JSON.stringify(a) === JSON.stringify(b);
  }

  function reset() {
    state = {
      prevalence: DATA.prevalence,
      distributions: copy(DATA.distributions),
      parameters: entries.map((entry) => copy(entry.parameters ?? {})),
      slots: entries.map((_, place) => (place < given.length ? place : -1)),
      logit: 0,
    };
    build();
    update();
  }

  const moved = () => state.prevalence !== DATA.prevalence || !same(state.distributions, DATA.distributions);
  const chosen = () => entries.map((_, place) => place).filter((place) => state.slots[place] >= 0)
    .sort((a, b) => state.slots[a] - state.slots[b]);

  // As rarepixel takes it: the name, and the parameters that are not the usual ones.
  function label(place) {
    const { name, kind, parameters } = entries[place], now = state.parameters[place];
    if (!kind || same(now, parameters)) return name;
    const changed = Object.entries(now).filter(([key, value]) => value !== DATA.usual[kind][key]);
    return [kind, ...changed.map(([key, value]) => `${key}=${value ?? "null"}`)].join(":");
  }

  // ---- Controls ----

  // Smallest and largest value, and whether equal steps are equal factors.
  const RANGES = {
    prevalence: [1e-5, 0.5, true], mean: [-10, 10], spread: [0.2, 5],
    positive_weight: [0.01, 1000, true], negative_weight: [0.01, 1000, true], k: [0.001, 1, true], key: [0, 100],
    num_bins: [1, 16], alpha: [0, 1], beta: [0, 1], gamma: [0, 5], weight: [0, 1], delta: [0, 1], focal_gamma: [0, 5],
    tversky_gamma: [0.5, 3], smooth: [1e-7, 1000, true],
    "focal_tversky.gamma": [0.5, 3], "unified_focal.gamma": [0, 1],
  };
  const WHOLE = new Set(["key", "num_bins"]);
  const CHOICES = { schedule: ["linear", "square", "log"], weights: ["square", "simple", "uniform"] };
  const STEPS = 240;

  function slider(text, name, range, read, write, show = number) {
    let [low, high, isLog] = range;
    low = isLog && read() <= 0 ? low : Math.min(low, read());
    high = Math.max(high, read());
    const whole = WHOLE.has(name), steps = whole ? high - low : STEPS;
    const input = element("input", { type: "range", min: 0, max: steps, "data-name": name });
    const output = element("output");
    const place = (value) => (isLog ? Math.log(Math.max(value, low) / low) / Math.log(high / low) : (value - low) / (high - low));
    const value = () => {
      const share = input.value / steps;
      const found = isLog ? low * (high / low) ** share : low + (high - low) * share;
      return whole ? Math.round(found) : isLog ? Number(found.toPrecision(3)) : Number(found.toFixed(2));
    };
    const tell = () => {
      output.textContent = show(read());
      input.setAttribute("aria-valuetext", output.textContent);
    };
    input.value = Math.round(place(read()) * steps);
    tell();
    input.addEventListener("input", () => {
      write(value());
      tell();
      update();
    });
    return element("label", {}, element("span", {}, text), output, input);
  }

  function tickBox(text, checked, write) {
    const input = element("input", { type: "checkbox" });
    input.checked = checked;
    input.addEventListener("change", () => write(input.checked));
    return element("label", { class: "tick-box" }, input, element("span", {}, text));
  }

  function control(place, name) {
    const values = state.parameters[place], kind = entries[place].kind, value = values[name];
    const set = (next) => { values[name] = next; };
    if (name in CHOICES) {
      const select = element("select", {}, ...CHOICES[name].map((choice) => element("option", {}, choice)));
      select.value = value;
      select.addEventListener("change", () => {
        set(select.value);
        update();
      });
      return [element("label", {}, element("span", {}, name), select)];
    }
    if (typeof value === "boolean") {
      return [tickBox(name, value, (next) => {
        set(next);
        update();
      })];
    }
    const made = [];
    const range = RANGES[`${kind}.${name}`] ?? RANGES[name];
    if (value !== null) made.push(slider(name, name, range, () => values[name], set));
    if (name === "alpha" && (kind === "focal" || kind === "hybrid_focal")) {
      made.push(tickBox("no alpha: both classes weigh 1", value === null, (next) => {
        set(next ? null : DATA.usual[kind].alpha);
        build();
        update();
      }));
    }
    return made;
  }

  function build() {
    const shown = [slider("prevalence", "prevalence", RANGES.prevalence, () => state.prevalence,
      (value) => { state.prevalence = value; }, percent)];
    (state.distributions ?? []).forEach((of, place) => {
      const which = place ? "positives" : "negatives";
      for (const name of ["mean", "spread"]) {
        shown.push(slider(`${which}: ${name} of the logits`, name, RANGES[name], () => of[name], (value) => { of[name] = value; }));
      }
    });
    one("#population").replaceChildren(...shown);
    one("#given").replaceChildren(...given.map((_, place) => lossControl(place)));
    one("#others").replaceChildren(...others.map((_, place) => lossControl(given.length + place)));
  }

  function lossControl(place) {
    const entry = entries[place], input = element("input", { type: "checkbox", "data-loss": entry.name });
    const box = element("div"), parameters = element("div", { class: "parameters" });
    const fill = () => {
      const slot = state.slots[place];
      box.className = slot < 0 ? "" : `c${slot}`;
      input.checked = slot >= 0;
      parameters.replaceChildren(...(slot < 0 ? [] : Object.keys(state.parameters[place]).flatMap((name) => control(place, name))));
      if (slot >= 0 && !entry.kind) {
        parameters.append(element("p", { class: "note" }, "Computed beforehand: its curves do not move with the sliders."));
      }
    };
    input.addEventListener("change", () => {
      const free = Array.from({ length: MOST }, (_, slot) => slot).find((slot) => !state.slots.includes(slot));
      state.slots[place] = input.checked ? free ?? -1 : -1;
      fill();
      update();
    });
    fill();
    box.append(element("label", { class: "chosen-loss" }, input, breaking(entry.name)), parameters);
    return box;
  }

  // ---- Numbers ----

  const number = (value) => {
    if (value === null || value === undefined || Number.isNaN(value)) return "-";
    if (value === 0) return "0";
    const size = Math.abs(value);
    return size >= 1e5 || size < 1e-4 ? value.toExponential(1) : String(Number(value.toPrecision(3)));
  };
  const percent = (share) => (Number.isFinite(share) ? `${number(100 * share)} %` : "-");

  let found = new Map();
  let drawn = 0;

  function update() {
    cancelAnimationFrame(drawn);
    drawn = requestAnimationFrame(show);
  }

  function show() {
    quantiles = DATA.knots ? DATA.knots.map(measured) : state.distributions.map(({ mean, spread }) => logistic(mean, spread));
    pixels = population(state.prevalence, quantiles);
    found = new Map(chosen().map((place) => {
      const { kind, curve } = entries[place];
      return [place, kind ? profile(kind, state.parameters[place], pixels) : curve];
    }));
    const full = !state.slots.includes(-1) || chosen().length >= MOST;
    for (const input of document.querySelectorAll("[data-loss]")) input.disabled = full && !input.checked;
    one("#note").textContent = `${pixels.sizes[1].toLocaleString("en")} positive and ${pixels.sizes[0].toLocaleString("en")} negative pixels`
      + (pixels.sizes[1] < 64 && pixels.size === 2 ** 20 ? "; no more than 1,048,576 are looked at, so that positives are few" : "");
    answer();
    table();
    plots();
    readOut();
  }

  const isStale = (place) => !entries[place].kind && moved();

  function answer() {
    const ranked = [...found].filter(([place, { shares }]) => !isStale(place) && Number.isFinite(shares.positives))
      .sort(([, a], [, b]) => a.shares.positives - b.shares.positives);
    let text = "Choose a loss.";
    if (ranked.length) {
      const share = ([, loss]) => percent(loss.shares.positives);
      const least = ranked[0], most = ranked[ranked.length - 1];
      text = `At a prevalence of ${percent(state.prevalence)}, positives get ${share(least)} of the gradient under ${label(least[0])}`
        + (ranked.length > 1 ? ` and ${share(most)} under ${label(most[0])}.` : ".");
    }
    one("#answer").textContent = text;
  }

  function table() {
    one("#shares").replaceChildren(...[...found].map(([place, loss]) => {
      const bar = element("div", { role: "img", "aria-label": PARTS.map((part) => `${part} ${percent(loss.shares[part])}`).join(", ") },
        ...PARTS.map((part) => {
          const piece = element("i", { title: `${part}: ${percent(loss.shares[part])}` });
          piece.style.width = `${100 * (loss.shares[part] || 0)}%`;
          return piece;
        }));
      const name = element("span", {}, element("i", { class: "dot" }), breaking(label(place)));
      if (isStale(place)) name.lastChild.append(element("small", { class: "note" }, ` (at ${percent(DATA.prevalence)}, as given)`));
      return element("tr", { class: `c${state.slots[place]}${isStale(place) ? " stale" : ""}`, "data-place": place },
        element("th", { scope: "row" }, name), element("td", { class: "bar" }, bar),
        element("td", { class: "main" }, percent(loss.shares.positives)), element("td", {}, percent(loss.kept)),
        ...Array.from({ length: 5 }, () => element("td", { class: "at-logit" })));
    }));
  }

  // Between the points of the grid.
  function at(curve, z) {
    const place = Math.min(Math.max((z - GRID[0]) * 8, 0), GRID.length - 1);
    const low = Math.min(Math.floor(place), GRID.length - 2);
    return curve[low] + (place - low) * (curve[low + 1] - curve[low]);
  }

  function readOut() {
    one("#logit").value = state.logit;
    one("#logit-shown").textContent = `${number(state.logit)} (p = ${number(1 / (1 + Math.exp(-state.logit)))})`;
    one("#logit").setAttribute("aria-valuetext", one("#logit-shown").textContent);
    for (const row of one("#shares").rows) {
      const loss = found.get(Number(row.dataset.place));
      const shown = [
        ...[0, 1].flatMap((of) => [number(at(loss.gradient[of], state.logit)), number(at(loss.weight[of], state.logit))]),
        loss.dropped ? percent(at(loss.dropped, state.logit)) : "0 %",
      ];
      row.querySelectorAll(".at-logit").forEach((cell, place) => { cell.textContent = shown[place]; });
    }
    for (const line of document.querySelectorAll(".plot .guide")) {
      const x = across(state.logit);
      line.setAttribute("d", `M${x} ${TOP}V${HEIGHT - BOTTOM}`);
    }
  }

  // ---- Plots ----

  const WIDTH = 340, HEIGHT = 236, LEFT = 44, RIGHT = 8, TOP = 8, BOTTOM = 38, DECADES = 6;
  const across = (z) => LEFT + (z - GRID[0]) / (GRID[GRID.length - 1] - GRID[0]) * (WIDTH - LEFT - RIGHT);
  const down = (share) => HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM);
  const svg = (name, attributes = {}, text = "") => {
    const made = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    made.textContent = text;
    return made;
  };

  const power = (exponent) => (exponent >= -3 && exponent <= 4 ? String(Number((10 ** exponent).toPrecision(1))) : `1e${exponent}`);

  // A logarithmic axis of the largest six decades of all values, from 0 to 1; what is smaller lies on it.
  function logarithmic(curves) {
    const values = curves.flat().map(Math.abs).filter((value) => value > 0 && Number.isFinite(value));
    if (!values.length) return { place: () => 0, ticks: [[0, "0"]], low: 1 };
    const high = Math.ceil(Math.log10(values.reduce((a, b) => Math.max(a, b))) + 0.05);
    const low = Math.max(high - DECADES, Math.floor(Math.log10(values.reduce((a, b) => Math.min(a, b)))));
    const place = (value) => Math.max((Math.log10(Math.max(Math.abs(value), 1e-300)) - low) / (high - low), 0);
    const ticks = Array.from({ length: high - low + 1 }, (_, step) => [step / (high - low), power(low + step)]);
    return { place, ticks, low: 10 ** low };
  }

  // The same of both signs, linear around 0.
  function symmetric(curves, all) {
    const { low } = logarithmic(all);
    const bent = (value) => Math.sign(value) * (Math.abs(value) < low ? 0.5 * Math.abs(value) / low : 0.5 + Math.log10(Math.abs(value) / low));
    const largest = all.flat().filter(Number.isFinite).reduce((a, b) => Math.max(a, b), low);
    const least = curves.flat().filter(Number.isFinite).reduce((a, b) => Math.min(a, b), 0);
    const up = Math.max(Math.ceil(Math.log10(largest / low)), 1), under = least < -low ? Math.ceil(Math.log10(-least / low)) : -1;
    const [bottom, top] = [under < 0 ? -0.25 : -0.5 - under, 0.5 + up];
    const place = (value) => Math.max((bent(value) - bottom) / (top - bottom), 0);
    const exponent = Math.round(Math.log10(low)), ticks = [[place(0), "0"]];
    for (let step = 1; step <= up; step++) ticks.push([place(low * 10 ** step), power(exponent + step)]);
    for (let step = 1; step <= under; step++) ticks.push([place(-low * 10 ** step), `-${power(exponent + step)}`]);
    return { place, ticks };
  }

  const SHARE = { place: (value) => value, ticks: [[0, "0"], [0.5, "50 %"], [1, "100 %"]] };

  function frame(id, scale) {
    const plot = one(`#${id} svg`);
    const title = plot.querySelector("title");
    plot.replaceChildren(title);
    for (const [share, text] of scale.ticks) {
      plot.append(svg("path", { class: "tick", d: `M${LEFT} ${down(share)}H${WIDTH - RIGHT}` }));
      plot.append(svg("text", { x: LEFT - 6, y: down(share) + 4, "text-anchor": "end" }, text));
    }
    for (const z of [-10, -5, 0, 5, 10]) plot.append(svg("text", { x: across(z), y: HEIGHT - BOTTOM + 16, "text-anchor": "middle" }, String(z)));
    plot.append(svg("text", { class: "label", x: across(0), y: HEIGHT - 5, "text-anchor": "middle" }, "logit"));
    plot.append(svg("path", { class: "axis", d: `M${LEFT} ${TOP}V${HEIGHT - BOTTOM}H${WIDTH - RIGHT}` }));
    plot.append(svg("path", { class: "guide", d: "" }));
    return plot;
  }

  function curves(id, scale, lines) {
    const plot = frame(id, scale);
    const apart = (a, b) => Math.abs(scale.place(a) - scale.place(b)) > 0.004; // of the height
    const alike = (a, b) => !a.some((value, place) => apart(value, b[place]));
    for (const { place, values } of lines) {
      const group = lines.filter((other) => alike(other.values, values)), rank = group.findIndex((other) => other.place === place);
      const points = values.map((value, step) => [across(GRID[step]), down(scale.place(value))])
        .map(([x, y]) => (Number.isFinite(y) ? `${x.toFixed(1)} ${y.toFixed(1)}` : null));
      const path = points.map((point, step) => (point === null ? "" : (step && points[step - 1] !== null ? "L" : "M") + point)).join("");
      // Where several coincide each has the gaps of the others.
      const dash = group.length > 1
        ? { "stroke-dasharray": `8 ${8 * (group.length - 1)}`, "stroke-dashoffset": -8 * rank } : {};
      plot.append(svg("path", { class: `line c${state.slots[place]}${isStale(place) ? " stale" : ""}`, d: path, ...dash }));
    }
  }

  function plots() {
    const lines = (of) => [...found].map(([place, loss]) => ({ place, values: of(loss) })).filter(({ values }) => values);
    for (const name of ["loss", "gradient", "weight"]) {
      const both = [...found.values()].flatMap((loss) => loss[name]);
      for (const of of [0, 1]) {
        const here = lines((loss) => loss[name][of]);
        const scale = name === "loss" ? symmetric(here.map(({ values }) => values), both) : logarithmic(both);
        curves(`${name}-${of}`, scale, here);
      }
    }
    const dropping = lines((loss) => loss.dropped);
    one("#dropped").hidden = !dropping.length;
    curves("dropped", SHARE, dropping);
    densities();
  }

  function densities() {
    const bins = 48, many = 4000, heights = quantiles.map((quantile) => {
      const found = new Array(bins).fill(0);
      for (let place = 0; place < many; place++) {
        const bin = Math.floor((quantile((place + 0.5) / many) - GRID[0]) / 24 * bins);
        if (bin >= 0 && bin < bins) found[bin] += 1 / many;
      }
      return found;
    });
    const plot = frame("logits", { ticks: [] }), most = Math.max(...heights.flat(), 1e-9);
    heights.forEach((found, of) => {
      const step = found.map((height, bin) => `V${down(0.95 * height / most).toFixed(1)}H${across(GRID[0] + 24 * (bin + 1) / bins).toFixed(1)}`);
      const path = `M${LEFT} ${down(0)}${step.join("")}V${down(0)}`;
      if (!of) plot.append(svg("path", { class: "fill", d: path }));
      plot.append(svg("path", { class: of ? "strong" : "rim", d: path }));
      const top = found.indexOf(Math.max(...found));
      const x = Math.min(Math.max(across(GRID[0] + 24 * (top + 0.5) / bins) + (of ? 26 : -26), LEFT + 4), WIDTH - RIGHT);
      plot.append(svg("text", { class: of ? "name" : "label", x, y: down(0.95 * found[top] / most) + 4, "text-anchor": of ? "start" : "end" },
        of ? "positives" : "negatives"));
    });
  }

  for (const plot of document.querySelectorAll(".plot")) {
    plot.addEventListener("pointermove", (event) => {
      const box = plot.getBoundingClientRect();
      const z = ((event.clientX - box.left) / box.width * WIDTH - LEFT) / (WIDTH - LEFT - RIGHT) * 24 - 12;
      state.logit = Math.min(Math.max(Math.round(z * 8) / 8, -12), 12);
      readOut();
    });
  }
  one("#logit").addEventListener("input", () => {
    state.logit = Number(one("#logit").value);
    readOut();
  });
  one("#reset").addEventListener("click", reset);
  reset();
})();
