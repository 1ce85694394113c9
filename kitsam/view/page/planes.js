// The three planes, which niivue shows, and where a voxel is on the screen.
//
// The scan's axes are the page's (right, front, head) and its affine has no rotation, so that each plane is a grid of
// voxels. niivue says of each plane (a tile of its canvas) which millimeters it shows; voxel edge e lies at
// (e - 0.5) * spacing.

const AXIAL = 0, CORONAL = 1, SAGITTAL = 2;
const AXES = { [AXIAL]: [0, 1, 2], [CORONAL]: [0, 2, 1], [SAGITTAL]: [1, 2, 0] }; // across, up, through
export const NAMES = { [AXIAL]: 'axial', [CORONAL]: 'coronal', [SAGITTAL]: 'sagittal' };
const LAYOUT = [
  { sliceType: AXIAL, position: [0, 0, 0.62, 1] },
  { sliceType: CORONAL, position: [0.62, 0, 0.38, 0.5] },
  { sliceType: SAGITTAL, position: [0.62, 0.5, 0.38, 0.5] },
];

export async function openPlanes(canvas, state, [darkest, brightest]) {
  const view = new niivue.Niivue({
    interactive: false, // drag.js has the mouse, main.js the keys
    isRadiologicalConvention: true,
    multiplanarShowRender: 0,
    crosshairWidth: 0, // paint.js has a thinner one
    dragAndDropEnabled: false,
    logLevel: 'error',
  });
  await view.attachToCanvas(canvas);
  view.setCustomLayout(LAYOUT);
  const address = new URL('scan.nii', location).href;
  await view.loadVolumes([{ url: address, name: 'scan.nii', cal_min: darkest, cal_max: brightest }]);
  view.createEmptyDrawing();
  view.setDrawColormap(colormap(state.classes));
  return planesOf(view, canvas, state);
}

function planesOf(view, canvas, { shape, spacing }) {
  const [width, height] = shape;
  const tileOf = (slice) => {
    const [left, top, across, down] = slice.leftTopWidthHeight;
    const axes = AXES[slice.axCorSag];
    const [mmLeft, mmBottom] = slice.leftTopMM, [mmAcross, mmUp] = slice.fovMM;
    const ratio = canvas.width / canvas.clientWidth; // of the canvas's pixels to those of the page
    return {
      name: NAMES[slice.axCorSag],
      isAxial: slice.axCorSag === AXIAL,
      axes,
      rectangle: [Math.min(left, left + across), top, Math.abs(across), down].map((part) => part / ratio),
      /** Voxel edges across and up -> [x, y] on the page. */
      toScreen: (edgeAcross, edgeUp) => [
        (left + across * (((edgeAcross - 0.5) * spacing[axes[0]] - mmLeft) / mmAcross)) / ratio,
        (top + down * (1 - ((edgeUp - 0.5) * spacing[axes[1]] - mmBottom) / mmUp)) / ratio,
      ],
      /** [x, y] on the page -> voxel edges across and up, with fractions. */
      toEdges: (x, y) => [
        (mmLeft + ((x * ratio - left) / across) * mmAcross) / spacing[axes[0]] + 0.5,
        (mmBottom + (1 - (y * ratio - top) / down) * mmUp) / spacing[axes[1]] + 0.5,
      ],
    };
  };
  return {
    tiles: () => view.screenSlices.filter((slice) => slice.axCorSag <= SAGITTAL).map(tileOf),
    /** The voxel that the crosshair is in. */
    position: () => shape.map((size, axis) =>
      Math.max(0, Math.min(size - 1, Math.floor(view.scene.crosshairPos[axis] * size)))),
    lookAt(voxel) {
      view.scene.crosshairPos = voxel.map((value, axis) => (value + 0.5) / shape[axis]);
      view.drawScene();
    },
    intensityAt: (voxel) => view.volumes[0].img[voxel[0] + width * (voxel[1] + height * voxel[2])],
    setWindow([darkest, brightest]) {
      Object.assign(view.volumes[0], { cal_min: darkest, cal_max: brightest });
      view.updateGLVolume();
    },
    setOpacity: (opacity) => view.setDrawOpacity(opacity),
    /** Labels, a byte a voxel, of the slices from `first` on. */
    setLabels(bytes, first) {
      view.drawBitmap.set(bytes, first * width * height);
      view.refreshDrawing();
    },
    labelAt: (voxel) => view.drawBitmap[voxel[0] + width * (voxel[1] + height * voxel[2])],
    /** What the crosshair is at stays where it is; 0 shows all again. */
    zoom(factor) {
      const [x, y, z, zoom] = view.scene.pan2Dxyzmm, next = Math.max(1, Math.min(20, zoom * factor));
      const mm = view.frac2mm(view.scene.crosshairPos);
      const shift = [x, y, z].map((old, axis) => (next === 1 ? 0 : old + (zoom - next) * mm[axis]));
      view.setPan2Dxyzmm([...shift, next]);
    },
    redraw: () => view.drawScene(),
  };
}

function colormap(classes) {
  const table = { I: [0], R: [0], G: [0], B: [0], A: [0], labels: ['background'] };
  for (const { number, name, color: [red, green, blue] } of classes) {
    table.I.push(number);
    table.R.push(red);
    table.G.push(green);
    table.B.push(blue);
    table.A.push(255);
    table.labels.push(name);
  }
  return table;
}
