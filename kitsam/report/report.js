// Puts the slice that a case's slider stands at into view. Without JavaScript the first slice stands still.
for (const viewer of document.querySelectorAll('.viewer')) {
  const frames = JSON.parse(viewer.querySelector('script').textContent);
  const image = viewer.querySelector('img'), slider = viewer.querySelector('input[type=range]');
  const paths = viewer.querySelectorAll('path'), caption = viewer.querySelector('output');
  const show = () => {
    const [jpeg, text, outlines] = frames[slider.value];
    const lines = Object.values(outlines).flat();
    image.src = 'data:image/jpeg;base64,' + jpeg;
    image.alt = viewer.dataset.case + ', ' + text;
    caption.textContent = text;
    slider.setAttribute('aria-valuetext', text);
    paths.forEach((path, index) => path.setAttribute('d', lines[index]));
  };
  slider.addEventListener('input', show);
  for (const button of viewer.querySelectorAll('button')) {
    button.addEventListener('click', () => { slider.value = button.dataset.frame; show(); });
  }
  for (const box of viewer.querySelectorAll('input[type=checkbox]')) {
    box.addEventListener('change', () => viewer.classList.toggle('without-' + box.name, !box.checked));
  }
  viewer.classList.add('live');
}
