// Pure functions of the chart: smoothing, reduction, best point.

// Exponential moving average with bias correction; a gap stays a gap and starts the average anew.
export function smooth(values, weight) {
  const out = new Array(values.length);
  let average = 0;
  let bias = 1;
  for (let i = 0; i < values.length; i++) {
    const value = values[i];
    if (!Number.isFinite(value)) {
      out[i] = NaN;
      average = 0;
      bias = 1;
      continue;
    }
    average = weight * average + (1 - weight) * value;
    bias *= weight;
    out[i] = average / (1 - bias);
  }
  return out;
}

// Keeps the smallest and the largest of each bucket, every gap's edge, and the last point.
export function decimate(xs, ys, points) {
  const n = ys.length;
  const value = (i) => (Number.isFinite(ys[i]) ? ys[i] : null);
  if (n <= points) return [Array.from(xs), Array.from(ys, (_, i) => value(i))];
  const keep = [];
  const size = (2 * n) / points;
  for (let from = 0; from < n; from += size) {
    const end = Math.min(n, Math.floor(from + size));
    let low = -1;
    let high = -1;
    let gap = -1;
    for (let i = Math.floor(from); i < end; i++) {
      if (!Number.isFinite(ys[i])) gap = i;
      else {
        if (low < 0 || ys[i] < ys[low]) low = i;
        if (high < 0 || ys[i] > ys[high]) high = i;
      }
    }
    keep.push(...new Set([low, high, gap].filter((i) => i >= 0).sort((a, b) => a - b)));
  }
  if (keep[keep.length - 1] !== n - 1) keep.push(n - 1);
  return [keep.map((i) => xs[i]), keep.map(value)];
}

// The part of a curve inside a window of x and one point beyond each end, without rows that have no x; xs rise.
export function inside(xs, ys, zoom) {
  const keep = [];
  for (let i = 0; i < xs.length; i++) if (Number.isFinite(xs[i])) keep.push(i);
  let from = 0;
  let end = keep.length;
  if (zoom) {
    while (from + 1 < end && xs[keep[from + 1]] < zoom.min) from++;
    while (end - 2 >= from && xs[keep[end - 2]] > zoom.max) end--;
  }
  const part = keep.slice(from, end);
  return [part.map((i) => xs[i]), part.map((i) => ys[i])];
}

// The value below which this share of the finite values lies, or null.
export function quantile(values, share) {
  const sorted = Float64Array.from(values).filter(Number.isFinite).sort();
  return sorted.length ? sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))] : null;
}

// Indices of values that stand alone between gaps: no line would show them. Undefined is a row of another curve, not a gap.
export function lonely(values) {
  const rows = [];
  for (let i = 0; i < values.length; i++) if (values[i] !== undefined) rows.push(i);
  const empty = (at) => at < 0 || at >= rows.length || values[rows[at]] === null;
  return rows.filter((i, at) => values[i] !== null && empty(at - 1) && empty(at + 1));
}

// Index of the smallest finite value, or -1.
export function bestOf(values) {
  let best = -1;
  for (let i = 0; i < values.length; i++) {
    if (Number.isFinite(values[i]) && (best < 0 || values[i] < values[best])) best = i;
  }
  return best;
}
