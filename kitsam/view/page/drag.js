// The mouse over the planes: draw, change or move the box; look at another place; window and level; slices and zoom.

import { fromCorners, moved, withEdge } from './box.js';

const NEAR = 6; // pixels from an edge within which it is taken
const STILL = 3; // pixels up to which a drag is a click

/** `box`: {get, set}; `changed`: is called when the crosshair has moved. */
export function listen(canvas, planes, shape, box, { changed, window, isFree }) {
  const at = (event) => {
    const { left, top } = canvas.getBoundingClientRect();
    return [event.clientX - left, event.clientY - top];
  };
  const tileAt = ([x, y]) => planes.tiles().find(({ rectangle: [left, top, width, height] }) =>
    left <= x && x < left + width && top <= y && y < top + height);
  const clamp = (value, axis) => Math.max(0, Math.min(shape[axis] - 1, value));
  const voxelAt = (tile, [x, y]) => {
    const voxel = planes.position();
    tile.toEdges(x, y).forEach((edge, index) => { voxel[tile.axes[index]] = clamp(Math.floor(edge), tile.axes[index]); });
    return voxel;
  };
  const look = (tile, point) => {
    planes.lookAt(voxelAt(tile, point));
    changed();
  };

  canvas.addEventListener('pointerdown', (event) => {
    const start = at(event), tile = tileAt(start);
    if (!tile) return;
    canvas.setPointerCapture(event.pointerId);
    const drag = event.button === 2 ? windowDrag(window) : isFree() ? boxDrag(tile, start, event.shiftKey) : look;
    let isDrag = false;
    const move = (next) => {
      const point = at(next);
      isDrag ||= Math.hypot(point[0] - start[0], point[1] - start[1]) > STILL;
      if (isDrag) drag(tile, point, [point[0] - start[0], point[1] - start[1]]);
    };
    const end = () => {
      canvas.removeEventListener('pointermove', move);
      if (!isDrag && event.button === 0) look(tile, start);
    };
    canvas.addEventListener('pointermove', move);
    canvas.addEventListener('pointerup', end, { once: true });
  });

  /** What a drag from `start` does, on each move. */
  function boxDrag(tile, start, isNew) {
    const old = isNew ? null : box.get(), edges = old && edgesAt(tile, old, planes.position(), start);
    if (edges?.length) {
      return (_, point) => box.set(edges.reduce((changing, { index, axis, side }) =>
        withEdge(changing, axis, side, tile.toEdges(...point)[index], shape), old));
    }
    const from = voxelAt(tile, start);
    if (edges) {
      return (_, point) => box.set(moved(old, voxelAt(tile, point).map((value, axis) => value - from[axis]), shape));
    }
    if (!tile.isAxial) return look;
    return (_, point) => box.set(fromCorners(from, voxelAt(tile, point)));
  }

  canvas.addEventListener('pointermove', (event) => {
    if (event.buttons) return;
    const point = at(event), tile = tileAt(point), edges = tile && box.get() && edgesAt(tile, box.get(), planes.position(), point);
    canvas.style.cursor = cursorOf(tile, edges);
  });
  canvas.addEventListener('contextmenu', (event) => event.preventDefault());
  canvas.addEventListener('wheel', (event) => {
    event.preventDefault();
    const tile = tileAt(at(event));
    if (!tile) return;
    if (event.ctrlKey) {
      planes.zoom(event.deltaY < 0 ? 1.15 : 1 / 1.15);
    } else {
      const voxel = planes.position(), through = tile.axes[2];
      voxel[through] = clamp(voxel[through] + (event.deltaY < 0 ? 1 : -1), through);
      planes.lookAt(voxel);
    }
    changed();
  }, { passive: false });
}

/** Width by going right, level by going up. */
function windowDrag({ get, set }) {
  const { width, level } = get();
  return (tile, point, [x, y]) => set({ width: Math.max(1, Math.round(width + 2 * x)), level: Math.round(level - 2 * y) });
}

/** The box's edges near a point: [] inside it, null outside, or where the box is on other slices. */
function edgesAt(tile, { low, high }, position, [x, y]) {
  const [, , through] = tile.axes;
  if (position[through] < low[through] || position[through] > high[through]) return null;
  const one = tile.toScreen(low[tile.axes[0]], low[tile.axes[1]]);
  const other = tile.toScreen(high[tile.axes[0]] + 1, high[tile.axes[1]] + 1);
  const edges = [];
  let isInside = true;
  [x, y].forEach((place, index) => {
    const [first, last] = [one[index], other[index]];
    isInside &&= Math.min(first, last) - NEAR <= place && place <= Math.max(first, last) + NEAR;
    const [nearLow, nearHigh] = [Math.abs(place - first), Math.abs(place - last)];
    if (Math.min(nearLow, nearHigh) <= NEAR) {
      edges.push({ index, axis: tile.axes[index], side: nearLow < nearHigh ? 'low' : 'high' });
    }
  });
  return isInside ? edges : null;
}

function cursorOf(tile, edges) {
  if (!tile) return 'default';
  if (!edges) return tile.isAxial ? 'crosshair' : 'default';
  if (!edges.length) return 'move';
  return edges.length > 1 ? 'nwse-resize' : edges[0].index === 0 ? 'ew-resize' : 'ns-resize';
}
