// The grids as tables that a keyboard walks through.

const LETTERS = "abcdefghijklmnop";
const CAPTIONS = {
  input: "what the layer reads", kernel: "its taps", output: "forward: sums over taps",
  grad_output: "the loss by each output", grad_input: "the loss by each pixel",
  grad_weight: "the loss by each tap", grad_bias: "the sum of grad_output",
};

/** Forward from left to right; below each operand its gradient, below the output grad_output. */
const PLACES = [
  "input", "kernel", "output", "grad_input", "grad_weight", "grad_output", "grad_bias",
];

const MANY = 24;  // cells beside each other, which fit a projector at their full size

function gridsOf(page) {
  const {columns, sizes} = page.layer;
  const across = columns.before + columns.input + columns.behind + columns.kernel + sizes.output[2];
  return html`<div class=${across > MANY ? "grids dense" : "grids"}>
      ${PLACES.map((grid) => figureOf(page, grid))}</div>
    ${page.state.zeros ? zerosOf(page) : nothing}`;
}

function figureOf(page, grid) {
  const [planes, height, width] = page.layer.sizes[grid];
  const title = NOTATIONS[page.state.names][grid];
  return html`<figure class="grid" data-grid=${grid}>
    <figcaption><b>${title}</b> <span>${height}×${width}</span>
      <i>${CAPTIONS[grid]}</i></figcaption>
    <div class="planes">${listOf(planes, (plane) => planeOf(page, grid, plane, title))}</div>
  </figure>`;
}

function planeOf(page, grid, plane, title) {
  const {layer} = page;
  const name = planeName(layer, page.state, grid, plane);
  const isPadded = grid === "input";
  const rows = linesOf(grid, isPadded, layer.rows, layer.sizes[grid][1]);
  const columns = linesOf(grid, isPadded, layer.columns, layer.sizes[grid][2]);
  return html`<div class="plane">${name && html`<span class="name">${name}</span>`}
    <table role="grid" aria-label=${`${title} ${name}`} aria-readonly=${!OPERANDS.includes(grid)}>
      <thead><tr><td></td>${columns.map((x) => headerOf(page, "col", x))}</tr></thead>
      <tbody>${rows.map((y) => html`<tr>${headerOf(page, "row", y)}${columns.map(
        (x) => cellOf(page, {grid, plane, y, x}, x === undefined || y === undefined))}</tr>`)}
      </tbody>
    </table></div>`;
}

/** The indices along one side of a table; undefined where there is padding. */
function linesOf(grid, isPadded, axis, size) {
  const lines = listOf(size, (n) => n);
  if (!isPadded) return lines;
  return [...Array(axis.before), ...lines, ...Array(axis.behind)];
}

function headerOf({state}, scope, index) {
  return index === undefined
    ? html`<th scope=${scope}><span class="unseen">padding</span></th>`
    : html`<th scope=${scope}>${index + state.count}</th>`;
}

/** Which channel, filter or pair a plane belongs to; nothing if there is one plane. */
function planeName({sizes, pairs, channels}, {count}, grid, plane) {
  if (sizes[grid][0] === 1) return "";
  const field = GRIDS[grid].plane;
  if (field === "c") return `channel ${plane + count}`;
  if (field === "f") return `filter ${plane + count}`;
  const {f, c} = pairs[plane];
  return `filter ${f + count}${channels > 1 ? `, channel ${c + count}` : ""}`;
}

function cellOf(page, cell, isPadding) {
  if (isPadding) return html`<td class="padding"><span class="unseen">padding</span></td>`;
  const key = keyOf(cell);
  if (page.editing === key) return editorOf(page, cell, key);
  const phase = phaseOf(page, cell);
  const value = shownValue(page, cell);
  const classes = [
    phase === undefined ? "" : `phase p${phase % 8}`, page.lit.has(key) ? "lit" : "",
    page.active === key ? "active" : "", page.state.pin === key ? "pinned" : "",
  ].filter(Boolean).join(" ");
  return html`<td class=${classes} data-cell=${key} tabindex=${page.entries.has(key) ? 0 : -1}
    aria-selected=${page.state.pin === key}>${value ?? "·"}${
    phase === undefined ? nothing : html`<small>${LETTERS[phase]}</small>`}</td>`;
}

function editorOf(page, cell, key) {
  return html`<td data-cell=${key} class="editing"><input inputmode="numeric" size="3" maxlength="3"
    aria-label=${`value of ${nameOf(page.layer, page.state, cell)}`} .value=${page.draft}></td>`;
}

/** During an animation the pass that runs shows what is summed by now. */
function shownValue(page, cell) {
  const isPart = page.part !== undefined && cell.grid === page.state.pass;
  return valueAt(isPart ? {[cell.grid]: page.part} : page.layer.values, cell);
}

/** The phase of a pixel over both axes; none where there is one phase, or in other grids. */
function phaseOf({layer}, {grid, y, x}) {
  if (GRIDS[grid].index !== "i") return undefined;
  const [rows, columns] = [phasesOfPixels(layer.rows), phasesOfPixels(layer.columns)];
  const across = Math.max(...columns) + 1;
  if (across * (Math.max(...rows) + 1) === 1) return undefined;
  return rows[y] * across + columns[x];
}

/** grad_output as textbooks spread it out, with the zeros that the active pixel multiplies. */
function zerosOf(page) {
  const {layer, state} = page;
  const rows = textbookAxis(layer.rows);
  const columns = textbookAxis(layer.columns);
  const {met, withZeros, wasted} = productsOf(layer);
  const pixel = activePixel(page);
  const isUnder = (f, h, w) => pixel
    && layer.pairs.some((pair) => pair.f === f && pair.c === pixel.plane)
    && isRead(layer.rows, pixel.y, h.q) && isRead(layer.columns, pixel.x, w.q);
  const cell = (f) => (h, w) => {
    const isZero = h.o === undefined || w.o === undefined;
    const value = isZero ? 0 : layer.values.grad_output[f][h.o][w.o];
    const kind = isZero ? "zero" : "spread";
    return html`<td class=${isUnder(f, h, w) ? `${kind} under` : kind}>${value}</td>`;
  };
  return html`<figure class="grid zeros" data-grid="zeros">
    <figcaption><b>${NOTATIONS[state.names].grad_output} with zeros</b>
      <span>${rows.length}×${columns.length}</span>
      <i>under the flipped kernel, as textbooks have it</i>
    </figcaption>
    <div class="planes">${listOf(layer.filters, (f) => html`<div class="plane" tabindex="0">
      <table aria-label=${`grad_output with zeros, ${f + state.count}`}><tbody>
        ${rows.map((h) => html`<tr>${columns.map((w) => cell(f)(h, w))}</tr>`)}
      </tbody></table></div>`)}</div>
    <div><p class="count">${withZeros} products, of which ${met} meet: ${wasted} are wasted
      (${Math.round(100 * wasted / withZeros)} %).
      The phases of ${NOTATIONS[state.names].grad_input} multiply ${met} times:</p>
    <ul class="count">${phasesInWords(page)}</ul></div>
  </figure>`;
}

/** The taps that the pixels of each phase meet. */
function phasesInWords({layer, state}) {
  const inWords = (taps) => `${taps.length === 1 ? "tap" : "taps"} `
    + (taps.map((k) => k + state.count).join(", ") || "none");
  const [rows, columns] = AXES.map((axis) => tapsByPhase(layer[axis]).map(inWords));
  return rows.flatMap((above, y) => columns.map((beside, x) => html`<li>
    <b class=${`p${(y * columns.length + x) % 8}`}>${LETTERS[y * columns.length + x]}</b>
    rows: ${above}; columns: ${beside}</li>`));
}

function tapsByPhase(axis) {
  const taps = phasesOfTaps(axis);
  const phases = Math.max(...phasesOfPixels(axis)) + 1;
  return listOf(phases, (phase) => listOf(axis.kernel, (k) => k).filter((k) => taps[k] === phase));
}

/** Whether the kernel, placed over pixel i, has a tap over position q of the textbook's axis. */
function isRead({kernel, before, dilation}, i, q) {
  return listOf(kernel, (k) => i + before - k * dilation).includes(q);
}

function activePixel({cell}) {
  return cell && GRIDS[cell.grid].index === "i" ? cell : undefined;
}
