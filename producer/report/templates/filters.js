// Search, filters and order.

const field = Object.fromEntries(['search', 'model', 'label', 'truth', 'least', 'most', 'outcome', 'order', 'outlines', 'maps'].map(id => [id, byId(id)]));
const form = byId('filters');
for (const image of images) image.lower = image.key.toLowerCase();

function options(select, pairs) {
  const chosen = select.value;
  select.replaceChildren(...pairs.map(([value, text]) => element('option', { value }, text)));
  if (pairs.some(([value]) => value === chosen)) select.value = chosen;
}

// Count the images that are shown by a value, the most frequent value first.
function tally(values) {
  const found = new Map();
  for (const value of values) found.set(value, (found.get(value) || 0) + 1);
  return [...found].sort((one, other) => other[1] - one[1] || (one[0] < other[0] ? -1 : 1));
}

function labelOptions() {
  const model = Number(field.model.value), names = tables.models[model].labels;
  const given = images.flatMap(image => {
    const answer = image.answers[model];
    return answer ? Array.from({ length: answer[1] }, (_, at) => answer[2][2 * at]) : [];
  });
  options(field.label, [['', 'any label'], ...tally(given).map(([label, count]) => [String(label), `${names[label]} (${counted(count)})`])]);
}

function fillFields() {
  options(field.model, tables.models.map((model, number) => [String(number), model.name]));
  byId('model-field').hidden = tables.models.length < 2;
  const outcomes = tally(images.map(image => image.code || (image.note ? 'no preview' : image.status)));
  options(field.outcome, [['', 'any outcome'], ['failed', 'failed'], ...outcomes.filter(([value]) => value !== 'failed').map(([value, count]) => [value, `${value} (${counted(count)})`])]);
  byId('truth-field').hidden = !tables.truth;
  const truths = tally(images.flatMap(image => image.truth));
  options(field.truth, [['', 'any truth'], ['~wrong', 'wrong'], ['~right', 'right'], ...truths.map(([label, count]) => [`=${label}`, `is ${label} (${counted(count)})`])]);
  const orders = [['uncertain', 'least certain'], ['certain', 'most certain'], ['manifest', 'manifest']];
  options(field.order, tables.truth ? [['wrong', 'wrong first'], ...orders] : orders);
  byId('outlines-field').hidden = !tables.models.some(model => model.masks);
  byId('maps-field').hidden = !tables.models.some(model => model.maps);
  labelOptions();
}

// Return whether the model is right where that is asked for, or whether the truth is the one that is asked for.
function hasTruth(image, model, wanted) {
  if (!wanted) return true;
  if (wanted.startsWith('=')) return image.truth.includes(wanted.slice(1));
  return isRight(image, model) === (wanted === '~right');
}

// Return whether a label that was given has a score in the range.
function hasScore(image, model, label, least, most) {
  if (label === '' && least === 0 && most === 1) return true;
  const answer = image.answers[model];
  if (!answer) return false;
  for (let at = 0; at < answer[1]; at++) {
    const score = answer[2][2 * at + 1] / 1000;
    if ((label === '' || answer[2][2 * at] === Number(label)) && score >= least && score <= most) return true;
  }
  return false;
}

const hasOutcome = (image, wanted) => !wanted || image.code === wanted || image.status === wanted
  || (wanted === 'no preview' && image.note !== '');

// Images without a certainty are last, in the order of the manifest.
function sorted(list, order, model) {
  const certainty = image => image.answers[model]?.[0] ?? null;
  const compare = sign => (one, other) => {
    const [a, b] = [certainty(one), certainty(other)];
    if (a === null || b === null) return (a === null) - (b === null) || one.number - other.number;
    return sign * (a - b) || one.number - other.number;
  };
  if (order === 'uncertain') return list.sort(compare(1));
  if (order === 'certain') return list.sort(compare(-1));
  if (order === 'wrong') {
    // Of the wrong ones the most certain mistakes, of the others the least certain ones first.
    const wrong = list.filter(image => isRight(image, model) === false).sort(compare(-1));
    return [...wrong, ...list.filter(image => isRight(image, model) !== false).sort(compare(1))];
  }
  return list;
}

const limit = (input, otherwise) => (input.value === '' || !Number.isFinite(input.valueAsNumber) ? otherwise : input.valueAsNumber);

function apply() {
  const model = Number(field.model.value), words = field.search.value.trim().toLowerCase();
  const least = limit(field.least, 0), most = limit(field.most, 1);
  const found = images.filter(image => image.lower.includes(words) && hasOutcome(image, field.outcome.value)
    && hasTruth(image, model, field.truth.value) && hasScore(image, model, field.label.value, least, most));
  grid.show(sorted(found, field.order.value, model), model);
  grid.element.classList.toggle('without-outlines', !field.outlines.checked);
  byId('status').textContent = found.length === images.length ? plural(images.length, 'image', 'images')
    : `${counted(found.length)} of ${plural(images.length, 'image', 'images')}`;
  byId('empty').hidden = found.length > 0 || !images.length;
}

// Set every field to what it was at first.
function clearFields() {
  for (const one of Object.values(field)) {
    if (one.type === 'checkbox') one.checked = one.defaultChecked;
    else if (one.tagName === 'SELECT') one.selectedIndex = 0;
    else one.value = '';
  }
  labelOptions();
  apply();
}

// Show the images that a link above the grid is about.
function followLink(link) {
  clearFields();
  if (link.dataset.model) field.model.value = link.dataset.model;
  labelOptions();
  const names = tables.models[Number(field.model.value)].labels;
  if (link.dataset.label) field.label.value = String(names.indexOf(link.dataset.label));
  if (link.dataset.truth) field.truth.value = `=${link.dataset.truth}`;
  if (link.dataset.outcome) field.outcome.value = link.dataset.outcome;
  apply();
}

function startFilters() {
  if (!images.length) {
    byId('status').textContent = 'The page was written without images.';
    return;
  }
  form.hidden = false;
  fillFields();
  let pending = 0;
  form.addEventListener('input', event => {
    if (event.target === field.outlines) return grid.element.classList.toggle('without-outlines', !field.outlines.checked);
    if (event.target === field.maps) {
      grid.clear();
      return grid.draw();
    }
    if (event.target === field.model) labelOptions();
    cancelAnimationFrame(pending);
    pending = requestAnimationFrame(apply);
  });
  form.addEventListener('submit', event => event.preventDefault());
  form.addEventListener('reset', event => {
    event.preventDefault();
    clearFields();
  });
  byId('clear').addEventListener('click', clearFields);
  for (const link of document.querySelectorAll('a.to-images')) link.addEventListener('click', () => followLink(link));
  apply();
}
