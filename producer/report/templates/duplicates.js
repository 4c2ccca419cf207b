// Thumbnails of the images in groups of copies and of broken rules; those that the page does not show have none.

function startDuplicates() {
  const places = document.querySelectorAll('.members li');
  if (!places.length) return;
  const byKey = new Map(images.map(image => [image.key, image]));
  for (const group of document.querySelectorAll('.group')) {
    const members = [...group.querySelectorAll('.members li')].map(place => [place, byKey.get(place.dataset.key)]);
    for (const [place, image] of members) {
      const source = image && thumbnail(image);
      place.prepend(source ? element('img', { src: source, alt: '', decoding: 'async', loading: 'lazy' })
        : element('span', { class: 'no-shot' }, 'not on this page'));
    }
    const shown = members.map(([, image]) => image).filter(Boolean);
    if (!shown.length) continue;
    const link = element('a', { href: '#images' }, 'Show them among the images');
    link.addEventListener('click', () => {
      clearFields();
      grid.show(shown, Number(field.model.value));
      byId('status').textContent = `${counted(shown.length)} of ${plural(images.length, 'image', 'images')}, chosen above`;
    });
    group.querySelector('.members').before(element('p', {}, link));
  }
}
