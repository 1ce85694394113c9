// What lies over the planes: the box, and a line of text in each.

const COLOR = '#6cb6ff', HANDLE = 6;
const CROSS = 'rgba(108, 182, 255, 0.55)', GAP = 14; // pixels around its middle that stay free

export function paint(canvas, planes, box, captions) {
  const ratio = devicePixelRatio, context = canvas.getContext('2d');
  if (canvas.width !== Math.round(canvas.clientWidth * ratio) || canvas.height !== Math.round(canvas.clientHeight * ratio)) {
    canvas.width = Math.round(canvas.clientWidth * ratio);
    canvas.height = Math.round(canvas.clientHeight * ratio);
  }
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.clearRect(0, 0, canvas.clientWidth, canvas.clientHeight);
  const position = planes.position();
  for (const tile of planes.tiles()) {
    const [left, top, width, height] = tile.rectangle;
    context.save();
    context.beginPath();
    context.rect(left, top, width, height);
    context.clip();
    paintCross(context, tile, position);
    if (box) paintBox(context, tile, box, position);
    context.restore();
    context.font = '12px system-ui, sans-serif';
    context.fillStyle = '#c9d4df';
    context.shadowColor = '#000';
    context.shadowBlur = 3;
    context.fillText(captions(tile), left + 8, top + height - 8);
    context.shadowBlur = 0;
  }
}

function paintCross(context, tile, position) {
  const [left, top, width, height] = tile.rectangle;
  const [x, y] = tile.toScreen(position[tile.axes[0]] + 0.5, position[tile.axes[1]] + 0.5);
  context.fillStyle = CROSS;
  context.fillRect(left, y, x - GAP - left, 1);
  context.fillRect(x + GAP, y, left + width - x - GAP, 1);
  context.fillRect(x, top, 1, y - GAP - top);
  context.fillRect(x, y + GAP, 1, top + height - y - GAP);
}

function paintBox(context, tile, box, position) {
  const [across, up, through] = tile.axes;
  const isHere = box.low[through] <= position[through] && position[through] <= box.high[through];
  const [x0, y0] = tile.toScreen(box.low[across], box.low[up]);
  const [x1, y1] = tile.toScreen(box.high[across] + 1, box.high[up] + 1);
  const [left, right, top, bottom] = [Math.min(x0, x1), Math.max(x0, x1), Math.min(y0, y1), Math.max(y0, y1)];
  context.strokeStyle = context.fillStyle = COLOR;
  context.lineWidth = 1.5;
  context.setLineDash(isHere ? [] : [4, 4]); // dashed where the box is on other slices
  context.globalAlpha = isHere ? 1 : 0.6;
  context.strokeRect(left, top, right - left, bottom - top);
  context.setLineDash([]);
  context.globalAlpha = 1;
  if (!isHere) return;
  const middle = [(left + right) / 2, (top + bottom) / 2];
  for (const [x, y] of [[left, top], [right, top], [left, bottom], [right, bottom],
    [middle[0], top], [middle[0], bottom], [left, middle[1]], [right, middle[1]]]) {
    context.fillRect(x - HANDLE / 2, y - HANDLE / 2, HANDLE, HANDLE);
  }
}
