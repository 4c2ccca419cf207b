// Activation maps: where in an image the evidence for its best label is, as a soft color over it.

//: colors of weak, middling and strong evidence
const HEAT = [[126, 30, 156], [240, 100, 50], [255, 236, 120]];
//: opacity of the strongest evidence
const OPAQUE = 0.72;
//: pixels that each cell is drawn with, so that the browser only smooths a little
const CELL = 12;

// Return the color of a level from 0 to 1, with its opacity.
function heat(level) {
  const at = level * (HEAT.length - 1), low = Math.min(HEAT.length - 2, Math.floor(at)), part = at - low;
  return [...HEAT[low].map((value, n) => Math.round(value + part * (HEAT[low + 1][n] - value))), Math.round(255 * OPAQUE * level)];
}

function canvasOf(width, height) {
  const made = document.createElement('canvas');
  [made.width, made.height] = [width, height];
  return made;
}

// Return the picture of a map as a data URL.
function pictureOf(text, columns, rows) {
  const small = canvasOf(columns, rows), drawing = small.getContext('2d');
  const pixels = drawing.createImageData(columns, rows), levels = atob(text);
  for (let at = 0; at < levels.length; at++) pixels.data.set(heat(levels.charCodeAt(at) / 255), 4 * at);
  drawing.putImageData(pixels, 0, 0);
  const large = canvasOf(columns * CELL, rows * CELL), smooth = large.getContext('2d');
  smooth.imageSmoothingQuality = 'high';
  smooth.drawImage(small, 0, 0, large.width, large.height);
  return large.toDataURL();
}

// Return the map of what a model said of an image, over the image; null if it has none.
function mapOf(image, model) {
  const map = image.size && answerOf(image, model)?.map;
  if (!map) return null;
  const [text, columns, rows, x, y, width, height] = map;
  const [, , wide, high] = image.size;
  // The inner drawing cuts off what is beyond the image: the border of a letterbox.
  const inner = svgElement('svg', { width: wide, height: high, viewBox: `0 0 ${wide} ${high}`, overflow: 'hidden' },
    svgElement('image', { href: pictureOf(text, columns, rows), x, y, width, height, preserveAspectRatio: 'none' }));
  return svgElement('svg', { viewBox: `0 0 ${wide} ${high}`, class: 'map', 'data-model': model, 'aria-hidden': 'true' }, inner);
}
