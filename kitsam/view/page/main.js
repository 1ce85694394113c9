// The page of `kitsam view`: what its buttons and keys do, and what it says.

import { inFile } from './box.js';
import { listen } from './drag.js';
import { paint } from './paint.js';
import { openPlanes } from './planes.js';
import * as server from './server.js';
import { PRESETS, limits } from './windows.js';

const $ = (id) => document.getElementById(id);
let state, planes, box = null, chosen = 1, isBusy = true, isHidden = false, ctWindow = PRESETS[0];

async function start() {
  try {
    state = await server.getState();
    planes = await openPlanes($('planes'), state, limits(ctWindow));
    planes.setLabels(await server.getLabels(0, state.shape[2]), 0);
  } catch (error) {
    tell(`the scan cannot be shown: ${error.message}`, true);
    throw error;
  }
  makeControls();
  listen($('marks'), planes, state.shape, { get: () => box, set: setBox }, {
    changed: repaint, window: { get: () => ctWindow, set: setWindow }, isFree: () => !isBusy,
  });
  new ResizeObserver(() => requestAnimationFrame(() => { planes.redraw(); repaint(); })).observe($('stage'));
  setOpacity();
  isBusy = false;
  show();
  tell(state.history.at(-1) ?? 'draw a box in the axial plane');
}

// Actions

async function act(what, action) {
  if (isBusy) return;
  isBusy = true;
  const clock = action === server.undo || action === server.save ? 0 : setInterval(async () => {
    const progress = await server.getProgress().catch(() => '');
    if (isBusy) tell(`${what} ... ${progress}`);
  }, 1000);
  tell(`${what} ...`);
  show();
  try {
    const answer = await action();
    if (answer.count) planes.setLabels(await server.getLabels(answer.first, answer.count), answer.first);
    state = answer.state;
    tell(answer.text);
  } catch (error) {
    tell(error.message, true);
  } finally {
    clearInterval(clock);
    isBusy = false;
    show();
  }
}

const needsBox = () => state.model?.needs_boxes ?? true;

function entry() {
  const indices = inFile(box, state.axes, state.shape);
  return { box: indices, label: chosen, propagate: $('propagate').checked };
}

const ACTIONS = {
  label() {
    if (!box && needsBox()) return tell('draw a box in the axial plane first', true);
    const what = !box ? null : needsBox() ? entry() : entry().box;
    return act('labelling', () => server.label(what));
  },
  erase() {
    if (!box) return tell('draw a box in the axial plane first', true);
    return act('erasing', () => server.erase({ ...entry(), propagate: false }));
  },
  undo: () => act('undoing', server.undo),
  save: () => act('saving', server.save),
  follow: () => { $('propagate').checked = !$('propagate').checked; },
  hide: () => { isHidden = !isHidden; setOpacity(); },
  nextWindow() { setWindow(PRESETS[(PRESETS.findIndex(({ name }) => name === ctWindow.name) + 1) % PRESETS.length]); },
  stop: () => (isBusy ? server.stop().catch((error) => tell(error.message, true)) : setBox(null)),
  whole: () => { planes.zoom(0); repaint(); },
  up: () => step(1),
  down: () => step(-1),
};
const KEYS = {
  Enter: 'label', e: 'erase', u: 'undo', s: 'save', f: 'follow', h: 'hide', w: 'nextWindow', Escape: 'stop', 0: 'whole',
  ArrowUp: 'up', ArrowDown: 'down',
};

document.addEventListener('keydown', (event) => {
  const { target, key } = event;
  if (key === 'Enter' && target.matches('button, summary')) return; // it is pressed
  const isTyping = target.matches('input[type=number], input[type=range]');
  if (!planes || event.altKey || (isTyping && key !== 'Escape')) return;
  const letter = key.length === 1 ? key.toLowerCase() : key;
  const isModified = event.ctrlKey || event.metaKey;
  const name = isModified ? { z: 'undo', s: 'save' }[letter] : KEYS[letter];
  if (name) {
    event.preventDefault();
    ACTIONS[name]();
  } else if (!isModified && state.classes.some(({ number }) => String(number) === key)) {
    choose(Number(key));
  }
});

function step(by) {
  const voxel = planes.position();
  voxel[2] = Math.max(0, Math.min(state.shape[2] - 1, voxel[2] + by));
  planes.lookAt(voxel);
  repaint();
}

function setBox(next) {
  box = next;
  show();
}

function choose(number) {
  chosen = number;
  show();
}

function setWindow(next) {
  ctWindow = next;
  planes.setWindow(limits(next));
  show();
}

function setOpacity() {
  planes.setOpacity(isHidden ? 0 : Number($('opacity').value));
  repaint();
}

// What is shown

function makeControls() {
  $('name').textContent = state.name;
  document.title = `${state.name} - kitsam view`;
  for (const preset of PRESETS) {
    const button = document.createElement('button');
    button.textContent = preset.name;
    button.title = `width ${preset.width}, level ${preset.level} HU`;
    button.onclick = () => setWindow(preset);
    $('presets').append(button);
  }
  for (const { number, name, color } of state.classes) {
    const line = document.createElement('label');
    line.innerHTML = `<input type="radio" name="class" value="${number}"><i></i>${name}<output></output><kbd>${number}</kbd>`;
    line.querySelector('i').style.background = `rgb(${color})`;
    line.querySelector('input').onchange = () => choose(number);
    $('classes').append(line);
  }
  for (const name of ['label', 'erase', 'undo', 'save', 'stop']) $(name).onclick = ACTIONS[name];
  // After a click the keys are for the planes again; who goes from button to button by keys stays there.
  document.querySelector('aside').addEventListener('click', ({ target, detail }) => {
    if (detail && target.closest('button, summary, [type=radio], [type=checkbox]')) $('marks').focus();
  });
  for (const name of ['width', 'level']) {
    $(name).onchange = () => setWindow({ width: Math.max(1, Number($('width').value)), level: Number($('level').value) });
  }
  $('opacity').oninput = () => { isHidden = false; setOpacity(); };
}

function show() {
  const boxText = box && JSON.stringify(inFile(box, state.axes, state.shape)).replaceAll(',', ', ');
  $('box').textContent = boxText ? `${boxText} (voxels of the file)` : 'none';
  $('label').disabled = isBusy || !state.model;
  $('erase').disabled = isBusy || !box;
  $('undo').disabled = isBusy || !state.undo;
  $('save').disabled = isBusy;
  $('stop').hidden = !isBusy;
  $('propagate').disabled = !needsBox();
  $('save').classList.toggle('main', state.unsaved);
  $('model').textContent = !state.model ? state.no_model
    : needsBox() ? `${state.model.name} labels what the box surrounds.`
      : `${state.model.name} labels the box, or without a box the whole scan; it decides the labels itself.`;
  $('model').title = state.model?.about ?? '';
  for (const line of $('classes').children) {
    const input = line.querySelector('input'), { name } = state.classes[input.value - 1];
    input.checked = Number(input.value) === chosen;
    line.querySelector('output').textContent = `${state.volumes_ml[name].toFixed(1)} mL`;
  }
  [...$('presets').children].forEach((button, index) => button.setAttribute('aria-pressed', PRESETS[index] === ctWindow));
  $('width').value = ctWindow.width;
  $('level').value = ctWindow.level;
  $('history').replaceChildren(...[...state.doubts.map((doubt) => `warning: ${doubt}`), ...state.history].reverse().map((text) => {
    const line = document.createElement('li');
    line.textContent = text;
    return line;
  }));
  $('out').textContent = state.out;
  repaint();
}

const captions = (tile) => {
  const voxel = planes.position(), through = tile.axes[2], { file_axis: axis, mirrored } = state.axes[through];
  const index = mirrored ? state.shape[through] - 1 - voxel[through] : voxel[through];
  const slice = `${tile.name}, ${'ijk'[axis]} = ${index} of 0 to ${state.shape[through] - 1}`;
  if (!tile.isAxial) return slice;
  const found = state.classes[planes.labelAt(voxel) - 1]?.name;
  return `${slice}; ${planes.intensityAt(voxel)} HU${found ? `, ${found}` : ''}`;
};

const repaint = () => paint($('marks'), planes, box, captions);

function tell(text, isError = false) {
  $('status').textContent = text;
  $('status').classList.toggle('error', isError);
}

start();
