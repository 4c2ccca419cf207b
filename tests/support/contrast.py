"""Contrast of the texts of a page, measured in the browser."""

#: the contrast of each text with what is behind it (WCAG 2.2), the lowest first
CONTRASTS = """
(() => {
  const parts = c => { const [r, g, b, a = 1] = c.match(/[\\d.]+/g).map(Number); return [r, g, b, a]; };
  const over = (top, below) => [0, 1, 2].map(i => top[i] * top[3] + below[i] * (1 - top[3]));
  const light = rgb => { const [r, g, b] = rgb.map(v => { v /= 255;
    return v <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4; }); return .2126 * r + .7152 * g + .0722 * b; };
  const behind = e => { const layers = []; for (; e; e = e.parentElement) {
      const c = parts(getComputedStyle(e).backgroundColor); layers.push(c); if (c[3] === 1) break; }
    return layers.reverse().reduce((below, top) => over(top, below), [255, 255, 255]); };
  const kinds = 'h1,h2,h3,p,dt,dd,li,a,th,td,figcaption,summary,code,label,button,bdi,span';
  const texts = [...document.querySelectorAll(kinds)].filter(e => e.textContent.trim() && e.checkVisibility()
    && !e.classList.contains('skip') && !e.closest(':disabled'));
  return texts.map(e => { const below = behind(e), ink = over(parts(getComputedStyle(e).color), below);
    const [a, b] = [light(ink), light(below)].sort((x, y) => y - x);
    return [(a + .05) / (b + .05), e.tagName + ' ' + e.textContent.trim().slice(0, 40)]; }).sort((x, y) => x[0] - y[0]);
})()
"""
