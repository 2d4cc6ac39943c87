// Formulas of a cell as text and as LaTeX, and the layer as a program.

const NOTATIONS = {
  ours: {
    label: "names of the code",
    input: "input", kernel: "kernel", output: "output", grad_output: "grad_output",
    grad_input: "grad_input", grad_weight: "grad_weight", grad_bias: "grad_bias",
  },
  question: {
    label: "I, K, O",
    input: "I", kernel: "K", output: "O", grad_output: "dO", grad_input: "dI", grad_weight: "dK",
    grad_bias: "db",
  },
  textbook: {
    label: "X, W, Y",
    input: "X", kernel: "W", output: "Y", grad_output: "dY", grad_input: "dX", grad_weight: "dW",
    grad_bias: "db",
  },
};

/** The sum of a cell's result: {grid, cell, terms}, each term a list of factors {cell, value}. */
function sumOf(layer, cell) {
  const grid = RESULT_OF[cell.grid] ?? cell.grid;
  const terms = meetingsOf(layer, cell).map((meeting) => factorsOf(layer, grid, meeting));
  return {cell: {...cell, grid}, terms, value: valueAt(layer.values, {...cell, grid})};
}

function factorsOf(layer, grid, meeting) {
  return FACTORS[grid].map((factor) => {
    const cell = cellAt(factor, meeting);
    return {cell, value: valueAt(layer.values, cell)};
  });
}

/** A cell's name with its indices, those of channels only where there are several. */
function nameOf(layer, view, cell) {
  return `${NOTATIONS[view.names][cell.grid]}[${indicesOf(layer, view, cell).join(",")}]`;
}

function indicesOf({channels, filters, groups, pairs}, {count}, {grid, plane, y, x}) {
  const from = (index) => index + count;
  if (grid === "grad_bias") return [from(x)];
  const place = [from(y), from(x)];
  if (GRIDS[grid].plane === "f") return filters > 1 ? [from(plane), ...place] : place;
  if (GRIDS[grid].plane === "c") return channels > 1 ? [from(plane), ...place] : place;
  if (pairs.length === 1) return place;
  const {f} = pairs[plane];
  const local = pairs.slice(0, plane).filter((pair) => pair.f === f).length;
  return channels > groups ? [from(f), from(local), ...place] : [from(f), ...place];
}

/** {symbols, numbers, sum} of the cell's result. */
function formulaOf(layer, view, cell) {
  const {cell: result, terms, value} = sumOf(layer, cell);
  const name = nameOf(layer, view, result);
  if (!terms.length) return {symbols: `${name} = 0`, numbers: "because nothing meets it", sum: ""};
  const symbols = terms.map((term) => term.map((f) => nameOf(layer, view, f.cell)).join("*"));
  const numbers = terms.map((term) => term.map((f) => inBrackets(f.value)).join("*"));
  return {
    symbols: `${name} = ${symbols.join(" + ")}`, numbers: `= ${numbers.join(" + ")}`,
    sum: `= ${value}`,
  };
}

/** One step of a scattered pass: a number times shifted numbers, added to several results. */
function scatterFormulaOf(layer, view, pass, owner) {
  const meetings = meetingsOfStep(layer, pass, owner);
  const name = nameOf(layer, view, owner);
  if (!meetings.length) return {symbols: `${name} adds to nothing`, numbers: "", sum: ""};
  const names = NOTATIONS[view.names];
  const other = {
    output: `the flipped ${names.kernel}, shifted`, grad_input: `${names.kernel}, shifted`,
    grad_weight: `the patch of ${names.input} that it met`, grad_bias: "1",
  }[pass];
  const additions = meetings.map((meeting) => {
    const product = factorsOf(layer, pass, meeting).map(({value}) => inBrackets(value)).join("*");
    return `${nameOf(layer, view, cellAt(pass, meeting))} += ${product}`;
  });
  return {
    symbols: `${names[pass]} += ${name} * ${other}`, numbers: additions.join(",  "), sum: "",
  };
}

const inBrackets = (value) => value < 0 ? `(${value})` : `${value}`;

/** The same formula as LaTeX. */
function latexOf(layer, view, cell) {
  const {cell: result, terms, value} = sumOf(layer, cell);
  const name = latexNameOf(layer, view, result);
  if (!terms.length) return `${name} = 0`;
  const symbols = terms.map((term) => term.map((f) => latexNameOf(layer, view, f.cell)).join(" "));
  const numbers = terms.map((term) => term.map((f) => inBrackets(f.value)).join(" \\cdot "));
  return `${name} = ${symbols.join(" + ")} = ${numbers.join(" + ")} = ${value}`;
}

function latexNameOf(layer, view, cell) {
  const name = NOTATIONS[view.names][cell.grid];
  const derivative = /^d(.)$/.exec(name);
  const letters = derivative
    ? `\\mathrm{d}${derivative[1]}`
    : name.length > 1 ? `\\mathrm{${name.replace("_", "\\_")}}` : name;
  return `${letters}_{${indicesOf(layer, view, cell).join(",")}}`;
}

/** A program in PyTorch that prints every grid that is computed. */
function programOf(layer) {
  const {rows, columns, channels, filters, groups, values} = layer;
  const perGroup = channels / groups;
  const tensor = (name, grid, shape) => (
    `${name} = torch.tensor(${JSON.stringify(values[grid].flat(2))}, dtype=torch.float64)`
    + `.view(${shape.join(", ")})`);
  const sides = [columns.before, columns.behind, rows.before, rows.behind];
  const even = rows.before === rows.behind && columns.before === columns.behind;
  const padding = even ? [rows.before, columns.before] : [0, 0];
  const padded = even ? "input" : `F.pad(input, (${sides.join(", ")}))`;
  return `${[
    "import torch",
    "import torch.nn.functional as F",
    "",
    tensor("input", "input", [1, channels, rows.input, columns.input]),
    tensor("weight", "kernel", [filters, perGroup, rows.kernel, columns.kernel]),
    `bias = torch.zeros(${filters}, dtype=torch.float64)`,
    tensor("grad_output", "grad_output", [1, filters, rows.outputs, columns.outputs]),
    "leaves = [tensor.requires_grad_() for tensor in (input, weight, bias)]",
    `output = F.conv2d(${padded}, weight, bias, stride=(${rows.stride}, ${columns.stride}), `
      + `padding=(${padding.join(", ")}), dilation=(${rows.dilation}, ${columns.dilation}), `
      + `groups=${groups})`,
    "grad_input, grad_weight, grad_bias = torch.autograd.grad(output, leaves, grad_output)",
    "print(output, grad_input, grad_weight, grad_bias, sep=\"\\n\")",
  ].join("\n")}\n`;
}
