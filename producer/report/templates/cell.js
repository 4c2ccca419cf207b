// What is shown of one image: its thumbnail with the outlines of its masks, and its captions.

// Return the outlines of all masks of an image, each with a class of its model and number; null if it has none.
function outlinesOf(image) {
  if (!image.size) return null;
  const drawing = svgElement('svg', { viewBox: `0 0 ${image.size[2]} ${image.size[3]}`, 'aria-hidden': 'true' });
  tables.models.forEach((model, number) => {
    const answer = image.answers[number];
    if (!model.masks || !answer) return;
    answer[3].forEach((path, mask) => {
      const shape = svgElement('g', { 'data-mask': `${number}-${mask}` });
      shape.append(svgElement('path', { d: path, class: 'halo' }));
      shape.append(svgElement('path', { d: path, class: 'line', stroke: model.colors[answer[2][2 * mask]] }));
      drawing.append(shape);
    });
  });
  return drawing.childElementCount ? drawing : null;
}

// Return the thumbnail with the maps of these models and outlines, or why there is none.
function shotOf(image, mapped = []) {
  const source = thumbnail(image);
  if (source) {
    const shown = element('img', { src: source, alt: '', decoding: 'async', draggable: 'false' });
    const outlines = outlinesOf(image);
    return [shown, ...mapped.map(model => mapOf(image, model)), outlines].filter(Boolean);
  }
  const [title, why] = image.status === 'failed' ? [image.code, image.detail] : image.status === 'pending'
    ? ['pending', 'has no outcome yet'] : ['no preview', image.note];
  return [element('span', { class: 'none' }, element('strong', {}, title), element('span', {}, isolated(why)))];
}

// Return what a model says of an image in a few words, and the score of it.
function titleOf(image, model) {
  const answer = answerOf(image, model);
  if (!answer) return [image.status === 'failed' ? 'failed' : image.status, null];
  const names = tables.models[model].labels;
  const given = answer.labels.slice(0, answer.given);
  if (!given.length) return ['no label', null];
  return [given.map(one => names[one.label]).join(', '), given.length === 1 ? given[0].score : null];
}

// Return a cell of the grid: a button with the image, what was given to it, its truth and its key.
function cellOf(image, model) {
  const [title, score] = titleOf(image, model);
  const right = isRight(image, model);
  const said = element('span', { class: 'said-of' },
    element('span', { class: 'title' }, isolated(title), score === null ? null : element('span', { class: 'score' }, score.toFixed(2))));
  if (tables.truth) {
    const words = right === false ? `is ${image.truth.join(', ')}` : right ? 'right' : image.truth.length ? `is ${image.truth.join(', ')}` : 'truth unknown';
    said.append(element('span', { class: right ? 'truth as-true' : right === false ? 'truth' : 'key' }, isolated(words)));
  }
  said.append(element('span', { class: 'key', title: image.key }, isolated(image.key)));
  const spoken = [title, score === null ? '' : score.toFixed(2), right === false ? `wrong, is ${image.truth.join(', ')}` : '', image.key];
  const button = element('button', { type: 'button', tabindex: '-1', 'aria-label': spoken.filter(Boolean).join(', ') },
    element('span', { class: 'shot' }, ...shotOf(image, field.maps.checked ? [model] : [])), said);
  return element('div', { class: right === false ? 'cell is-wrong' : 'cell', role: 'listitem' }, button);
}
