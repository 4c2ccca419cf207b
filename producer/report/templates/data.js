// The data of the page: models, and a row of values for each image. Thumbnails stay text until they are shown.

const byId = id => document.getElementById(id);
const tables = JSON.parse(document.querySelector('script.tables').textContent);
const images = [];
for (const block of document.querySelectorAll('script.rows')) {
  for (const row of JSON.parse(block.textContent)) {
    const [key, uri, open, status, code, detail, note, size, answers, truth, columns] = row;
    images.push({ number: images.length, key, uri, open, status, code, detail, note, size, answers, truth, columns });
  }
}
const chunks = [...document.querySelectorAll('script.thumbnails')].map(block => ({ block, lines: null }));
const CHUNK = Number(byId('grid').dataset.chunk);

// Return the data URL of an image's thumbnail, '' if it has none.
function thumbnail(image) {
  const chunk = chunks[Math.floor(image.number / CHUNK)];
  if (!chunk.lines) chunk.lines = chunk.block.textContent.split('\n');
  const text = chunk.lines[image.number % CHUNK];
  return text ? 'data:image/webp;base64,' + text : '';
}

// Return what a model says of an image: labels with scores from 0 to 1, how many of them were given, how certain it is.
function answerOf(image, model) {
  const answer = image.answers[model];
  if (!answer) return null;
  const [certainty, given, flat, outlines = [], areas = [], map = null] = answer;
  const labels = [];
  for (let at = 0; at < flat.length; at += 2) labels.push({ label: flat[at], score: flat[at + 1] / 1000 });
  return { certainty, given, labels, outlines, areas, map };
}

// Return whether a model is right about an image; null if that is not known.
function isRight(image, model) {
  const answer = image.answers[model];
  if (!answer || !image.truth.length || !tables.models[model].judged) return null;
  const names = [];
  for (let at = 0; at < answer[1]; at++) names.push(tables.models[model].labels[answer[2][2 * at]]);
  if (!tables.models[model].multilabel) return names.length > 0 && image.truth.includes(names[0]);
  return names.length === image.truth.length && names.every(name => image.truth.includes(name));
}

// Return a new element with attributes and children; text is never read as HTML.
function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value !== undefined && value !== null) made.setAttribute(key, value);
  }
  made.append(...children.filter(child => child !== null));
  return made;
}

function svgElement(name, attributes, ...children) {
  const made = document.createElementNS('http://www.w3.org/2000/svg', name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

// Return text whose direction does not change that of what is around it.
const isolated = text => element('bdi', {}, text);
const counted = number => number.toLocaleString('en-US');
const plural = (number, one, many) => `${counted(number)} ${number === 1 ? one : many}`;
