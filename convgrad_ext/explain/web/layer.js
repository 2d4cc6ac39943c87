// A layer: two axes and channels. A meeting of the layer is a filter f, a channel c of its group, a
// meeting h of the rows and a meeting w of the columns. A cell is {grid, plane, y, x}.

/** What a grid counts: its planes by a field of a meeting, its cells by i, o or k. */
const GRIDS = {
  input: {plane: "c", index: "i"},
  kernel: {plane: "pair", index: "k"},
  output: {plane: "f", index: "o"},
  grad_output: {plane: "f", index: "o"},
  grad_input: {plane: "c", index: "i"},
  grad_weight: {plane: "pair", index: "k"},
  grad_bias: {plane: "all", index: "f"},
};
const OPERANDS = ["input", "kernel", "grad_output"];
const FACTORS = {
  output: ["input", "kernel"],
  grad_input: ["grad_output", "kernel"],
  grad_weight: ["input", "grad_output"],
  grad_bias: ["grad_output"],
};
/** The result with the same cells: its sum takes all that the operand's cell meets. */
const RESULT_OF = {input: "grad_input", kernel: "grad_weight", grad_output: "output"};
/** Whose cells a scattered pass takes one after the other. */
const SCATTERED = {
  output: "input", grad_input: "grad_output", grad_weight: "grad_output", grad_bias: "grad_output",
};

function layerOf({rows, columns, channels, filters, groups, numbers}) {
  const pairs = pairsOf(channels, filters, groups);
  const sizes = sizesOf(rows, columns, channels, filters, pairs.length);
  const operands = {};
  for (const grid of OPERANDS) operands[grid] = numbersOf(sizes[grid], numbers[grid]);
  const layer = {rows, columns, channels, filters, groups, pairs, sizes, values: operands};
  for (const grid in FACTORS) {
    layer.values[grid] = planesOf(sizes[grid], () => 0);
    for (const meeting of allMeetings(layer, grid)) add(layer, layer.values[grid], grid, meeting);
  }
  return layer;
}

/** Filters and the channels of their group: {f, c, pair}. */
function pairsOf(channels, filters, groups) {
  const pairs = [];
  for (let f = 0; f < filters; f++) {
    for (let c = 0; c < channels; c++) {
      const sameGroup = groupOf(f, filters, groups) === groupOf(c, channels, groups);
      if (sameGroup) pairs.push({f, c, pair: pairs.length, all: 0});
    }
  }
  return pairs;
}

/** The group of a channel: groups follow each other, all of one size. */
function groupOf(channel, channels, groups) {
  let group = 0;
  while (channel >= (group + 1) * (channels / groups)) group++;
  return group;
}

/** [planes, rows, columns] of each grid. */
function sizesOf(rows, columns, channels, filters, pairs) {
  const input = [channels, rows.input, columns.input];
  const kernel = [pairs, rows.kernel, columns.kernel];
  const output = [filters, rows.outputs, columns.outputs];
  return {
    input, kernel, output, grad_output: output, grad_input: input, grad_weight: kernel,
    grad_bias: [1, 1, filters],
  };
}

function planesOf([planes, height, width], number) {
  return listOf(planes, (p) => listOf(height, (y) => listOf(width, (x) => number(p, y, x))));
}

/** The numbers given, as planes; otherwise 1, 2, 3 and so on. */
function numbersOf(size, given) {
  let next = 0;
  return planesOf(size, () => given?.[next++] ?? (given ? 0 : ++next));
}

function cellsOf(layer, grid) {
  return planesOf(layer.sizes[grid], (plane, y, x) => ({grid, plane, y, x})).flat(2);
}

/** Every meeting of a pass. A bias meets outputs alone: no channel, no pixel and no tap. */
function allMeetings(layer, grid) {
  if (grid !== "grad_bias") return meetingsWhere(layer, () => true, () => true, () => true);
  return cellsOf(layer, "output").map(
    ({plane, y, x}) => ({f: plane, all: 0, h: {o: y}, w: {o: x}}));
}

function meetingsWhere({pairs, rows, columns}, isPair, isRow, isColumn) {
  const [above, beside] = [rows.meetings.filter(isRow), columns.meetings.filter(isColumn)];
  return pairs.filter(isPair).flatMap(
    (pair) => above.flatMap((h) => beside.map((w) => ({...pair, h, w}))));
}

/** The meetings of a cell, in the order of its sum. */
function meetingsOf(layer, {grid, plane, y, x}) {
  if (grid === "grad_bias") return allMeetings(layer, grid).filter(({f}) => f === x);
  const {plane: field, index} = GRIDS[grid];
  return meetingsWhere(
    layer, (pair) => pair[field] === plane, (h) => h[index] === y, (w) => w[index] === x);
}

/** The cell of a grid that takes part in a meeting; none where it counts something else. */
function cellAt(grid, meeting) {
  const {plane, index} = GRIDS[grid];
  if (grid === "grad_bias") return {grid, plane: 0, y: 0, x: meeting.f};
  const [y, x] = [meeting.h[index], meeting.w[index]];
  return y === undefined ? undefined : {grid, plane: meeting[plane], y, x};
}

function valueAt(values, {grid, plane, y, x}) {
  return values[grid]?.[plane]?.[y]?.[x];
}

function productOf(layer, grid, meeting) {
  return FACTORS[grid].reduce(
    (product, factor) => product * valueAt(layer.values, cellAt(factor, meeting)), 1);
}

function add(layer, planes, grid, meeting) {
  const {plane, y, x} = cellAt(grid, meeting);
  planes[plane][y][x] += productOf(layer, grid, meeting);
}

const keyOf = ({grid, plane, y, x}) => `${grid}:${plane},${y},${x}`;

/** The keys of all cells that meet a cell; of an output also the bias, which meets every output. */
function litBy(layer, cell) {
  const lit = new Set();
  const light = (meeting, grids) => grids.forEach((grid) => {
    const met = cellAt(grid, meeting);
    if (met) lit.add(keyOf(met));
  });
  const counted = GRIDS[cell.grid].index;
  const grids = Object.keys(GRIDS);
  for (const meeting of meetingsOf(layer, cell)) {
    light(meeting, counted === "o" || counted === "f" ? grids : grids.slice(0, -1));
  }
  if (counted === "o") {
    light({f: cell.plane, h: {o: cell.y}, w: {o: cell.x}}, ["output", "grad_output", "grad_bias"]);
  }
  return lit;
}

/** The cells that an animation takes, one a step. */
function ownersOf(layer, {pass, order}) {
  return cellsOf(layer, order === "gather" ? pass : SCATTERED[pass]);
}

/** The meetings that one step of a pass adds. */
function meetingsOfStep(layer, pass, owner) {
  if (pass !== "grad_bias" || owner.grid === pass) return meetingsOf(layer, owner);
  return [{f: owner.plane, all: 0, h: {o: owner.y}, w: {o: owner.x}}];
}

/** The result of a pass after some steps; a gathered number that is not yet summed is undefined. */
function partOf(layer, {pass, order, step}) {
  const planes = planesOf(layer.sizes[pass], () => order === "gather" ? undefined : 0);
  for (const owner of ownersOf(layer, {pass, order}).slice(0, step)) {
    if (order === "gather") planes[owner.plane][owner.y][owner.x] = 0;
    for (const meeting of meetingsOfStep(layer, pass, owner)) add(layer, planes, pass, meeting);
  }
  return planes;
}

/** Multiplications of grad_input with and without the zeros of textbooks. */
function productsOf({rows, columns, pairs}) {
  const met = pairs.length * rows.meetings.length * columns.meetings.length;
  const withZeros = pairs.length * rows.input * rows.kernel * columns.input * columns.kernel;
  return {met, withZeros, wasted: withZeros - met};
}
