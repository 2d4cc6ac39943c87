// One axis of a layer as a list of meetings. Nothing here is solved for an index: output o reads
// pixel i under tap k if the two loops arrive there and the pixel exists. Everything that the page
// shows comes from these lists.

/** @returns the axis with the number of its outputs and its meetings {i, o, k}. */
function axisOf(parameters) {
  const {input, kernel, stride, before, behind, dilation} = parameters;
  const meetings = [];
  let outputs = 0;
  for (let start = -before; start + (kernel - 1) * dilation < input + behind; start += stride) {
    for (let k = 0; k < kernel; k++) {
      const i = start + k * dilation;
      if (i >= 0 && i < input) meetings.push({i, o: outputs, k});
    }
    outputs++;
  }
  return {...parameters, outputs, meetings};
}

/** Why the axis has no output, in one sentence; nothing if it has one. */
function refusalOf(axis, name) {
  if (axis.outputs) return undefined;
  const span = (axis.kernel - 1) * axis.dilation + 1;
  const padded = axis.before + axis.input + axis.behind;
  return `A kernel of ${counted(axis.kernel, "tap")} and dilation ${axis.dilation} spans `
    + `${counted(span, name)}, but the padded input has ${padded}.`;
}

/** The phase of each pixel: pixels a stride apart share it. */
function phasesOfPixels({input, stride}) {
  const phases = [];
  for (let first = 0; first < stride; first++) {
    for (let i = first; i < input; i += stride) phases[i] = first;
  }
  return phases;
}

/** The phase that each tap meets, inside of the input or beside it. */
function phasesOfTaps({kernel, stride, before, dilation}) {
  return listOf(kernel, (k) => {
    let i = k * dilation - before;
    while (i < 0) i += stride;
    while (i >= stride) i -= stride;
    return i;
  });
}

/** Pixels that meet nothing, with the reason: [{pixels, reason}]. */
function unreadPixels(axis) {
  const read = new Set(axis.meetings.map(({i}) => i));
  const [last] = [...read].sort((a, b) => b - a);
  const phases = phasesOfPixels(axis);
  const taps = phasesOfTaps(axis);
  const reasons = new Map();
  phases.forEach((phase, i) => {
    if (read.has(i)) return;
    const reason = !taps.includes(phase) ? "idle" : i > last ? "leftover" : "between";
    reasons.set(reason, [...(reasons.get(reason) ?? []), i]);
  });
  return [...reasons].map(([reason, pixels]) => ({reason, pixels}));
}

/**
 * The axis of textbooks: grad_output with zeros between its numbers and around them, over which the
 * flipped kernel moves by one. Position q holds output o, or a zero.
 */
function textbookAxis({input, kernel, stride, before, dilation, outputs}) {
  const first = before - (kernel - 1) * dilation;
  const positions = listOf(before + input - first, (n) => ({q: first + n, o: undefined}));
  for (let o = 0, q = 0; o < outputs; o++, q += stride) {
    const position = positions.find((candidate) => candidate.q === q);
    if (position) position.o = o;
  }
  return positions;
}

function listOf(count, item) {
  return Array.from({length: count}, (_, n) => item(n));
}

function counted(count, noun) {
  return `${count} ${noun}${count === 1 ? "" : "s"}`;
}
