// Puts the slice that a case's slider stands at into view, in the plane, window and size that are chosen. Without
// JavaScript the first slice stands still. A case's slices are read when it is first moved.
const LETTERS = {axial: ['R', "the patient's right", 'A', "the patient's front"],
                 coronal: ['R', "the patient's right", 'S', "the patient's head"],
                 sagittal: ['A', "the patient's front", 'S', "the patient's head"]};
const AXES = {axial: 0, coronal: 1, sagittal: 2};
for (const viewer of document.querySelectorAll('.viewer')) {
  const find = (what) => viewer.querySelector(what);
  const stage = find('.stage'), image = find('img'), slider = find('input[type=range]'), caption = find('output');
  const svg = find('svg'), paths = viewer.querySelectorAll('path');
  const left = find('.left'), upper = find('.top'), scroll = find('.scroll');
  let planes = null, name = 'axial';
  const plane = () => (planes ??= JSON.parse(find('script').textContent))[name];
  const show = () => {
    const [jpeg, text, outlines] = plane().frames[slider.value];
    const lines = Object.values(outlines).flat();
    image.src = 'data:image/jpeg;base64,' + jpeg;
    image.alt = viewer.dataset.case + ', ' + name + ', ' + text;
    caption.textContent = text;
    slider.setAttribute('aria-valuetext', text);
    paths.forEach((path, index) => path.setAttribute('d', lines[index]));
  };
  // The frame nearest to a slice along the plane's axis.
  const nearest = (at) => plane().frames.reduce(
    (best, frame, index, all) => Math.abs(frame[3] - at) < Math.abs(all[best][3] - at) ? index : best, 0);
  const turn = (to) => {
    name = to;
    const {frames, first, size, mm} = plane(), letters = LETTERS[name];
    slider.max = frames.length - 1;
    slider.value = first;
    svg.setAttribute('viewBox', `0 0 ${2 * size[1]} ${2 * size[0]}`);
    stage.style.setProperty('--ratio', mm[1] / mm[0]);
    stage.style.setProperty('--cm', 1000 / mm[1]);
    [left.textContent, left.title, upper.textContent, upper.title] = letters;
    show();
  };
  const jump = (button) => {
    slider.value = nearest(button.dataset.at.split(' ')[AXES[plane() && name]]);
    show();
  };
  const choose = (what, act) => find(`select[name=${what}]`)?.addEventListener('change', (event) => act(event.target.value));
  slider.addEventListener('input', show);
  choose('plane', turn);
  choose('window', (filter) => stage.style.setProperty('--window', filter));
  choose('zoom', (zoom) => stage.style.setProperty('--zoom', zoom));
  // Whoever has put the picture in focus means its slices by the wheel.
  scroll.addEventListener('wheel', (event) => {
    if (document.activeElement !== scroll || event.ctrlKey) return;
    event.preventDefault();
    slider.value = +slider.value + Math.sign(event.deltaY);
    show();
  }, {passive: false});
  for (const button of viewer.querySelectorAll('.jumps button')) button.addEventListener('click', () => jump(button));
  for (const button of document.querySelectorAll(`button[data-viewer=${viewer.id}]`)) {
    button.addEventListener('click', () => { jump(button); viewer.scrollIntoView({block: 'nearest'}); });
  }
  for (const box of viewer.querySelectorAll('input[type=checkbox]')) {
    box.addEventListener('change', () => viewer.classList.toggle('without-' + box.name, !box.checked));
  }
  viewer.classList.add('live');
}
document.documentElement.classList.add('scripted');
// A link to a case opens it.
const open = () => {
  const target = location.hash.length > 1 && document.getElementById(location.hash.slice(1));
  if (target && target.tagName === 'DETAILS') { target.open = true; target.scrollIntoView(); }
};
addEventListener('hashchange', open);
open();
