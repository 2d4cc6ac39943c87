// What is chosen: the layer, how it is looked at, the animation; and the formula.

const ROWS = {
  input: "input", kernel: "kernel", stride: "stride", before: "padding, before",
  behind: "padding, behind", dilation: "dilation",
};
const CHANNEL_ROWS = {channels: "channels", filters: "filters", groups: "groups"};
const LABELS = {
  names: "notation", count: "count from", pass: "pass", order: "order", speed: "speed",
};
const COPIES = {program: "as PyTorch", latex: "as LaTeX", link: "as a link"};

function controlsOf(page) {
  return html`<details class="controls" ?open=${page.isWide}><summary>Layer</summary>
    <div class="panel">
      ${slidersOf(page)}
      <div class="choices">
        <label>example <select name="example">
          <option value="">choose one</option>
          ${Object.keys(EXAMPLES).map((name) => html`<option>${name}</option>`)}</select></label>
        ${selectOf(page, "names", (name) => NOTATIONS[name].label)}
        ${selectOf(page, "count", (from) => from)}
        <label class="check">
          <input type="checkbox" name="zeros" .checked=${Boolean(page.state.zeros)}>
          the textbook's zeros</label>
        <button type="button" name="reset" ?disabled=${!Object.keys(page.state.numbers).length}>
          numbers 1, 2, 3 again</button>
        <span class="copies">copy ${Object.entries(COPIES).map(([what, label]) => html`
          <button type="button" name="copy" value=${what}
            ?disabled=${page.problem && what !== "link"}>${label}</button>`)}</span>
      </div>
    </div></details>`;
}

function slidersOf({state}) {
  return html`<div class="sliders">
    <span></span><b>rows</b><b>columns</b>
    ${Object.entries(ROWS).map(([name, label]) => html`<span>${label}</span>
      ${AXES.map((axis) => sliderOf(
        `${axis}.${name}`, `${label}, ${axis}`, state[axis][name], LIMITS[name]))}`)}
    ${Object.entries(CHANNEL_ROWS).map(([name, label]) => html`<span>${label}</span>
      ${sliderOf(name, label, state[name], CHANNELS[name])}<span></span>`)}
  </div>`;
}

function sliderOf(name, label, value, [least, most]) {
  return html`<label class="slider"><input type="range" name=${name} min=${least} max=${most}
    .value=${String(value)} aria-label=${label}><span class="value">${value}</span></label>`;
}

function selectOf({state}, name, labelOf) {
  return html`<label>${LABELS[name]} <select name=${name}>${CHOICES[name].map(
    (choice) => html`<option value=${choice} .selected=${String(state[name]) === choice}>${
      labelOf(choice)}</option>`)}</select></label>`;
}

function animationOf(page) {
  const {state, steps, playing} = page;
  const step = Math.min(state.step ?? steps, steps);
  const names = NOTATIONS[state.names];
  return html`<div class="animation" role="group" aria-label="animation">
    ${selectOf(page, "pass", (pass) => names[pass])}
    ${selectOf(page, "order", (order) => order)}
    <button type="button" name="back" aria-label="one step back" ?disabled=${step === 0}
      >◂</button>
    <button type="button" name="play">${playing ? "pause" : "play"}</button>
    <button type="button" name="forth" aria-label="one step on" ?disabled=${step === steps}
      >▸</button>
    <label class="scrub"><input type="range" name="step" min="0" max=${steps} .value=${String(step)}
      aria-label="step"><span class="value">${step} of ${steps}</span></label>
    ${selectOf(page, "speed", (speed) => speed)}
  </div>`;
}

/** The formula, which screen readers speak, unless an animation would make them stumble. */
function formulaBox({formula, playing}) {
  return html`<section class="formula" tabindex="0" aria-label="formula">
    <div id="formula" role="status" aria-live=${playing ? "off" : "polite"}>${formula
      ? html`<p class="symbols">${formula.symbols}</p>
        <p class="numbers">${formula.numbers} <b class="sum">${formula.sum}</b></p>`
      : html`<p>Point at a cell, or walk there with Tab and the arrows.
        Enter pins it; a digit edits it.</p>`}</div>
  </section>`;
}

/** The relation of both axes, and what the geometry leaves out. */
function notesOf({state, layer}) {
  const names = NOTATIONS[state.names];
  const notes = AXES.flatMap((axis) => unreadPixels(layer[axis]).map(({reason, pixels}) => {
    const list = `${pixels.length > 1 ? axis : axis.slice(0, -1)} `
      + pixels.map((i) => i + state.count).join(", ");
    const zero = `${names.grad_input} is 0 there`;
    return {
      idle: `No tap meets the phase of ${list}: ${zero}.`,
      leftover: `Left over, because the stride does not reach them: ${list}; ${zero}.`,
      between: `No output reads ${list}: ${zero}.`,
    }[reason];
  }));
  return html`<ul class="notes">
    <li>Pixel i, output o and tap k meet where ${AXES.map(
      (axis, n) => html`${n ? " and " : ""}<code>i = ${relationOf(state[axis])}</code> (${axis})`)},
      ${state.count ? "counted from 0, " : ""}and all three exist.</li>
    ${notes.map((note) => html`<li>${note}</li>`)}</ul>`;
}

function relationOf({stride, before, dilation}) {
  const times = (factor, index) => factor > 1 ? `${factor}*${index}` : index;
  return `${times(stride, "o")}${before ? ` - ${before}` : ""} + ${times(dilation, "k")}`;
}

function copiedBox({copied}) {
  if (!copied) return nothing;
  return html`<section class="copied"><label for="copied">${copied.said}</label>
    <textarea id="copied" readonly rows="4" .value=${copied.text}></textarea>
    <button type="button" name="close">close</button></section>`;
}
