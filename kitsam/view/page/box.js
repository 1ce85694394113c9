// A box of voxels: low and high are [x, y, z] of the page, ends included. Its edges lie between voxels, where x is the
// left edge of voxel x.

export const fromCorners = (one, other) => ({
  low: one.map((value, axis) => Math.min(value, other[axis])),
  high: one.map((value, axis) => Math.max(value, other[axis])),
});

/** The same box in voxel indices of the file, as `kitsam predict --boxes` has it: [i0, j0, k0, i1, j1, k1]. */
export function inFile({ low, high }, axes, shape) {
  const box = new Array(6);
  axes.forEach(({ file_axis: axis, mirrored }, page) => {
    const last = shape[page] - 1;
    box[axis] = mirrored ? last - high[page] : low[page];
    box[axis + 3] = mirrored ? last - low[page] : high[page];
  });
  return box;
}

/** A copy moved by whole voxels, as far as it stays inside. */
export function moved({ low, high }, by, shape) {
  const steps = by.map((step, axis) => Math.max(-low[axis], Math.min(shape[axis] - 1 - high[axis], step)));
  return { low: low.map((value, axis) => value + steps[axis]), high: high.map((value, axis) => value + steps[axis]) };
}

/** A copy with one edge at another place, a voxel at least from the opposite one. */
export function withEdge({ low, high }, axis, side, edge, shape) {
  const box = { low: [...low], high: [...high] };
  if (side === 'low') box.low[axis] = Math.max(0, Math.min(high[axis], Math.round(edge)));
  else box.high[axis] = Math.min(shape[axis] - 1, Math.max(low[axis], Math.round(edge) - 1));
  return box;
}
