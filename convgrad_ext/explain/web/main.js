// The state, what follows from it, and what changes it.

const INITIAL = {...START, ...JSON.parse(document.getElementById("layer").textContent)};
const root = document.getElementById("page");
const page = {
  state: INITIAL, layer: undefined, faults: [], problem: undefined,
  pointed: undefined, focused: undefined, entry: {},  // keys of cells; entry: of each table
  isWide: matchMedia("(min-width: 64rem)").matches,  // then the controls are beside the grids
  editing: undefined, draft: "", copied: undefined, playing: undefined,
};

/** Everything that the templates show, from the state and from what is pointed at. */
function derive() {
  const {state, layer} = page;
  page.steps = ownersOf(layer, state).length;
  page.part = state.step === undefined ? undefined : partOf(layer, state);
  page.active = [state.pin, page.pointed, page.focused, ownerKey()].find((key) => cellOfKey(key));
  page.cell = cellOfKey(page.active);
  page.lit = page.cell ? litBy(layer, page.cell) : new Set();
  page.entries = entriesOf(layer);
  page.formula = page.cell && formulaOfPage(page.cell);
}

function formulaOfPage(cell) {
  const {state, layer} = page;
  const isScattered = state.order === "scatter" && cell.grid === SCATTERED[state.pass];
  return isScattered
    ? scatterFormulaOf(layer, state, state.pass, cell) : formulaOf(layer, state, cell);
}

/** The cell that the last step took. */
function ownerKey() {
  const {state, layer} = page;
  if (!state.step) return undefined;
  const owner = ownersOf(layer, state)[state.step - 1];
  return owner && keyOf(owner);
}

function cellOfKey(key) {
  if (!key) return undefined;
  const [grid, place] = key.split(":");
  const [plane, y, x] = place.split(",").map(Number);
  const cell = {grid, plane, y, x};
  return valueAt(page.layer.values, cell) === undefined ? undefined : cell;
}

/** The one cell of each table that Tab reaches: the last one visited, or the first. */
function entriesOf(layer) {
  return new Set(Object.keys(GRIDS).flatMap((grid) => listOf(layer.sizes[grid][0], (plane) => {
    const last = page.entry[`${grid}:${plane}`];
    return cellOfKey(last) ? last : keyOf({grid, plane, y: 0, x: 0});
  })));
}

let isShowing = false;  // a cell that is removed meanwhile loses its focus, which shows again

function show() {
  if (isShowing) return;
  isShowing = true;
  if (!page.problem) derive();
  const faults = [...page.faults, ...(page.problem ? [page.problem] : [])];
  render(html`
    ${controlsOf(page)}
    <div class="layer">
      <div role="alert" class="faults">${faults.map((fault) => html`<p>${fault}</p>`)}</div>
      ${copiedBox(page)}
      ${page.problem ? nothing : html`${gridsOf(page)}${notesOf(page)}
        <div class="bottom">${animationOf(page)}${formulaBox(page)}</div>`}
    </div>`, root);
  isShowing = false;
}

/** Takes a changed state over, or says why it makes no layer and keeps showing that. */
function change(changes) {
  page.faults = [];
  page.state = {...page.state, ...changes};
  const axes = AXES.map((name) => axisOf(page.state[name]));
  page.problem = problemOf(page.state, {rows: axes[0], columns: axes[1]});
  if (!page.problem) {
    page.layer = layerOf({...page.state, rows: axes[0], columns: axes[1]});
    const steps = ownersOf(page.layer, page.state).length;
    if (page.state.step >= steps) page.state.step = undefined;
    if (page.state.pin && !cellOfKey(page.state.pin)) page.state.pin = undefined;
  }
  history.replaceState(null, "", `#${hashOf(page.state)}`);
  show();
}

function readLink() {
  const {state, faults} = stateOf(location.hash.slice(1), INITIAL);
  stop();
  const {pin} = state;
  change(state);
  page.faults = faults;
  const isLost = pin && !page.problem && !page.state.pin;
  if (isLost) page.faults.push(`The link has pin=${pin}: no such cell.`);
  show();
}

/** Numbers that were edited, where their cells are in a layer of another size; 0 in new cells. */
function resized(changes) {
  if (!page.layer || page.problem) return changes;
  const state = {...page.state, ...changes};
  const axes = AXES.map((name) => axisOf(state[name]));
  if (problemOf(state, {rows: axes[0], columns: axes[1]})) return changes;
  const pairs = pairsOf(state.channels, state.filters, state.groups);
  const sizes = sizesOf(axes[0], axes[1], state.channels, state.filters, pairs.length);
  const numbers = Object.fromEntries(Object.keys(state.numbers).map((grid) => [grid, planesOf(
    sizes[grid], (plane, y, x) => valueAt(page.layer.values, {grid, plane, y, x}) ?? 0).flat(2)]));
  return {...changes, numbers};
}

// Editing.

function edit(key, draft) {
  const cell = cellOfKey(key);
  if (!OPERANDS.includes(cell.grid)) return;
  Object.assign(page, {editing: key, draft: draft ?? String(valueAt(page.layer.values, cell))});
  show();
  const input = root.querySelector(".editing input");
  input.focus();
  if (draft === undefined) input.select();
}

/** Takes the number over, or leaves it; returns the cell's key. */
function endEdit(isKept) {
  const key = page.editing;
  const cell = cellOfKey(key);
  const text = root.querySelector(".editing input").value;
  const number = wholeOf(text);
  page.editing = undefined;
  if (isKept && isWithin(number, NUMBER)) {
    const planes = structuredClone(page.layer.values[cell.grid]);
    planes[cell.plane][cell.y][cell.x] = number;
    change({numbers: {...page.state.numbers, [cell.grid]: planes.flat(2)}});
  } else {
    const name = nameOf(page.layer, page.state, cell);
    page.faults = isKept
      ? [`${name} must be a whole number from ${NUMBER.join(" to ")}, but got '${text}'.`] : [];
    show();
  }
  return key;
}

function focusOn(key) {
  root.querySelector(`[data-cell="${key}"]`)?.focus();
}

// Moving through a table.

const MOVES = {
  ArrowUp: ({y, x}) => [y - 1, x], ArrowDown: ({y, x}) => [y + 1, x],
  ArrowLeft: ({y, x}) => [y, x - 1], ArrowRight: ({y, x}) => [y, x + 1],
  Home: ({y}) => [y, 0], End: ({y}, [, , width]) => [y, width - 1],
};

function keyInCell(event, key) {
  const cell = cellOfKey(key);
  const size = page.layer.sizes[cell.grid];
  if (event.ctrlKey && ["Home", "End"].includes(event.key)) {
    const [y, x] = event.key === "Home" ? [0, 0] : [size[1] - 1, size[2] - 1];
    focusOn(keyOf({...cell, y, x}));
  } else if (event.ctrlKey || event.metaKey || event.altKey) {
    return;
  } else if (event.key in MOVES) {
    const [y, x] = MOVES[event.key](cell, size);
    focusOn(keyOf({...cell, y, x}));
  } else if (event.key === "Enter" || event.key === " ") {
    pin(key);
  } else if (event.key === "Escape") {
    change({pin: undefined});
  } else if (event.key === "F2" || /^[-\d]$/.test(event.key)) {
    edit(key, event.key === "F2" ? undefined : event.key);
  } else {
    return;
  }
  event.preventDefault();
}

function keyInEditor(event) {
  const isKept = event.key === "Enter" || event.key === "Tab";
  if (isKept || event.key === "Escape") focusOn(endEdit(isKept));
  if (event.key === "Enter") event.preventDefault();
}

function pin(key) {
  change({pin: page.state.pin === key ? undefined : key});
}

// The animation.

function stepTo(step) {
  change({step: step >= page.steps ? undefined : Math.max(0, step)});
}

function play() {
  const step = page.state.step ?? 0;
  stepTo(page.state.step === undefined ? 0 : step + 1);
  page.playing = page.state.step === undefined
    ? undefined : setTimeout(play, SPEEDS[page.state.speed]);
  show();
}

function stop() {
  clearTimeout(page.playing);
  page.playing = undefined;
}

// Buttons, sliders and selections, by name.

const BUTTONS = {
  play: () => page.playing ? (stop(), show()) : (change({pin: undefined}), play()),
  back: () => { stop(); stepTo((page.state.step ?? page.steps) - 1); },
  forth: () => { stop(); stepTo((page.state.step ?? page.steps) + 1); },
  reset: () => change({numbers: {}}),
  close: () => { page.copied = undefined; show(); },
  copy: (button) => copy(button.value),
};

async function copy(what) {
  const cell = page.cell ?? {grid: page.state.pass, plane: 0, y: 0, x: 0};
  const text = {
    program: () => programOf(page.layer), latex: () => latexOf(page.layer, page.state, cell),
    link: () => location.href,
  }[what]();
  page.copied = {text, said: "Copied:"};
  await navigator.clipboard?.writeText(text).catch(() => { page.copied.said = "Copy this:"; });
  show();
}

function inputChanged({name, value, checked}) {
  const [axis, parameter] = name.split(".");
  const isLayer = parameter || name in CHANNELS;
  if (isLayer) stop();
  if (parameter) change(resized({[axis]: {...page.state[axis], [parameter]: Number(value)}}));
  else if (name in CHANNELS) change(resized({[name]: Number(value)}));
  else if (name === "zeros") change({zeros: Number(checked)});
  else if (name === "step") { stop(); stepTo(Number(value)); }
  else if (name === "example" && value) { stop(); change(EXAMPLES[value]); }
  else if (name === "count") change({count: Number(value)});
  else if (name in CHOICES) { stop(); change({[name]: value}); }
}

const keyAt = (event) => event.target.closest?.("[data-cell]")?.dataset.cell;

root.addEventListener("pointerover", (event) => {
  const key = keyAt(event);
  if (key !== page.pointed) { page.pointed = key; show(); }
});
root.addEventListener("pointerleave", () => { page.pointed = undefined; show(); });
root.addEventListener("focusin", (event) => {
  const key = keyAt(event);
  if (!key || page.editing) return;
  page.focused = key;
  page.entry[key.split(",")[0]] = key;
  show();
});
root.addEventListener("focusout", (event) => {
  if (event.target.closest(".editing") && page.editing) endEdit(true);
  else if (!root.contains(event.relatedTarget) || !event.relatedTarget?.closest("[data-cell]")) {
    page.focused = undefined;
    show();
  }
});
root.addEventListener("keydown", (event) => {
  if (page.editing) keyInEditor(event);
  else if (keyAt(event)) keyInCell(event, keyAt(event));
});
root.addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (button) BUTTONS[button.name](button);
  else if (keyAt(event) && !page.editing) pin(keyAt(event));
});
root.addEventListener("dblclick", (event) => { if (keyAt(event)) edit(keyAt(event)); });
root.addEventListener("input", (event) => {
  if (event.target.matches('[type="range"], select, [type="checkbox"]')) inputChanged(event.target);
});
window.addEventListener("hashchange", readLink);
readLink();
