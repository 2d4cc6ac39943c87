// All that a link keeps: the layer, its numbers, and how it is looked at.

const LIMITS = {
  input: [1, 12], kernel: [1, 7], stride: [1, 4], before: [0, 5], behind: [0, 5], dilation: [1, 4],
};
const AXES = ["rows", "columns"];
const CHANNELS = {channels: [1, 3], filters: [1, 3], groups: [1, 3]};
const NUMBER = [-99, 99];
const SPEEDS = {slow: 1500, steady: 700, fast: 200};  // milliseconds a step
const CHOICES = {
  names: Object.keys(NOTATIONS), pass: Object.keys(FACTORS), order: ["gather", "scatter"],
  speed: Object.keys(SPEEDS), count: ["0", "1"], zeros: ["0", "1"],
};
const AXIS = {input: 4, kernel: 2, stride: 1, before: 0, behind: 0, dilation: 1};
const LAYER = {rows: AXIS, columns: AXIS, channels: 1, filters: 1, groups: 1, numbers: {}};
const START = {
  ...LAYER, names: "ours", pass: "grad_input", order: "gather", speed: "steady", count: 0, zeros: 0,
  step: undefined, pin: undefined,  // no step: all of them
};

/** A layer whose axes are alike; notation and speed stay as they are. */
const square = (parameters) => {
  const axis = {...AXIS, ...parameters};
  return {...LAYER, rows: axis, columns: axis, step: undefined, pin: undefined};
};
const EXAMPLES = {
  "4x4 image, 2x2 kernel, stride 1": square({}),
  "4x4 image, 2x2 kernel, stride 2": square({stride: 2}),
  "3x3 image, 2x2 kernel: the kernel flips": square({input: 3}),
  "stride 2, padding 1: four phases": square(
    {input: 7, kernel: 3, stride: 2, before: 1, behind: 1}),
  "stride 2, a row left over": square({input: 6, kernel: 3, stride: 2}),
  "stride 2, dilation 2: phases without taps": square({input: 7, stride: 2, dilation: 2}),
  "two groups": {...square({kernel: 3, before: 1, behind: 1}), channels: 2, filters: 2, groups: 2},
};

/** The part of the address behind '#'. */
function hashOf(state) {
  const parts = new Map();
  for (const name of Object.keys(LIMITS)) parts.set(name, AXES.map((axis) => state[axis][name]));
  for (const name of [...Object.keys(CHANNELS), ...Object.keys(CHOICES), "step", "pin"]) {
    if (state[name] !== START[name]) parts.set(name, state[name]);
  }
  for (const [grid, numbers] of Object.entries(state.numbers)) parts.set(grid + "s", numbers);
  return [...parts].map(([name, value]) => `${name}=${value}`).join("&");
}

/** The state of a link, and what is wrong with it. Without a layer, the link is about `initial`. */
function stateOf(hash, initial) {
  const parts = hash.split("&").filter(Boolean);
  const names = {...LIMITS, ...CHANNELS};
  const hasLayer = parts.some((part) => Object.hasOwn(names, part.split("=")[0]));
  const from = hasLayer ? START : initial;
  const state = {...from, rows: {...from.rows}, columns: {...from.columns}};
  const faults = [];
  for (const part of parts) {
    const [name, text = ""] = part.split("=");
    const fault = take(state, name, decoded(text));
    if (fault) faults.push(`The link has ${part}: ${fault}.`);
  }
  return {state, faults};
}

/** What a mail program or a chat may have encoded. */
function decoded(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

/** Puts one part of a link into the state; returns what it must be if it is something else. */
function take(state, name, text) {
  if (Object.hasOwn(LIMITS, name)) return takeAxes(state, name, text.split(","));
  if (Object.hasOwn(CHANNELS, name)) return takeNumber(state, name, text, CHANNELS[name]);
  if (Object.hasOwn(CHOICES, name)) return takeChoice(state, name, text);
  if (name === "step") return takeNumber(state, name, text, [0, 9999]);
  if (name === "pin") return takePin(state, text);
  if (OPERANDS.includes(name.slice(0, -1))) return takeNumbers(state, name.slice(0, -1), text);
  return "it has no such part";
}

function takeAxes(state, name, texts) {
  const numbers = (texts.length === 1 ? [texts[0], texts[0]] : texts).map(wholeOf);
  if (numbers.length !== 2 || !numbers.every((number) => isWithin(number, LIMITS[name]))) {
    return `${name} must be one or two whole numbers from ${LIMITS[name].join(" to ")}`;
  }
  AXES.forEach((axis, n) => { state[axis][name] = numbers[n]; });
  return undefined;
}

function takeNumber(state, name, text, limits) {
  const number = wholeOf(text);
  if (!isWithin(number, limits)) {
    return `${name} must be a whole number from ${limits.join(" to ")}`;
  }
  state[name] = number;
  return undefined;
}

function takeChoice(state, name, text) {
  if (!CHOICES[name].includes(text)) return `${name} must be one of ${CHOICES[name].join(", ")}`;
  state[name] = typeof START[name] === "number" ? Number(text) : text;
  return undefined;
}

function takePin(state, text) {
  const match = /^(\w+):\d+,\d+,\d+$/.exec(text);
  if (!match || !Object.hasOwn(GRIDS, match[1])) {
    return "pin must be a grid and a cell, as in grad_input:0,2,3";
  }
  state.pin = text;
  return undefined;
}

function takeNumbers(state, grid, text) {
  const numbers = text.split(",").map(wholeOf);
  if (!numbers.every((number) => isWithin(number, NUMBER))) {
    return `they must be whole numbers from ${NUMBER.join(" to ")}`;
  }
  state.numbers = {...state.numbers, [grid]: numbers};
  return undefined;
}

const wholeOf = (text) => /^-?\d{1,4}$/.test(text) ? Number(text) : NaN;
const isWithin = (number, [least, most]) => number >= least && number <= most;

/** Why no layer can be made of a state, or nothing. */
function problemOf(state, layer) {
  for (const name of ["channels", "filters"]) {
    if (state[name] % state.groups) {
      const count = counted(state[name], name.slice(0, -1));
      return `${count} cannot be split into ${state.groups} groups of one size.`;
    }
  }
  return refusalOf(layer.rows, "row") ?? refusalOf(layer.columns, "column");
}
