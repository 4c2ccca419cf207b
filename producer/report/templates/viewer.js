// The larger view of one image, in a dialog: all labels, a legend of the masks, and what the manifest said.

const viewer = {
  dialog: byId('viewer'),
  at: 0,

  open(at) {
    this.at = at;
    this.fill();
    if (!this.dialog.open) this.dialog.showModal();
  },

  step(by) {
    const next = this.at + by;
    if (next < 0 || next >= grid.shown.length) return;
    this.at = next;
    this.fill();
  },

  fill() {
    const image = grid.shown[this.at];
    byId('viewer-title').replaceChildren(isolated(image.key));
    byId('viewer-title').title = image.key;
    byId('viewer-place').textContent = `${counted(this.at + 1)} of ${counted(grid.shown.length)}`;
    byId('previous').disabled = this.at === 0;
    byId('next').disabled = this.at === grid.shown.length - 1;
    const frame = byId('viewer-image');
    const mapped = tables.models.flatMap((model, number) => (model.maps ? [number] : []));
    frame.replaceChildren(...shotOf(image, mapped));
    for (const map of frame.querySelectorAll('.map')) this.showMap(map, field.maps.checked && Number(map.dataset.model) === grid.model);
    const shown = frame.querySelector('img');
    if (shown) shown.alt = `Image ${image.key}`;
    frame.style.setProperty('--ratio', image.size && shown ? image.size[2] / image.size[3] : 2);
    const outlines = frame.querySelector('svg:not(.map, .map *)');
    if (outlines) outlines.style.display = field.outlines.checked ? '' : 'none';
    byId('viewer-facts').replaceChildren(...tables.models.flatMap((_, model) => this.answers(image, model, outlines)), ...this.facts(image));
    byId('viewer-facts').parentElement.scrollTop = 0;
  },

  showMap(map, shown) {
    map.style.display = shown ? '' : 'none';
  },

  // Return a switch for the map of a model; null if the image has none.
  mapSwitch(model) {
    const map = byId('viewer-image').querySelector(`.map[data-model="${model}"]`);
    if (!map) return null;
    const box = element('input', { type: 'checkbox' });
    box.checked = map.style.display !== 'none';
    box.addEventListener('change', () => this.showMap(map, box.checked));
    return element('label', { class: 'switch map-switch' }, box, 'Where the best label comes from');
  },

  answers(image, model, outlines) {
    const answer = answerOf(image, model), { name, labels, masks, colors } = tables.models[model];
    if (!answer) return [];
    const right = isRight(image, model);
    const title = element('h3', {}, isolated(name));
    if (right !== null) title.append(' ', element('span', { class: right ? 'right-text' : 'wrong-text' }, right ? 'right' : 'wrong'));
    if (!answer.labels.length) return [title, element('p', { class: 'range' }, masks ? 'No masks.' : 'No label.')];
    const list = element('ul', { class: masks ? 'answer of-masks' : 'answer' });
    answer.labels.forEach((one, number) => {
      const score = element('span', { class: 'number' }, one.score.toFixed(2));
      if (masks) {
        const box = element('input', { type: 'checkbox' });
        box.checked = true;
        box.addEventListener('change', () => {
          const shape = outlines?.querySelector(`[data-mask="${model}-${number}"]`);
          if (shape) shape.style.display = box.checked ? '' : 'none';
          if (outlines && box.checked) outlines.style.display = '';
        });
        const swatch = element('span', { class: 'swatch' });
        swatch.style.background = colors[one.label];
        const area = element('span', { class: 'number range', title: 'share of the image' }, `${(answer.areas[number] / 10).toFixed(1)}%`);
        list.append(element('li', {}, element('label', {}, box, swatch, isolated(labels[one.label])), score, area));
      } else {
        const bar = svgElement('svg', { viewBox: '0 0 100 1', preserveAspectRatio: 'none', class: 'meter', 'aria-hidden': 'true' },
          svgElement('rect', { width: 100 * one.score, height: 1 }));
        list.append(element('li', {}, isolated(labels[one.label]), bar, score));
      }
    });
    return [title, list, this.mapSwitch(model)].filter(Boolean);
  },

  facts(image) {
    const pairs = [['key', isolated(image.key)]];
    if (image.truth.length) pairs.push(['truth', isolated(image.truth.join(', '))]);
    pairs.push(['outcome', isolated(image.code || image.status)]);
    if (image.detail) pairs.push(['detail', isolated(image.detail)]);
    if (image.note) pairs.push(['preview', isolated(`none: ${image.note}`)]);
    if (image.size) pairs.push(['size', `${image.size[0]} × ${image.size[1]} pixels`]);
    const link = image.open && /^https?:\/\//i.test(image.uri);
    pairs.push(['location', link ? element('a', { href: image.uri, rel: 'noreferrer noopener', target: '_blank' }, isolated(image.uri)) : isolated(image.uri)]);
    for (const [name, value] of image.columns) pairs.push([isolated(name), isolated(value)]);
    const list = element('dl', { class: 'facts' });
    for (const [name, value] of pairs) list.append(element('dt', {}, name), element('dd', {}, value));
    return [element('h3', {}, 'Image'), list];
  },

  start() {
    grid.open = at => this.open(at);
    byId('previous').addEventListener('click', () => this.step(-1));
    byId('next').addEventListener('click', () => this.step(1));
    byId('close').addEventListener('click', () => this.dialog.close());
    this.dialog.addEventListener('click', event => { if (event.target === this.dialog) this.dialog.close(); });
    this.dialog.addEventListener('keydown', event => {
      if (event.key === 'ArrowRight') this.step(1);
      if (event.key === 'ArrowLeft') this.step(-1);
    });
    this.dialog.addEventListener('close', () => grid.focus(this.at));
  },
};
